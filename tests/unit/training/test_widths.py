"""Methods in whole runs: they resume to the bit, measure once a step, and take widths from other checkpoints."""

import dataclasses

import pytest
import torch

from lsgcli.data.batches import Batch
from lsgcli.errors import ConfigError
from lsgcli.runs import checks
from lsgcli.store import checkpoint
from lsgcli.training.initialise import initialise, new_model
from lsgcli.training.losses import gradients
from tests import tiny
from tests.unit.training.test_loop import CPU
from tests.unit.training.test_loop import run as train


def alphas(model):
    return {layer.name: layer.lif.alpha for layer in model.spiking_layers()}


def batch(n=6):
    split = tiny.split(n, "train")
    return Batch(torch.from_numpy(split.x).float().transpose(0, 1), torch.from_numpy(split.y), 0)


def test_measured_sigma_moves_and_travels(tmp_path):
    """Each layer's sigma leaves its start, is in the checkpoint, and gives the same width when that is loaded."""
    train(tmp_path / "run", tiny.config(method="measured-sigma", epochs=2), tiny.bundle())
    path = tmp_path / "run" / "last.safetensors"
    stored = {name: value for name, value in checkpoint.read(path).weights.items() if name.endswith("lif.sigma")}
    assert len(stored) == 8
    assert all(abs(sigma - 0.5 * 1.04**0.5) > 1e-4 for sigma in stored.values())
    for alpha, sigma in zip(alphas(checkpoint.load(path)[0]).values(), stored.values(), strict=True):
        assert torch.equal(alpha, 2 * sigma)
    assert not any(name.endswith("lif.measured") for name in checkpoint.read(path).weights)


def test_one_measurement_a_step():
    nets = []
    for config in (tiny.config(method="measured-sigma"), tiny.config(method="measured-sigma", accumulate=2)):
        model = new_model(config, 3, 2).train()
        gradients(model, batch(), config, CPU)
        nets.append(model)
    n = [[layer.lif.measured[0].item() for layer in net.spiking_layers()] for net in nets]
    assert n[0] == n[1]
    assert n[0][0] == 3 * 6 * nets[0].spiking_layers()[0].synapse.out_channels * 16 * 16
    for net in nets:
        before = alphas(net)
        net.end_step()
        assert all(alpha != before[name] for name, alpha in alphas(net).items())


def test_a_step_that_is_not_finite_is_not_measured():
    config = tiny.config(method="measured-sigma")
    model = new_model(config, 3, 2).train()
    before = alphas(model)
    gradients(model, dataclasses.replace(batch(), x=batch().x * float("inf")), config, CPU)
    model.end_step(skip=torch.tensor(True))
    assert all(torch.equal(alpha, before[name]) for name, alpha in alphas(model).items())
    gradients(model, batch(), config, CPU)
    model.end_step(skip=torch.tensor(False))
    assert all(alpha.isfinite() for alpha in alphas(model).values())


def test_widths_are_those_of_the_checkpoint(source, tmp_path):
    """Layer by layer, they do not move while the decays do, and the new checkpoint is built without the old one."""
    expected = alphas(checkpoint.load(source)[0])
    assert len({round(alpha.item(), 4) for alpha in expected.values()}) > 4
    mine = tmp_path / "source.safetensors"
    mine.write_bytes(source.read_bytes())
    config = tiny.config(method="matched-width", width_from=str(mine), decay_lr=0.1, epochs=2)
    train(tmp_path / "run", config, tiny.bundle())
    mine.unlink()
    model, stored = checkpoint.load(tmp_path / "run" / "last.safetensors")
    assert all(torch.equal(alpha, expected[name]) for name, alpha in alphas(model).items())
    assert all(abs(layer.lif.beta - 0.2) > 1e-3 for layer in model.spiking_layers())
    assert stored["settings"]["width_from"] is None  # where files lie does not travel


def test_one_width_for_every_channel(source):
    """A layer's width is that of each of its channels where the new network has a decay for each."""
    model = new_model(config := tiny.config(method="matched-width", decay_per="channel", width_from=str(source)), 3, 2)
    initialise(model, config)
    for name, alpha in alphas(checkpoint.load(source)[0]).items():
        assert torch.equal(alphas(model)[name], alpha.expand_as(alphas(model)[name]))
        assert alphas(model)[name].dim() == 1


CHANNELS = {"decay_per": "channel"}


@pytest.mark.parametrize(
    ("of_source", "changes", "message"),
    [
        ({}, {"arch": "resnet19"}, "found the layers conv1, conv2"),
        (CHANNELS, {}, "found a width for each of 4 channels in conv1, expected one"),
        (CHANNELS, {**CHANNELS, "width_multiplier": 1 / 8}, "4 channels in conv1, expected 8 or one"),
        ({"method": "mpd-agl"}, {}, "found the method mpd-agl, whose widths differ between timesteps"),
        ({"method": "ds-atgo"}, {}, "found the method ds-atgo, whose widths differ between timesteps"),
    ],
    ids=str,
)
def test_widths_that_do_not_fit_are_refused(of_source, changes, message, untrained):
    """A layer has one place for a width."""
    config = tiny.config(method="matched-width", width_from=str(untrained(**of_source)), **changes)
    with pytest.raises(ConfigError, match=message):
        initialise(new_model(config, 3, 2), config)


def test_a_run_that_goes_on_and_other_methods_need_no_widths(source):
    absent = tiny.config(method="matched-width", width_from="absent.safetensors")
    checks.check(absent, fresh=False)
    checks.check(tiny.config(method="lsg", width_from="absent.safetensors"))
    with pytest.raises(ConfigError, match="found the layers"):
        checks.check(tiny.config(method="matched-width", arch="mlp", width_from=str(source)))
