"""`lsg train` as a user sees it: streams, run directory, resuming."""

import json
import math
import os
import pty
import re
import shutil
import signal
import sys
from unittest.mock import ANY

import pytest
import torch
from safetensors.torch import load_file

import lsgcli as library
from lsgcli.config.run import FIELDS
from lsgcli.store import checkpoint
from lsgcli.system import schema
from tests.cli.conftest import CONVOLUTIONS
from tests.tiny import PRECISION


@pytest.fixture
def finished(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")


def test_stdout_is_the_path_alone(train):
    result = train()
    assert result.exit_code == 0, result.stderr
    path = result.stdout.strip()
    assert path.endswith("best.safetensors")
    assert len(result.stdout.splitlines()) == 1
    assert f"report {path.replace('best.safetensors', 'report.html')}\n" in result.stderr
    assert "epoch   2/2" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr
    assert load_file(path)


def test_run_directory(trained):
    names = {p.name for p in trained.iterdir()}
    expected = {"config.json", "metrics.jsonl", "gradient-flow.jsonl", "gradient-flow.json", "best.safetensors"}
    assert expected | {"last.safetensors", "report.html", "result.json"} == names
    config = json.loads((trained / "config.json").read_text())
    assert config["settings"]["arch"] == "vggsnn"
    assert config["versions"]["torch"] == torch.__version__
    assert config["samples"] == {"train": 42, "val": 6, "test": 18}
    for line, flow in zip(
        *(schema.read_lines(trained / name) for name in ("metrics.jsonl", "gradient-flow.jsonl")), strict=True
    ):
        assert line["firing_rate"] == pytest.approx(sum(layer["firing_rate"] for layer in flow["layers"]) / 8)
        assert 0 <= line["val_f1"] <= 1
    result = json.loads((trained / "result.json").read_text())
    assert result["recall"] == pytest.approx(result["accuracy"])  # classes of equal size
    page = (trained / "report.html").read_text()
    assert page.count("data:image/png;base64,") <= 12
    assert f"<dd>{100 * result['accuracy']:.2f} %</dd>" in page
    assert "<svg" in page
    assert "Sample 0: " in page
    assert "http" not in page.replace("http-equiv", "")


def test_json_events(train, lines):
    result = train("--json", "-q", "--decay", "0.999999999")
    assert (result.exit_code, result.stderr) == (0, "")
    events = lines(result.stdout)
    assert [e["event"] for e in events if e["event"] != "checkpoint"] == ["start", "epoch", "epoch", "end"]
    epoch = next(e for e in events if e["event"] == "epoch")
    assert {"epoch", "train_loss", "val_accuracy", "lr", "seconds"} <= epoch.keys()
    assert events[-1]["checkpoint"].endswith("best.safetensors")


def test_without_any_gradient_there_is_a_warning(train):
    """Neurons that no current reaches learn nothing, whatever the accuracy of the last layer."""
    result = train("--threshold", "1000", "--method", "fixed", "--width", "0.01", "--epochs", "1", "--norm", "bn")
    assert result.exit_code == 0, result.stderr
    assert "silent: Neurons hardly ever reach the threshold" in result.stderr or "potential-scale: " in result.stderr
    assert "See: lsg inspect-gradients" in result.stderr


def test_dry_run_writes_nothing(train, tmp_path):
    result = train("--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "parameters" in result.stdout
    assert "macs per sample" in result.stdout
    assert not (tmp_path / "runs").exists()
    cost = json.loads(train("--dry-run", "--json").stdout)
    assert cost["sources"].keys() == cost["settings"].keys() == FIELDS.keys()
    assert cost["input"] == [8, 3, 16, 16]
    assert cost["output"] == [2, 8, 3]
    assert cost["seconds_per_step"] > 0
    assert cost["peak_of"] == "the whole process"
    in_parts = json.loads(train("--dry-run", "--json", "--accumulate", "4").stdout)
    assert in_parts["macs_per_sample"] == cost["macs_per_sample"] > 0
    assert in_parts["input"] == cost["input"]
    assert in_parts["output"] == cost["output"]


def test_run_directory_holds_a_run(train, finished, tmp_path):
    """Which --force keeps until the new one can start."""
    before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    again = train("--out", "run", "-q", status=6)
    assert "--resume" in again.stderr
    for wrong in (["--size", "20"], ["--device", "cuda:7"], ["--data-dir", "nowhere"]):
        assert train(*CONVOLUTIONS, "--out", "run", "-q", "--force", *wrong).exit_code in (2, 3)
    assert before == {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    train("--out", "run", "-q", "--force", "--epochs", "1", status=0)
    assert (tmp_path / "run" / "last.safetensors").read_bytes() != before["last.safetensors"]


def test_precision_is_recorded_and_kept(train, lsg, images, tmp_path, monkeypatch):
    """The log and config.json record the choice of ``auto``, and a resumed run keeps it on any processor. The accuracies in fp32 and in the
    precision of the training have names of their own."""
    monkeypatch.setattr("lsgcli.system.device.cpu_flags", lambda: {"amx_bf16"})
    # Kernels of bf16 would take seconds to compile.
    monkeypatch.setattr("lsgcli.analysis.lif_watchers.kernel_layout", lambda given: None)
    first = train("--precision", "auto", "--backend", "reference", "--epochs", "1", "--out", "run", status=0).stderr
    assert "in bf16 (the processor has amx_bf16)" in first
    run = tmp_path / "run"
    assert json.loads((run / "config.json").read_text())["precision"]["used"] == "bf16"
    monkeypatch.setattr("lsgcli.system.device.cpu_flags", set)
    again = lsg("train", "--resume", "run").stderr
    assert "in bf16" in again
    assert "epochs are done; to train longer, increase --epochs" in again
    other = train("--precision", "auto", "--out", "other", "--epochs", "1").stderr
    assert "in fp32 (bf16 is no faster here)" in other

    end, data = json.loads((run / "result.json").read_text()), ["--data-dir", images, "--json", "-q"]
    evaluated = json.loads(lsg("eval", end["checkpoint"], *data, status=0).stdout)
    in_fp32 = json.loads(lsg("eval", end["checkpoint"], *data, "--precision", "fp32").stdout)
    assert evaluated == {**in_fp32, "samples_per_s": ANY}
    compared = json.loads(lsg("compare", run, "--json").stdout)["runs"][0]
    of_python = library.evaluate(end["checkpoint"], data_dir=str(images))
    assert evaluated["accuracy"] == of_python.accuracy == end["accuracy_fp32"] == compared["accuracy_fp32"]
    assert (compared["accuracy"], compared["precision"]) == (end["accuracy"], "bf16")
    assert all("in fp32" in text for text in (first, lsg("compare", run).stdout, (run / "report.html").read_text()))


def test_diverged(train, tmp_path):
    result = train("--lr", "1e38", "--out", "run", "--clip-grad", "0", "--epochs", "5")
    assert result.exit_code == 5, result.stderr
    assert "the weights were not updated" in result.stderr
    cause = (
        "Likely cause: a learning rate of 1e+38, where image-folder has 0.05 by default, and gradients that are not clipped."
    )
    assert result.stderr.index(cause) < result.stderr.index("hidden1")
    assert "Try --lr 0.05 --clip-grad 1.0." in result.stderr
    line = json.loads((tmp_path / "run" / "gradient-flow.jsonl").read_text().splitlines()[-1])
    assert line["event"] == "diverged"
    assert "Traceback" not in result.stderr


def test_a_run_without_the_test_part_is_resumed_without_it(train, lsg, tmp_path):
    result = train("--epochs", "1", "--no-test", "--test-every-epoch", "--out", "run", status=0)
    assert "--test-every-epoch: no effect" in result.stderr
    lsg("train", "--resume", "run", "--epochs", "2", "-q", status=0)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["epochs_done"], result["accuracy"]) == (2, None)


def test_resume_refuses_data_that_are_prepared_otherwise(train, lsg, images, monkeypatch):
    train("--out", "run", "-q", "--epochs", "1")
    assert lsg("train", "--resume", "run", "-q").exit_code == 0
    monkeypatch.setattr("lsgcli.data.datasets.base.IMAGES_VERSION", 3)
    result = lsg("train", "--resume", "run", "-q")
    assert result.exit_code == 3
    assert "found images version 3" in result.stderr
    told = lsg("eval", "run/last.safetensors", "--data-dir", images)
    assert told.exit_code == 0
    assert "found images version 3" in told.stderr


def test_flow_of_the_final_network_is_that_of_the_result(train, lsg, images, tmp_path):
    """Without a validation split, that of the last epoch."""
    result = train("--val-fraction", "0", "--out", "run")
    assert result.stdout == "run/last.safetensors\n"
    assert "chosen on the test set" in result.stderr
    written = json.loads((tmp_path / "run" / "gradient-flow.json").read_text())
    seen = json.loads(
        lsg("inspect-gradients", result.stdout.strip(), "--data-dir", images, "--precision", PRECISION, "--json", "-q").stdout
    )
    assert seen["layers"] == written["layers"]


def test_the_same_command_continues_when_its_time_is_up(lsg, tiny, tmp_path):
    """The time counts from the start of the program, here of pytest: after the first step, none is left."""
    options = [*tiny, "--out", "run", "--workers", "0"]
    run = lsg("train", *options, "-q", "--max-time", "1s", status=75)
    assert "time is up; saved run/last.safetensors" in run.stderr
    assert checkpoint.read(tmp_path / "run" / "last.safetensors").state["step"] == 1
    again = lsg("train", *options)
    assert (again.exit_code, again.stdout) == (0, "run/best.safetensors\n")


def test_overfitting(train, tmp_path):
    """All samples of one batch, whatever the preset augments; or what stands in the way. The test part is not read."""
    words = ("--overfit", "1", "--batch-size", "6", "--arch", "mlp", "--width-multiplier", "0.5", "--epochs", "40", "--out")
    learned = train(*words, "yes")
    assert learned.exit_code == 0
    assert re.search(
        r"overfit: 100.00 % of 6 samples are classified correctly, in epoch \d+: the network can learn", learned.stderr
    )
    failed = train(*words, "no", "--epochs", "1", "--lr", "1e-6")
    assert failed.exit_code == 0
    assert re.search(r"overfit: [\d.]+ % of 6 samples are classified correctly, expected 100 %", failed.stderr)
    assert "\n  learning-rate: The learning rate is far from" in failed.stderr
    lines = [json.loads(line) for line in (tmp_path / "yes" / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((tmp_path / "yes" / "result.json").read_text())
    assert (max(line["val_accuracy"] for line in lines), result["accuracy"]) == (1.0, None)
    config = json.loads((tmp_path / "yes" / "config.json").read_text())
    assert config["samples"] == {"train": 6, "val": 6}


def test_the_best_epoch_on_the_test_part_is_told_and_selects_nothing(train, trained, tmp_path):
    result = train(*CONVOLUTIONS, "--epochs", "4", "--test-every-epoch", "--out", "run", status=0)
    weights, before = (load_file(path / "best.safetensors") for path in (tmp_path / "run", trained))
    assert all(torch.equal(weights[name], before[name]) for name in before)
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    accuracies = [line["test_accuracy"] for line in schema.read_lines(tmp_path / "run" / "metrics.jsonl")]
    assert accuracies[found["best_epoch"]] == found["accuracy"]
    assert (found["best_test_accuracy"], found["inflation"]) == (max(accuracies), max(accuracies) - found["accuracy"])
    told = f"{100 * found['inflation']:.2f} points"
    assert told in result.stderr
    assert told in (tmp_path / "run" / "report.html").read_text()
    assert "inflation" not in json.loads((trained / "result.json").read_text())


def test_patience_is_told(train, tmp_path):
    result = train("--epochs", "9", "--lr", "1e-6", "--patience", "1", "--out", "run")
    assert result.exit_code == 0
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert found["epochs_planned"] == 9 > found["epochs_done"]  # 2 or 3 with seeds 0 to 19
    assert f"finished after {found['epochs_done']} of 9 epochs: no better validation accuracy in 1 epochs" in result.stderr


def test_extending_a_finished_run(train, lsg, tmp_path):
    """The learning rate from there on is that of a cosine over all epochs; config.json, checkpoint and model card say so."""
    train("--out", "run", "-q")
    fewer = lsg("train", "--resume", "run", "--epochs", "1")
    assert fewer.exit_code == 2
    assert "--epochs: found 1" in fewer.stderr
    longer = lsg("train", "--resume", "run", "--epochs", "4")
    assert longer.exit_code == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = 42 // 8  # of an epoch
    assert [line["lr"] for line in lines] == [
        pytest.approx(0.05 * (1 + math.cos(math.pi * ((epoch + 1) * steps - 1) / (epochs * steps))) / 2)
        for epoch, epochs in enumerate((2, 2, 4, 4))
    ]
    told = "extended from 2 to 4 epochs: from epoch 3 on, the learning rate follows the schedule of 4 epochs, starting at 0.025"
    assert told in longer.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["settings"]["epochs"] == 4
    assert config["extended"] == [{"from_epoch": 2, "planned": 2, "epochs": 4, "lr": pytest.approx(0.025)}]
    assert checkpoint.read(tmp_path / "run" / "last.safetensors").state["extended"] == [[2, 2]]
    assert "extended" not in lsg("train", "--resume", "run").stderr


@pytest.mark.slow
def test_a_terminal_that_closes(tiny, tmp_path):
    """The end of an SSH session: what the run would still say has nowhere to go, and it is saved all the same."""
    options = [*tiny, "--epochs", "400", "--out", str(tmp_path / "run")]
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        os.execv(sys.executable, [sys.executable, "-m", "lsgcli", "train", *options])
    said = b""
    while b"epoch   2/" not in said:
        said += os.read(terminal, 1 << 16)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 75
    assert (tmp_path / "run" / "last.safetensors").exists()
    assert not (tmp_path / "run" / ".lock").exists()


def test_gradient_flow_that_does_not_fit_into_memory_is_left_out(train, tmp_path, monkeypatch):
    def full(*arguments):
        raise MemoryError

    monkeypatch.setattr("lsgcli.runs.run.full_flow", full)
    result = train("--out", "run", "--epochs", "1")
    assert (result.exit_code, result.stdout) == (0, "run/best.safetensors\n")
    assert "no gradient flow in the report: it needs more memory than training" in result.stderr
    assert (tmp_path / "run" / "result.json").exists()
    assert "lsg inspect-gradients run --html FILE" in (tmp_path / "run" / "report.html").read_text()


def test_init_from_and_config_of_a_run(train, lsg, trained, tmp_path):
    """What was taken is on stderr and in config.json; the run's own settings give the same bits again."""
    options = [*CONVOLUTIONS, "--epochs", "1", "--method", "fixed", "--size", "32", "--out", "run"]
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


def test_force_does_not_delete_what_the_run_starts_from(train, finished, tmp_path):
    result = train("--out", "run", "--force", "--init-from", "run/best.safetensors", status=2)
    assert "--init-from run/best.safetensors: is inside the run that --force replaces" in result.stderr
    assert (tmp_path / "run" / "best.safetensors").exists()
