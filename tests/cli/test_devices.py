"""`lsg train` in several processes on the CPU, as a user starts them."""

import json
import os
import subprocess
import sys

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from lsgcli.errors import ConfigError, LsgError
from lsgcli.system.ranks import Place
from lsgcli.training.launch import Devices, launch, parse


def start(*arguments, launcher=()):
    words = [sys.executable, *launcher, "-m", "lsgcli", "train", *map(str, arguments), "--threads", "1"]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.slow
def test_one_run_one_path_one_display_and_another_number_extends(tiny, lsg, tmp_path):
    out = tmp_path / "two"
    run = start(*tiny, "--epochs", "1", "--backend", "reference", "--devices", "cpu:2", "--out", out)
    stdout, stderr = run.communicate(timeout=200)
    assert run.returncode == 0, stderr
    assert stdout == f"{out}/best.safetensors\n"
    assert stderr.count("epoch   1/1") == 1
    assert len(lines(out / "metrics.jsonl")) == 1
    assert (out / "report.html").exists()
    assert lsg("train", "--resume", out, "--epochs", "2", "-q").exit_code == 0
    counts = [{"from_epoch": 0, "processes": 2}, {"from_epoch": 1, "processes": 1}]
    assert json.loads((out / "config.json").read_text())["processes"] == counts


@pytest.mark.parametrize("rank", [0, 1])
def test_other_commands_refuse_torchrun_in_one_message(program, monkeypatch, rank):
    for module in ("app", "ending"):
        monkeypatch.setattr(f"lsgcli.cli.{module}.here", lambda: Place(rank, 2))
    result = program("eval", "net.safetensors", env={"TORCHELASTIC_RUN_ID": "1"}, status=2)
    assert result.stderr.startswith("error: lsg eval: found 2 processes of torchrun, expected one" if rank == 0 else "")
    assert result.stderr.count("error") == (rank == 0)


def test_a_killed_process_has_a_message_and_status_1(monkeypatch):
    failures = {0: ProcessFailure(0, 7, 1, ""), 1: ProcessFailure(1, 8, -9, "")}
    failures[0].timestamp, failures[1].timestamp = 9, 8  # the other ends because of it

    def killed(*_):
        def run(*_):
            raise ChildFailedError("lsg", failures)

        return run

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", killed)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(LsgError, match=r"^rank 1: killed by SIGKILL") as caught:
        launch(Devices(2))
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4", Devices(4, (0, 1, 2, 3))),
        ("0-2", Devices(3, (0, 1, 2))),
        ("0,2", Devices(2, (0, 2))),
        ("cpu:2", Devices(2)),
        ("1-2,5", Devices(3, (1, 2, 5))),
    ],
)
def test_devices(text, expected):
    assert parse(text) == expected


def test_indices_count_the_visible_devices(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    assert parse("0,2").visible() == ["4", "7"]
    with pytest.raises(ConfigError, match="found GPU 3, expected 0 to 2"):
        parse("4").use()
    parse("2").use()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5"


@pytest.mark.parametrize("text", ["cpu", "cpu:0", "a", "0", "1,1", "3-1", "0-1-2", "1,", "4294967296", "0-999999999999"])
def test_other_devices_are_refused(text, lsg):
    result = lsg("train", "--devices", text, status=2)
    assert "--devices" in result.stderr
