"""``lsg runs``: the state of each run, from its directory alone."""

import json
import shutil
import subprocess
import sys

import pytest

from lsgcli.store.rundir import RunDir


@pytest.fixture
def folder(trained, tmp_path):
    """Runs in every state, copies of a finished one, and a folder of another program."""
    root = tmp_path / "runs"
    for name, seed in (("finished", 4), ("stopped", 3), ("diverged", 2), ("damaged", 1), ("running", 5)):
        shutil.copytree(trained, root / name)
        config = json.loads((root / name / "config.json").read_text())
        config["settings"]["seed"] = seed
        config["started"] = f"2026-01-0{seed}T00:00:00+00:00"
        (root / name / "config.json").write_text(json.dumps(config))
    (root / "stopped" / "result.json").unlink()
    metrics = (root / "stopped" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (root / "stopped" / "metrics.jsonl").write_text("".join(metrics[:2]))
    (root / "diverged" / "result.json").write_text('{"accuracy": null, "diverged": "the loss is nan"}')
    (root / "damaged" / "config.json").write_text('{"schema": "lsg.run/1", "sett')
    (root / "other").mkdir()
    (root / "other" / "config.json").write_text('{"model": "of another program"}')
    return root


def test_states_and_accuracies(lsg, folder, lines, trained):
    with RunDir(folder / "running", resume=True):
        result = lsg("runs", "--json")
    records = {record["path"].partition("/")[2]: record for record in lines(result.stdout)}
    assert list(records) == ["damaged", "diverged", "stopped", "finished", "running"]  # by their start; damaged without one
    assert all(record["state"] == name for name, record in records.items())
    assert "damaged/config.json" in result.stderr
    assert "Traceback" not in result.stderr
    metrics = lines((trained / "metrics.jsonl").read_text())
    best = [max(line["val_accuracy"] for line in metrics[:n]) for n in (2, 4)]
    accuracy = json.loads((trained / "result.json").read_text())["accuracy"]
    expected = {"stopped": (2, best[0], None), "finished": (4, best[1], accuracy), "diverged": (4, best[1], None)}
    for name, wanted in expected.items():
        assert tuple(records[name][key] for key in ("epoch", "val_accuracy", "test_accuracy")) == wanted, name
    assert records["finished"] | {"dataset": "image-folder", "arch": "vggsnn", "epochs": 4} == records["finished"]


def test_selection_and_order(lsg, folder, lines):
    def seeds(*options):
        result = lsg("runs", folder, "--json", *options)
        assert result.exit_code == 0, result.stderr
        return [record["seed"] for record in lines(result.stdout)]

    assert seeds("--where", "state=finished") == [4, 5]
    assert seeds("--where", "state=finished", "--where", "seed=5") == [5]
    assert seeds("--where", "width-multiplier=0.031250", "--sort", "state") == [2, 4, 5, 3]
    assert seeds("--where", "init_from=none", "--where", "dataset=image-folder", "--sort", "epoch") == [3, 2, 4, 5]
    assert seeds("--where", "lr=7") == seeds("--where", "convolution=spikes") == []
    assert seeds("--where", "epoch > 2", "--sort", "-seed") == [5, 4, 2]
    assert (
        seeds("--where", "epoch<=2") == seeds("--where", "val-accuracy >= 0", "--where", "seed<4", "--where", "seed > 2") == [3]
    )
    assert seeds("--sort", "-epoch")[-1] is None  # damaged: no value


def test_lines_off_a_terminal_and_no_torch(folder):
    code = "import sys; from lsgcli.cli.app import main; sys.argv = ['lsg', 'runs']\ntry: main()\nexcept SystemExit: pass\n"
    heavy = "print(*{'torch', 'numpy', 'numba', 'rich'} & set(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code + heavy], capture_output=True, text=True, check=True, cwd=folder.parent, env=None
    )
    *_, last = rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert {len(row) for row in rows} == {12}
    assert last[:7] == ["finished", "image-folder", "vggsnn", "lsg", "5", "", "4"]  # no fold
    assert (last[-2], last[-1]) == ("2026-01-05T00:00:00+00:00", "runs/running")
    assert done.stderr.splitlines()[-1] == ""
