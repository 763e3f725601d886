"""The script that sbatch gets, by stand-ins for the commands of SLURM."""

import pytest

from lsgcli.sweeps.jobs import Job
from lsgcli.sweeps.launchers.slurm import Slurm


def test_nodes_do_not_import_modules_of_the_working_directory(tmp_path, monkeypatch):
    """Also where a site lets sbatch pass no environment."""
    pytest.importorskip("submitit")
    for name, does in {
        "sbatch": "cp $1 script; echo Submitted batch job 1",
        "squeue": "",
        "scancel": "",
        "srun": "",
        "scontrol": "",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.chdir(tmp_path)
    Slurm(tmp_path / "jobs", {}).submit([Job(["lsg", "train"], "a/s0", str(tmp_path))])
    assert " -P -u -m submitit" in (tmp_path / "script").read_text()
