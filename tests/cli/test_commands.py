"""eval, inspect-gradients, predict and bench, on small networks."""

import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import os
import pty
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import lsgcli
from lsgcli.cli.app import app
from lsgcli.store import checkpoint
from lsgcli.store.flows import complete
from lsgcli.sweeps import bench
from tests.cli.conftest import TINY
from tests.flows import problems
from tests.networks import saved
from tests.tiny import PRECISION
from tests.unit.data.conftest import aedat2_bytes, blob
from tests.unit.report import reading


def test_eval(lsg, trained, images, monkeypatch):
    """Settings around the checkpoint come from the environment, those of the training do not."""
    monkeypatch.setenv("LSG_DATA_DIR", str(images))
    monkeypatch.setenv("LSG_METHOD", "none")
    record = json.loads(lsg("eval", trained / "best.safetensors", "--json", "-q", status=0).stdout)
    assert record["samples"] == 18
    assert record["per_class"].keys() == {"blue", "green", "red"}
    right = sum(record["confusion"][i][i] for i in range(3))
    assert record["accuracy"] == pytest.approx(right / 18)
    assert all(0 <= rate <= 1 for rate in record["firing_rate"].values())
    assert list(record["firing_rate"]) == [f"conv{i}" for i in range(1, 9)]
    result = json.loads((trained / "result.json").read_text())
    assert record["accuracy"] == pytest.approx(result.get("test_accuracy_best_fp32", result["test_accuracy_best"]))
    table = lsg("eval", trained / "best.safetensors", "-q", status=0).stdout
    assert all(text in table for text in ("accuracy", "green", "conv8", "spikes per neuron and timestep"))
    assert "\nconfusion (columns: prediction)\n" in table  # as wide as it is, not as the table


def test_a_run_directory_is_accepted_for_its_checkpoint(lsg, trained, images):
    for command, *options in (
        ["show", "--json"],
        ["predict", images / "test" / "red"],
        ["eval", "--csv", "-"],
        ["export", "-o", "net.safetensors", "--force", "--json"],
    ):
        by_file, by_run = (lsg(command, one, *options, status=0) for one in (trained / "best.safetensors", trained))
        assert by_run.stdout == by_file.stdout
        assert f"{trained}: its checkpoint best.safetensors\n" in by_run.stderr


def test_eval_needs_the_test_part_only(lsg, trained, images, tmp_path):
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "test").symlink_to(images / "test")
    whole, part = (
        lsg("eval", trained / "best.safetensors", "--data-dir", d, "--json", "-q") for d in (images, tmp_path / "only")
    )
    assert part.exit_code == 0, part.stderr
    assert {**json.loads(whole.stdout), "samples_per_s": 0} == {**json.loads(part.stdout), "samples_per_s": 0}


def test_eval_of_the_validation_split(lsg, trained, images, tmp_path):
    """Of the training folder alone; the accuracy is that of the best epoch."""
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "train").symlink_to(images / "train")
    command = ("eval", trained / "best.safetensors", "--data-dir", tmp_path / "only", "--json", "-q")
    found = json.loads(lsg(*command, "--split", "val", status=0).stdout)
    facts = json.loads((trained / "config.json").read_text())
    assert found["samples"] == facts["samples"]["val"]
    if PRECISION == "fp32":  # others are rounded differently in training
        assert found["accuracy"] == json.loads((trained / "result.json").read_text())["val_accuracy_best"]
    whole = json.loads(lsg(*command, "--split", "train", status=0).stdout)
    assert whole["samples"] == facts["samples"]["train"]
    lines = lsg(*command[:-2], "-q", "--split", "val", "--csv", "-", status=0).stdout.splitlines()
    assert len(lines) == 1 + found["samples"]


def test_accuracy_after_each_timestep(lsg, trained, images):
    """Of the sum of logits so far; the last one is the accuracy."""
    command = ("eval", trained / "best.safetensors", "--data-dir", images, "-T", "5", "-q")
    record = json.loads(lsg(*command, "--json", status=0).stdout)
    network = lsgcli.load(trained / "best.safetensors")
    network.spec = dataclasses.replace(network.spec, T=5)
    data = lsgcli.prepare("image-folder", data_dir=str(images), size=16)
    logits = torch.cat([network(batch.x) for batch in lsgcli.batches(data, "test", 6)], 1).detach().numpy()
    so_far = np.cumsum(logits.astype(np.float64), 0).argmax(2)
    expected = (so_far == data.test.y).mean(1)
    np.testing.assert_allclose(record["accuracy_by_timestep"], expected)
    assert record["accuracy_by_timestep"][-1] == record["accuracy"]
    shown = " ".join(f"{value:.4f}" for value in expected)
    assert f"by timestep:  {shown}\n".replace(" ", "") in lsg(*command, status=0).stdout.replace(" ", "")


