"""Checkpoints: whole or refused, whatever happens to the file."""

import json

import pytest
import torch
from safetensors.torch import save_file

from lsgcli import models
from lsgcli.errors import CheckpointError
from lsgcli.store import checkpoint
from lsgcli.store.checkpoint import Checkpoint


@pytest.fixture
def model():
    torch.manual_seed(0)
    return models.build("vggsnn", method="lsg", T=3, input_size=16, width_multiplier=1 / 64, num_classes=3)


@pytest.fixture
def saved(tmp_path, model):
    path = tmp_path / "model.safetensors"
    config = {**checkpoint.describe(model), "classes": ["a", "b", "c"], "settings": {}, "data": {}}
    state = {"epoch": 2}
    checkpoint.save(path, Checkpoint(model.state_dict(), config, state, {"optim/x/step": torch.tensor(3.0)}))
    return path


def test_loading_draws_no_random_numbers(saved):
    """Of the caller's generator: a script that loads a checkpoint continues as one that does not."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    checkpoint.load(saved)
    assert torch.equal(torch.rand(3), expected)


def test_foreign_files(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="without lsg's metadata"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("arch", "neuron", "found"), [("vggsn", "lif", "did you mean vggsnn"), ("vggsnn", "pmsn", "pmsn.*before 0.1.0")]
)
def test_unknown_names_are_checkpoint_errors(saved, arch, neuron, found):
    content = checkpoint.read(saved)
    spec = content.config["model"] | {"neuron": content.config["model"]["neuron"] | {"neuron": neuron}}
    checkpoint.save(saved, Checkpoint(content.weights, {**content.config, "arch": arch, "model": spec}))
    with pytest.raises(CheckpointError, match=found):
        checkpoint.load(saved)


@pytest.mark.parametrize("shape", [(5,), (), (3, 2)])
def test_integers_with_scales_of_another_shape(saved, shape):
    content = checkpoint.read(saved)
    integers = content.weights["classifier.weight"].to(torch.int8)
    weights = {**content.weights, "classifier.weight": integers, "classifier.weight_scale": torch.ones(shape)}
    checkpoint.save(saved, Checkpoint(weights, content.config))
    with pytest.raises(CheckpointError, match=r"classifier\.weight: found torch\.int8 of shape"):
        checkpoint.load(saved)


@pytest.mark.parametrize(("name", "value"), [("std", 1e-300), ("std", 0.0), ("std", 1e60), ("mean", 1e60)])
def test_a_normalisation_that_float32_cannot_compute(saved, name, value):
    """Division by a deviation that rounds to 0, or subtraction of a mean that is infinite."""
    config = checkpoint.read_config(saved)
    config["data"] = {"mean": [0.5, 0.5], "std": [0.25, 0.25]}
    checkpoint.decode_config(json.dumps(config), saved)
    config["data"][name][0] = value
    with pytest.raises(CheckpointError, match=rf"{name}"):
        checkpoint.decode_config(json.dumps(config), saved)
