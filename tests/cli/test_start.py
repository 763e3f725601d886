"""`lsg train --init-from` and `--config RUN` as a user sees them."""

import json

import torch
from safetensors.torch import load_file


def test_init_from_and_config_of_a_run(train, lsg, trained, tmp_path):
    """What was taken is on stderr and in config.json; the run's own settings give the same bits again."""
    options = ["--epochs", "1", "--method", "fixed", "--size", "32", "--out", "run"]
    result = train(*options, "--init-from", trained / "best.safetensors", status=0)
    assert "initialised 57 tensors by name from --init-from (sha256 " in result.stderr
    assert "  new: classifier.weight (3, 64); in the checkpoint: (3, 16)\n" in result.stderr
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["settings"]["init_from"] == str(trained / "best.safetensors")
    assert list(record["sources"]["init_from"]["new"]) == ["classifier.weight"]
    again = lsg("train", "--config", "run", "--out", "again", "-q")
    assert (again.stdout, again.stderr) == ("again/best.safetensors\n", "")
    first, second = (load_file(tmp_path / name / "last.safetensors") for name in ("run", "again"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_force_does_not_delete_what_the_run_starts_from(train, tmp_path):
    assert train("--out", "run", "--epochs", "1", "-q").exit_code == 0
    result = train("--out", "run", "--force", "--init-from", "run/best.safetensors", status=2)
    assert "--init-from run/best.safetensors: is inside the run that --force replaces" in result.stderr
    assert (tmp_path / "run" / "best.safetensors").exists()