def test_eval_of_each_sample(lsg, trained, images, tmp_path):
    """The lines and the drawing are those of the confusion matrix."""
    command = ("eval", trained / "best.safetensors", "--data-dir", images, "-q")
    files = ("--csv", tmp_path / "samples.csv", "--plot", tmp_path / "confusion.svg")
    record = json.loads(lsg(*command, *files, "--json").stdout)
    text = (tmp_path / "samples.csv").read_text()
    lines = list(csv.DictReader(io.StringIO(text)))
    assert list(lines[0]) == ["path", "label", "prediction", "probability"]
    classes = list(record["per_class"])
    counts = Counter((line["label"], line["prediction"]) for line in lines)
    assert [[counts[label, prediction] for prediction in classes] for label in classes] == record["confusion"]
    assert {line["path"].split("/")[-2] for line in lines if line["label"] == "red"} == {"red"}
    assert all(1 / 3 <= float(line["probability"]) <= 1 for line in lines)
    (predicted,) = [column for label, *column in zip(classes, *record["confusion"], strict=True) if label == "red"]
    assert record["scores"]["precision"]["red"] == pytest.approx(predicted[classes.index("red")] / max(1, sum(predicted)))
    assert "top5_accuracy" not in record
    numbers = [str(n) for row in record["confusion"] for n in row if n]
    assert [t for t, _, _ in reading.texts((tmp_path / "confusion.svg").read_text()) if t.isdigit()] == numbers
    assert lsg(*command, "--csv", "-").stdout == text
    assert "samples.csv" in lsg(*command, *files, status=2).stderr  # which is there


def test_inspect_gradients(lsg, trained, images):
    before = (trained / "best.safetensors").read_bytes()
    options = ("--data-dir", images, "--json", "-q", "--batches", "2", "--limit", "saturated=0")
    flow = json.loads(lsg("inspect-gradients", trained / "best.safetensors", *options).stdout)
    assert problems(flow) == []
    assert flow["schema"] == "lsg.gradient-flow/1"
    assert flow["threshold"] == 0.5
    assert len(flow["layers"]) == 8
    layer = flow["layers"][0]
    assert layer["alpha"] == pytest.approx((1 + layer["beta"] ** 2) ** 0.5)
    assert "saturated" in {layer["verdict"] for layer in flow["layers"]}
    assert (trained / "best.safetensors").read_bytes() == before


@pytest.mark.slow
def test_inspect_in_another_precision(lsg, trained, images):
    command = ("inspect-gradients", trained / "best.safetensors", "--data-dir", images, "--json", "-q", "--precision")
    norms = [[layer["grad_norm"] for layer in json.loads(lsg(*command, name).stdout)["layers"]] for name in ("fp32", "bf16")]
    assert norms[0] != norms[1]


def test_fail_on(lsg, trained, images, tmp_path):
    content = checkpoint.read(trained / "best.safetensors")
    quiet = {name: t - 100 if name.endswith("norm.bias") else t for name, t in content.weights.items()}
    checkpoint.save(tmp_path / "silent.safetensors", checkpoint.Checkpoint(quiet, content.config))
    result = lsg(
        "inspect-gradients", tmp_path / "silent.safetensors", "--data-dir", images, "--fail-on", "silent", "--json", status=9
    )
    assert "silent: conv1" in result.stderr
    assert len(json.loads(result.stdout)["layers"]) == 8


def test_a_trained_network_is_well(lsg, trained, images):
    every = "silent,saturated,blocked,vanishing,exploding"  # the layers; after four epochs, the loss is still high
    result = lsg("inspect-gradients", trained / "best.safetensors", "--data-dir", images, "-q", "--fail-on", every, status=0)
    assert result.stderr == ""
    for column in ("beta", "alpha", "coverage", "E[h]", "rate", "u std", "|dL/dW|", "verdict"):
        assert column in result.stdout


