"""``lsg runs``: the state of each run, from its directory alone. ``lsg show``: the layers of a network, and where it comes from."""

import json
import math
import re
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from lsgcli.config.run import FIELDS
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
    assert seeds("--where", "dataset=image-folder", "--sort", "arch") == [2, 3, 4, 5]  # by their start
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


def test_layers_of_a_checkpoint(lsg, trained):
    """Compared with the tensors of its file; vggsnn at 1/32 of the width: 2, 4, pool, 8, 8, pool, 16, ..."""
    result = lsg("show", trained / "best.safetensors", "--json")
    assert result.exit_code == 0, result.stderr
    record, tensors = json.loads(result.stdout), load_file(trained / "best.safetensors")
    learned = {name: tensor for name, tensor in tensors.items() if "running" not in name and "num_batches" not in name}
    assert record["parameters"] == sum(tensor.numel() for tensor in learned.values())
    channels = [(3, 2), (2, 4), (4, 8), (8, 8), (8, 16), (16, 16), (16, 16), (16, 16)]
    sizes = [16, 16, 8, 8, 4, 4, 2, 2]
    layers, T = record["layers"], 2
    assert [layer["shape"] for layer in layers] == [
        *([out, size, size] for (_, out), size in zip(channels, sizes, strict=True)),
        [3],
    ]
    assert [layer["weights"] for layer in layers] == [*(9 * a * b for a, b in channels), 16 * 3 + 3]
    # A row of n pixels is reached by 3 n - 2 of the pairs of output and kernel column; the image is convolved once.
    passes = [1, *[T] * 7]
    macs = [t * a * b * (3 * n - 2) ** 2 for t, (a, b), n in zip(passes, channels, sizes, strict=True)]
    assert [layer["multiplications"] for layer in layers] == [*macs, T * 16 * 3]
    assert record["multiplications"] == sum(macs) + T * 16 * 3
    betas = [1 / (1 + math.exp(-tensor.item())) for name, tensor in tensors.items() if name.endswith(".b")]
    assert sorted(layer["decay"] for layer in layers[:-1]) == pytest.approx(sorted(betas), abs=1e-5)
    assert [layer["width"] for layer in layers[:-1]] == pytest.approx(
        [math.sqrt(1 + layer["decay"] ** 2) for layer in layers[:-1]], abs=1e-5
    )
    assert layers[-1]["threshold"] is None
    assert record["settings"] | {"epochs": 4, "batch_size": 8, "width_multiplier": 0.03125} == record["settings"]
    assert record["settings"].keys() <= FIELDS.keys() - {"lr", "method"}
    assert record["provenance"]["dataset"] == "image-folder"
    text = lsg("show", trained / "best.safetensors").stdout
    assert re.search(rf"best epoch: +{record['provenance']['best_epoch'] + 1}\n", text)  # from 1, as in `lsg train`
    assert record["provenance"]["versions"]["torch"] == torch.__version__


def test_a_network_by_name(lsg, monkeypatch):
    record = json.loads(lsg("show", "--arch", "mlp", "--json", "--width-multiplier", "0.5").stdout)
    assert [(layer["kind"], layer["weights"]) for layer in record["layers"]] == [
        ("conv1x1", 140 * 128),
        ("conv1x1", 128 * 128),
        ("linear", 128 * 20 + 20),
    ]
    for words, input_shape, classes in (
        (["--arch", "mlp", "--classes", "7"], [100, 1, 1, 140], 7),
        (["--dataset", "digits-dvs"], [4, 2, 32, 32], 10),  # its preset, its classes
        (["--dataset", "cifar10", "--classes", "10", "--arch", "resnet19", "-T", "2"], [3, 32, 32], 10),  # without its data
    ):
        record = json.loads(lsg("show", *words, "--json").stdout)
        assert (record["input"], record["layers"][-1]["shape"]) == (input_shape, [classes])
    monkeypatch.setenv("COLUMNS", "50")
    text = lsg("show", "--arch", "qkformer", "--size", "16").stdout
    assert "product of spikes" in text
    assert max(map(len, text.splitlines())) <= 60
