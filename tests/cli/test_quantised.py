"""Integers from the command line: training with few bits, evaluation and prediction in int8, and export."""

import json

import pytest
import torch

from lsgcli.errors import ConfigError
from lsgcli.store import checkpoint
from lsgcli.system import device as compute
from tests.cli.conftest import CONVOLUTIONS


@pytest.fixture
def exact_integers():
    """Skip where the processor cannot multiply bytes exactly."""
    try:
        compute.pick_precision("int8", torch.device("cpu"))
    except ConfigError as error:
        pytest.skip(error.message)


def test_train_with_few_bits_from_floats_then_evaluate_and_export(exact_integers, lsg, train, trained, images, lines, tmp_path):
    train(
        *CONVOLUTIONS,
        "--weight-bits",
        "4",
        "--init-from",
        trained / "best.safetensors",
        "--epochs",
        "1",
        "--out",
        "run",
        "-q",
        status=0,
    )
    best = tmp_path / "run" / "best.safetensors"
    assert checkpoint.read_config(best)["model"]["weight_bits"] == 4
    command = ["--data-dir", images, "--json", "-q"]
    lsg("export", best, "--quantize", "int8", "-o", "out.safetensors", "--data-dir", images, "--verify", "18", "-q", status=0)
    whole = [json.loads(lsg("eval", path, *command, "--precision", "int8").stdout) for path in (best, "out.safetensors")]
    floats = json.loads(lsg("eval", "out.safetensors", *command).stdout)
    assert whole[0] | {"samples_per_s": 0} == whole[1] | {"samples_per_s": 0}
    assert floats["confusion"] == whole[0]["confusion"]
    assert floats["loss"] == pytest.approx(whole[0]["loss"], abs=1e-5)
    predicted = lsg("predict", best, images / "test", "--precision", "int8", "--json", "-q", status=0)
    assert len(lines(predicted.stdout)) == 18