def test_inspect_with_all_outputs(lsg, trained, images, monkeypatch):
    monkeypatch.setattr("lsgcli.report.drawing.SUFFIXES", (".svg",))  # the others take longer
    both = [trained / "best.safetensors", trained / "last.safetensors"]
    arguments = [*both, "--data-dir", images, "-q", "--batches", "1"]
    outputs = ["--html", "flow.html", "--plot", "plots"]
    result = lsg("inspect-gradients", *arguments, "--csv", *outputs, status=0)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["name"] for row in rows] == 2 * [f"conv{k}" for k in range(1, 9)]
    assert {row["checkpoint"] for row in rows} == {str(path) for path in both}
    flows = json.loads(lsg("inspect-gradients", *arguments, "--mismatch", "2", "--json").stdout)
    assert [float(row["coverage"]) for row in rows] == [layer["coverage"] for flow in flows for layer in flow["layers"]]
    assert len(flows[0]["history"]["epochs"]) == 4
    lines = [line for line in lsg("inspect-gradients", *arguments).stdout.splitlines() if line.startswith("conv1 ")]
    for flow, line in zip(flows, lines, strict=True):
        assert f"{flow['layers'][0]['coverage']:.3f} " in line
        assert f"{flow['layers'][0]['grad_norm']:.2e}" in line
    assert all(-1 <= layer["mismatch"] <= 1 for flow in flows for layer in flow["layers"] if layer["mismatch"] is not None)
    assert "<svg" in Path("flow.html").read_text()
    assert list(Path("plots").iterdir())


@pytest.fixture(scope="session")
def on_recordings(tmp_path_factory):
    """The checkpoint of a network trained on a folder of recordings under a split rule, and that folder."""
    root = tmp_path_factory.mktemp("on-recordings")
    rng = np.random.default_rng(0)
    for name in ("cup", "pen"):
        (root / "flat" / name).mkdir(parents=True)
        for i in (*range(8), 900):
            events = {"x": rng.integers(0, 34, 50), "y": rng.integers(0, 34, 50), "t": np.arange(50), "p": np.ones(50, np.int8)}
            np.savez(root / "flat" / name / f"{i}.npz", **events, sensor=(34, 34))
    command = ["train", "--dataset", "event-folder", "--data-dir", root / "flat", "--split", "last", *TINY, "-T", "4"]
    command += ["--sensor", "34x34", "--epochs", "1", "--val-fraction", "0", "--out", root / "run", "-q"]
    result = CliRunner().invoke(app, [str(a) for a in command])
    assert result.exit_code == 0, result.stderr
    return root / "run" / "last.safetensors", root / "flat"


def test_eval_on_the_data_set_itself_keeps_its_split(lsg, on_recordings):
    checkpoint, folder = on_recordings
    result = lsg("eval", checkpoint, "--data-dir", folder, "--dataset", "event-folder", "--json", status=0)
    assert json.loads(result.stdout)["samples"] == 2
    assert result.stderr == ""


def test_eval_on_another_data_set_reads_it_as_itself(lsg, on_recordings, tmp_path):
    """--split and --sensor say how the training data are read; other data have their own."""
    checkpoint, _ = on_recordings
    for name in ("cup", "pen"):
        (tmp_path / "Test" / name).mkdir(parents=True)
        (tmp_path / "Test" / name / "0.bin").write_bytes(bytes([3, 4, 128, 0, 9]) * 8)
    result = lsg("eval", checkpoint, "--dataset", "n-mnist", "--data-dir", tmp_path, "--json", status=0)
    assert json.loads(result.stdout)["samples"] == 2
    assert "sensor" not in result.stderr  # it is as large
    assert result.stderr.endswith("found 2 samples in the test part, expected 10,000 as published\n")


def test_eval_on_another_data_set_tells_what_differs(lsg, on_recordings, tmp_path):
    checkpoint, _ = on_recordings
    for name in ("cup", "pen"):
        (tmp_path / "Caltech101" / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "Caltech101" / name / f"{i}.bin").write_bytes(bytes([3, 4, 128, 0, 9]) * 8)
    result = lsg("eval", checkpoint, "--dataset", "n-caltech101", "--data-dir", tmp_path, "--json", status=0)
    assert json.loads(result.stdout)["samples"] == 2  # of its own preset, stratified
    assert "n-caltech101: found sensor [240, 180], but event-folder has [34, 34]" in result.stderr


def test_eval_with_other_timesteps(trained, images, lsg):
    """As an export with that T."""
    ours = lsg("eval", trained / "best.safetensors", "--data-dir", images, "-T", "5", "--json", "--precision", "fp32", status=0)
    record = json.loads(ours.stdout)
    lsg("export", trained / "best.safetensors", "-T", "5", "-o", "five.nir")
    exported = json.loads(lsg("eval", "five.nir", "--data-dir", images, "--json").stdout)
    assert record["confusion"] == exported["confusion"]
    assert record["loss"] == pytest.approx(exported["loss"], abs=1e-5)


