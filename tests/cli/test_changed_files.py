"""Files that others change while a run is stopped, or while it trains."""

import json
import os
from pathlib import Path

from lsgcli.training.loop import Trainer


def test_records_deleted_during_a_run_are_written_again(train, lsg, monkeypatch):
    names = ("metrics.jsonl", "gradient-flow.jsonl")
    assert train("--out", "whole").exit_code == 0
    assert train("--out", "run", "--epochs", "1").exit_code == 0
    original, seen = Trainer._end_epoch, []

    def deleted(trainer, *arguments):
        original(trainer, *arguments)
        seen.append(trainer.state.epoch)
        if len(seen) == 1:
            for name in names:
                (trainer.run.path / name).unlink()

    for command in (lambda: train("--out", "again"), lambda: lsg("train", "--resume", "run", "--epochs", "3")):
        seen.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "_end_epoch", deleted)
            result = command()
        assert result.exit_code == 0, result.stderr
        for name in names:
            assert f"{name}: was deleted during the run; rewritten" in result.stderr

    def records(run, name):
        lines = Path(run, name).read_text().splitlines()
        return [{key: value for key, value in json.loads(line).items() if key in ("epoch", "layers")} for line in lines]

    for name in names:
        assert records("again", name) == records("whole", name)
        assert [line["epoch"] for line in records("run", name)] == [0, 1, 2]


def test_records_deleted_while_stopped_are_missed(train, lsg):
    assert train("--out", "run", "--log", "csv").exit_code == 0
    os.unlink("run/metrics.jsonl")
    result = lsg("train", "--resume", "run", "--epochs", "3", status=0)
    assert "metrics.jsonl: found records of 0 epochs, expected 2" in result.stderr
    (run,) = json.loads(lsg("compare", "run", "--json").stdout)["runs"]
    assert (run["epochs"], run["of"]) == (3, 3)
