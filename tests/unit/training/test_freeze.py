"""Frozen parts of a network keep their bits, running statistics included; the others train."""

import pytest
import torch

from lsgcli.errors import ConfigError
from lsgcli.runs.flow import full_flow
from lsgcli.store import checkpoint
from lsgcli.training.freeze import freeze
from lsgcli.training.initialise import new_model
from lsgcli.training.optim import Optimizers
from tests import tiny
from tests.unit.training.test_loop import CPU, run

PATTERNS = "conv1,features.2,features.[45].current.norm,*.7.lif.b"


@pytest.mark.parametrize("changes", [{"optimizer": "adamw", "ema": 0.5}, {"method": "measured-sigma"}])
def test_frozen_tensors_keep_their_bits(tmp_path, changes):
    """conv1 is a layer, features.2 the module of the third, then two norms and the neurons of one layer, by their only parameter."""
    prefixes = ("features.0.", "features.2.", "features.4.current.norm.", "features.5.current.norm.", "features.7.lif.")
    first = tmp_path / "first" / "last.safetensors"
    run(first.parent, tiny.config(**changes, epochs=1), tiny.bundle())
    start = checkpoint.read(first).weights
    config = tiny.config(
        freeze=PATTERNS, init_from=str(first), weight_decay=0.1, weight_decay_on="all", clip_grad=1.0, **changes
    )
    run(tmp_path / "run", config, tiny.bundle())
    end = checkpoint.read(tmp_path / "run" / "last.safetensors").weights
    frozen = {name for name in start if name.startswith(prefixes)}
    assert sum("running" in name for name in frozen) == 8
    assert {name for name in start if torch.equal(start[name], end[name])} == frozen


def test_gradient_flow_of_a_checkpoint_is_that_of_its_run():
    """A copy without frozen parts is frozen first, so that its norms do not use statistics of the batch."""
    config, bundle = tiny.config(freeze="conv1,conv3"), tiny.bundle()
    trained = new_model(config, 3, 2)
    loaded = new_model(config.replace(freeze=None), 3, 2)
    for model in (trained, loaded):  # statistics other than those of the batch
        model.features[0].current.norm.running_var.fill_(0.5)
    flows = [full_flow(model, bundle, config, CPU, 1)["layers"] for model in (trained, loaded)]
    assert flows[0] == flows[1]
    assert not any(layer["grad_norm"] is None for layer in flows[0])


def test_what_is_frozen_costs_no_state():
    model = new_model(tiny.config(freeze="features"), 3, 2)
    assert set(Optimizers(model, tiny.config()).names.values()) == {"classifier.weight", "classifier.bias"}
    model.eval().train()
    assert model.training
    assert not any(module.training for module in model.features.modules())


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ("conv1,layer1.*", r"found 'layer1.\*', which matches nothing, .* conv1, conv2, .*features.0"),
        ("features,classifier", "freezes every parameter, expected some to train"),
    ],
)
def test_patterns_that_cannot_be_meant(patterns, message):
    with pytest.raises(ConfigError, match=message):
        freeze(new_model(tiny.config(), 3, 2), patterns)
