"""The commands on a GPU. ``LSGCLI_TEST_DEVICE=cpu`` runs the same on the CPU, to test the tests."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from tests.cli.conftest import CONVOLUTIONS

DEVICE = os.environ.get("LSGCLI_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PRECISIONS = ["fp32", "bf16", *(["fp16"] if DEVICE == "cuda" else [])]


@pytest.fixture
def options(tiny):
    return [*tiny, *CONVOLUTIONS, "--device", DEVICE, "--deterministic", "--threads", "1"]


def same(first, second):
    first, second = load_file(first), load_file(second)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_trains_on_the_gpu_and_evaluates_anywhere(precision, lsg, options, images, tmp_path):
    result = lsg("train", *options, "--precision", precision, "--out", "run", "-q", status=0)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["precision"]["used"] == precision
    found = []
    for device in (DEVICE, "cpu"):
        result = lsg(
            "eval", "run/best.safetensors", "--data-dir", images, "--device", device, "--precision", "fp32", "--json", status=0
        )
        found.append(json.loads(result.stdout))
    assert abs(found[0]["accuracy"] - found[1]["accuracy"]) <= 1 / 18
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], rel=1e-2)


def test_the_same_run_has_the_same_bits(lsg, options, tmp_path):
    for name in ("first", "second"):
        assert lsg("train", *options, "--out", name, "-q").exit_code == 0
    assert same(tmp_path / "first" / "last.safetensors", tmp_path / "second" / "last.safetensors")


def test_a_stopped_run_resumes_with_the_same_bits(process, lsg, options, tmp_path):
    options = [*options, "--epochs", "4"]
    assert lsg("train", *options, "--out", "whole", "-q").exit_code == 0
    run = process("train", *options, "--out", "parts", "--json", "-q")
    for line in run.stdout:
        if json.loads(line)["event"] == "epoch":
            run.send_signal(signal.SIGTERM)
            break
    run.stdout.read()
    assert run.wait(120) == 75
    assert lsg("train", "--resume", "parts", "-q").exit_code == 0
    assert same(tmp_path / "whole" / "last.safetensors", tmp_path / "parts" / "last.safetensors")


def test_backends_agree(lsg, options, tmp_path):
    """After one epoch in fp32, ``auto`` and ``reference`` differ by rounding."""
    for backend in ("auto", "reference"):
        words = ["--backend", backend, "--precision", "fp32", "--epochs", "1", "--out", backend]
        assert lsg("train", *options, *words, "-q").exit_code == 0
    first, second = (json.loads((tmp_path / name / "metrics.jsonl").read_text()) for name in ("auto", "reference"))
    assert first["train_loss"] == pytest.approx(second["train_loss"], rel=1e-2)


def test_other_commands(lsg, options, images):
    assert lsg("train", *options, "--out", "run", "-q").exit_code == 0
    command = ("inspect-gradients", "run/best.safetensors", "--data-dir", images, "--device", DEVICE)
    flow = lsg(*command, "--json", "--batches", "1", status=0)
    assert all(layer["grad_norm"] > 0 for layer in json.loads(flow.stdout)["layers"])
    image = next((images / "test" / "red").iterdir())
    predicted = lsg("predict", "run/best.safetensors", image, "--device", DEVICE, "--json", status=0)
    assert json.loads(predicted.stdout)["class"] in ("red", "green", "blue")
    cost = lsg("train", *options, "--dry-run", "--json", "-q")
    assert json.loads(cost.stdout)["peak_of"] == ("the device" if DEVICE == "cuda" else "the whole process")


@pytest.mark.skipif(DEVICE == "cuda" and torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_devices_compute_what_one_computes(process, options, tmp_path):
    devices = "2" if DEVICE == "cuda" else "cpu:2"
    words = [*options[: options.index("--device")], "--threads", "1", "--precision", "fp32", "--epochs", "1"]
    losses = []
    for name, given in (("one", ["--device", DEVICE]), ("two", ["--devices", devices])):
        run = process("train", *words, *given, "--out", name, "-q")
        assert run.wait(180) == 0, run.stderr.read()
        losses.append(json.loads((tmp_path / name / "metrics.jsonl").read_text())["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)