def test_activity_of_a_chosen_sample(lsg, trained, images, monkeypatch):
    """In the record, on the page, and as a file; a sample that the training part lacks is one error."""
    monkeypatch.setattr("lsgcli.report.drawing.SUFFIXES", (".svg",))  # the others take longer
    command = ("inspect-gradients", trained / "best.safetensors", "--data-dir", images, "-q", "--batches", "1")
    result = lsg(*command, "--sample", "40", "--json", "--html", "flow.html", "--plot", "figures", status=0)
    flow = json.loads(result.stdout)
    assert complete(flow, "flow") == flow
    assert flow["activity"]["sample"] == 40
    assert [layer["name"] for layer in flow["activity"]["layers"]] == [layer["name"] for layer in flow["layers"]]
    assert all(len(json.dumps(layer)) < 5000 for layer in flow["activity"]["layers"])
    assert "Sample 40: " in Path("flow.html").read_text()
    assert Path("figures/raster.svg").exists()
    first = json.loads(lsg(*command, "--json").stdout)["activity"]
    assert first["sample"] == 0
    assert first["layers"] != flow["activity"]["layers"]
    parts = json.loads((trained / "config.json").read_text())["samples"]
    result = lsg(*command, "--sample", parts["train"], status=2)
    assert result.stderr.splitlines()[0].endswith(
        f"--sample: found {parts['train']}, expected 0 to {parts['train'] - 1}, the samples of the training part"
    )


def test_eval_synops(lsg, trained, images):
    """Under "synops" in JSON, and as a table; an image is real-valued, and convolved once."""
    command = ["eval", trained / "best.safetensors", "--data-dir", images, "--synops", "-q"]
    record = json.loads(lsg(*command, "--json").stdout)
    layers = record["synops"]["layers"]
    assert [layer["name"] for layer in layers] == [*record["firing_rate"], "classifier"]
    expected = ["real", *["spikes", "averages"] * 4]
    fired = [layer["density"] > 0 for layer in layers]  # of zeros alone nobody can tell
    assert fired[:4] == [True] * 4
    assert [layer["input"] if fires else kind for layer, kind, fires in zip(layers, expected, fired, strict=True)] == expected
    assert [layer["passes"] for layer in layers] == [1, *[int(TINY[3])] * 8]
    assert layers[0]["mac"] == layers[0]["ann_mac"] == 3 * 2 * 46 * 46  # 3 to 2 channels of 16 x 16 pixels
    assert record["synops"]["total"]["mac"] == layers[0]["mac"]
    assert {layer["name"]: layer["firing_rate"] for layer in layers[:-1]} == pytest.approx(record["firing_rate"])
    text = lsg(*command).stdout
    for word in ("averages", "ANN: MAC", "an estimate of arithmetic alone", "total", "break-even rate", "--rate-target"):
        assert word in text
    assert "synops" not in json.loads(lsg(*command[:-2], "--json", "-q").stdout)


REFRESH = ("--refresh-norm", 4)


@pytest.fixture
def spoilt(trained, tmp_path):
    """A checkpoint whose running statistics are those of other data."""
    content = checkpoint.read(trained / "best.safetensors")
    weights = {name: value * 40 if "running" in name else value for name, value in content.weights.items()}
    checkpoint.save(tmp_path / "spoilt.safetensors", checkpoint.Checkpoint(weights, content.config, content.state))
    return tmp_path / "spoilt.safetensors"


def test_refreshed_statistics_are_in_a_new_checkpoint(lsg, trained, images, spoilt, tmp_path):
    """Its statistics are like those of the healthy network, its settings and weights those of the old one, which stays as it is."""
    before = hashlib.sha256(spoilt.read_bytes()).digest()
    run = ("eval", spoilt, "--data-dir", images, "--json")
    result = lsg(*run, *REFRESH, "--out", "new.safetensors", status=0)
    assert "re-estimated running statistics on" in result.stderr
    new = json.loads(result.stdout)
    again = json.loads(lsg("eval", "new.safetensors", "--data-dir", images, "--json").stdout)
    assert (again["loss"], again["confusion"]) == (new["loss"], new["confusion"])
    assert hashlib.sha256(spoilt.read_bytes()).digest() == before
    healthy, old, made = (load_file(path) for path in (trained / "best.safetensors", spoilt, tmp_path / "new.safetensors"))
    for name in (name for name in old if "running_var" in name):
        assert (made[name] - healthy[name]).norm() < 0.5 * (old[name] - healthy[name]).norm()
    assert {name for name in made if not made[name].equal(old[name])} == {
        name for name in old if "running_" in name or "num_batches" in name
    }
    stored = checkpoint.read_config(tmp_path / "new.safetensors")
    assert stored.pop("refreshed")["sha256"] == checkpoint.read(spoilt).sha256
    assert stored == checkpoint.read_config(spoilt)
    assert lsg("inspect-gradients", "new.safetensors", "--data-dir", images).exit_code == 0
    assert "--force" in lsg(*run, *REFRESH, "--out", "new.safetensors", status=2).stderr
    lsg(*run, *REFRESH, "--out", "new.safetensors", "--force", status=0)


