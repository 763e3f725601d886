"""Run directories: nothing is left of what did not begin. Checkpoints: whole or refused."""

import json

import pytest
import torch

from lsgcli import models
from lsgcli.errors import CheckpointError
from lsgcli.runs.run import digest_of
from lsgcli.store import checkpoint
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.store.rundir import RunDir, is_run, new_path
from tests import tiny


def test_new_paths_differ():
    config = tiny.config(dataset="digits-dvs")
    assert new_path(config) != new_path(config)
    assert new_path(config).parent.name == "digits-dvs-vggsnn-lsg"


def test_nothing_is_left_of_a_run_that_wrote_nothing(tmp_path):
    with RunDir(tmp_path / "a" / "b" / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"schema": "lsg.run/1", "settings": {}}', True),
        ('{"settings": {}, "arch": "vggsnn", "model": {}, "classes": []}', False),  # of `lsg export --format hf`
        ('{"schema": "other/1", "settings": {}}', False),
        ("[]", False),
        ("{", False),
    ],
)
def test_what_is_a_run(tmp_path, content, expected):
    (tmp_path / "config.json").write_text(content)
    assert is_run(tmp_path) is expected
    assert not is_run(tmp_path / "config.json")


def test_the_digest_of_crossings_says_whether_runs_choose_alike():
    one, other = {"a": [0.5, 1.0], "b": [0.25, 0.0]}, {"b": [0.25, 0.0], "a": [0.5, 1.0]}
    assert digest_of(one) == digest_of(other) != digest_of({**one, "a": [0.5, 0.9]})
    assert digest_of({}) is None


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