@pytest.fixture
def net(tmp_path):
    return saved(tmp_path / "net.safetensors", medians=(40, 1))


def test_lists_on_stdin_and_names_that_are_hard_to_write(net, tmp_path, lsg):
    """A list separated by lines or by NUL; what a terminal would act on is written as an escape, and is exact in JSON."""
    names = [b"b.aedat", b"a\x1b[31m.aedat", b"tab\tand\nline.aedat", b"\xff.aedat"]
    for i, name in enumerate(names):
        (tmp_path / os.fsdecode(name)).write_bytes(aedat2_bytes(blob(i)))
    text = lsg("predict", net, "-", input=b"\0".join([*names, b""]), status=0)
    shown = [line.split("\t")[0] for line in text.stdout.splitlines()]
    assert shown == ["b.aedat", r"a\x1b[31m.aedat", r"tab\tand\nline.aedat", r"\xff.aedat"]
    assert lsg("predict", net, "-", input=b"b.aedat\r\nb.aedat\r\n").stdout.splitlines() == text.stdout.splitlines()[:1] * 2
    assert lsg("predict", net, "b.aedat", "--min-probability", 1).stdout.split("\t")[1] == "?"
    records = lsg("predict", net, *map(os.fsdecode, names), "--json", "--by-step", "--top", 2)
    found = [json.loads(line) for line in records.stdout.splitlines()]
    assert [os.fsencode(record["path"]) for record in found] == names
    for record in found:
        assert list(record["probabilities"].values()) == sorted(record["probabilities"].values(), reverse=True)
        assert len(record["probabilities"]) == 2
        assert len(record["by_step"]) == 4
        assert record["by_step"][-1] == record["class"]


QUICK = ("--width-multiplier", "0.0625", "-T", "2", "--size", "16", "--batch-size", "2", "--rounds", "2", "--threads", "1")
ROW = {"contender": "lsg fp32", "case": "a case", "samples_per_s": 2000.04, "ms": 1.25}
RECORD = {
    "machine": {"processor": "CPU", "threads": 2, "device": "cpu", "precision": "fp32", "because": "as set", "load": 0.0},
    "rows": [
        ROW | {"time_over_lsg": None},
        ROW | {"contender": "floor fp32", "time_over_lsg": {"ratio": 0.5, "low": 0.4, "high": 0.6}},
    ],
}


@pytest.fixture
def measured(monkeypatch):
    """Arguments of the measurement, which returns RECORD."""
    calls = []
    monkeypatch.setattr(bench, "bench", lambda *arguments: (calls.append(arguments), RECORD)[1])
    return calls


def test_table(lsg, measured):
    words = " ".join(lsg("bench", "--arch", "resnet19", "-T", "2").stdout.split())
    assert "processor: CPU threads: 2 device: cpu" in words
    assert "a case lsg fp32 2,000 1.25 - - - a case floor fp32 2,000 1.25 0.5 0.4 0.6" in words
    ((config, modes, rounds, _),) = measured
    assert (config.arch, config.T, modes, rounds) == ("resnet19", 2, ["train", "inference", "stream"], 5)


@pytest.mark.slow
def test_a_measurement(lsg):
    done = lsg("bench", *QUICK, "--device", "cpu", "--precision", "fp32", "--mode", "train,stream", "--json", status=0)
    record = json.loads(done.stdout)
    names = ["lsg fp32", "lsg-auto fp32", "floor fp32"]
    assert [row["contender"] for row in record["rows"]] == names * 2
    for row in record["rows"]:
        batch, T = (1, 2) if row["case"].endswith("stream") else (2, 1)
        assert row["samples_per_s"] == pytest.approx(1e3 * batch / (row["ms"] * T))
        assert (row["time_over_lsg"] is None) == (row["contender"] == "lsg fp32")
    assert record["machine"]["threads"] == 1


def test_quiet_prints_nothing_to_a_terminal(process, trained):
    master, slave = pty.openpty()
    done = process("eval", trained, "-q", stderr=slave)
    os.close(slave)
    assert "accuracy" in done.communicate(timeout=60)[0]
    told = b""
    with contextlib.suppress(OSError):  # at its end
        while chunk := os.read(master, 1024):
            told += chunk
    os.close(master)
    assert told == b""
