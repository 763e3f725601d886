"""What counts as a difference: spikes, ties at the threshold and what follows from them, logits, predictions."""

import pytest
import torch

from lsgcli.errors import GateError
from lsgcli.export.runners import NetworkRunner, Output, Runner, membrane
from lsgcli.export.verify import SPIKES_PER_TIE, _check, compare, described, verify
from tests.exports import exported, samples, saved

THRESHOLD = 0.5


class Altered(Runner):
    """The network itself, with changes to what it says."""

    def __init__(self, network, config, alter):
        super().__init__(config)
        self.inner, self.alter = NetworkRunner(network, config), alter

    def run(self, x):
        outcome = self.inner.run(x)
        logits, spikes = outcome.logits.clone(), {name: s.clone() for name, s in outcome.spikes.items()}
        self.alter(logits, spikes)
        return Output(logits, spikes)


@pytest.fixture
def net(tmp_path):
    """(network, config) of a small VGGSNN."""
    found = exported(saved("vggsnn", tmp_path / "c.safetensors"), "safetensors", tmp_path / "e.safetensors")
    return found.written, found.content.config


def compared(net, alter, n=4):
    return compare(net[0], Altered(*net, alter), samples(net[1], n))


def near_threshold(net, monkeypatch, *where):
    """Make u of layer, t, sample, position lie one unit in the last place below the threshold, as far as is reported."""
    layers = {layer.lif: layer.name for layer in net[0].spiking_layers()}

    def moved(lif, current, spikes):
        u = membrane(lif, current, spikes)
        for name, t, b in where:
            if name == layers[lif]:
                u[t, b, 0, 0, 0] = THRESHOLD * (1 - 2**-24)
        return u

    monkeypatch.setattr("lsgcli.export.verify.membrane", moved)


def flip(spikes, name, t, b, position=0):
    at = (t, b, *(0,) * (spikes[name].dim() - 3), position)
    spikes[name][at] = 1 - spikes[name][at]


def test_membranes_are_those_of_the_equation(net):
    """u >= v_th is the spike, and u[t] = beta u[t-1] (1 - o[t-1]) + I[t] by numpy."""
    batch = next(samples(net[1], 2))
    recorded = NetworkRunner(*net).recorded(batch.x)[1]
    u = {layer.name: membrane(layer.lif, *recorded[layer.name]) for layer in net[0].spiking_layers()}
    for name, (_, spikes) in recorded.items():
        assert torch.equal((u[name] >= THRESHOLD).float(), spikes)
    first = net[0].features[0]
    current = first.current(batch.x).detach().numpy()
    beta = first.lif.beta.item()
    expected = current[0]
    for t in range(1, len(current)):
        expected = beta * expected * (expected < THRESHOLD) + current[t]
    assert u["conv1"][-1].numpy() == pytest.approx(expected, abs=1e-6)


def test_equal(net):
    result = compared(net, lambda logits, spikes: None)
    assert result["samples"] == 4
    assert result["spikes_compared"] == sum(
        s.numel() for s in NetworkRunner(*net).run(next(samples(net[1], 4)).x).spikes.values()
    )
    assert (result["spikes_different"], result["ties"], result["after_ties"]) == (0, 0, 0)
    assert result["max_logit_error"] == 0


def test_a_spike_that_differs_without_reason(net):
    result = compared(net, lambda logits, spikes: flip(spikes, "conv2", 1, 3))
    assert (result["spikes_different"], result["ties"], result["samples_with_ties"]) == (1, 0, 0)
    assert result["per_layer"]["conv2"]["spikes_different"] == 1
    assert result["per_layer"]["conv1"]["spikes_different"] == 0


def test_a_tie_and_what_follows(net, monkeypatch):
    """After a tie in conv3 at t=1 of sample 2: later layers and steps of that sample follow from it, and nothing else does."""
    near_threshold(net, monkeypatch, ("conv3", 1, 2))

    def alter(logits, spikes):
        flip(spikes, "conv3", 1, 2)  # the tie
        flip(spikes, "conv4", 1, 2)  # a later layer
        flip(spikes, "conv3", 2, 2, position=1)  # the same layer, a later step
        flip(spikes, "conv8", 2, 2)
        logits[1:, 2] += 0.25

    result = compared(net, alter)
    assert (result["spikes_different"], result["ties"], result["after_ties"]) == (0, 1, 3)
    assert result["samples_with_ties"] == 1
    assert result["max_logit_error"] == 0


@pytest.mark.parametrize(
    "elsewhere",
    [("conv3", 1, 2, 1), ("conv2", 1, 2, 0), ("conv4", 0, 2, 0), ("conv4", 1, 1, 0)],
    ids=["same layer and step", "an earlier layer", "an earlier step", "another sample"],
)
def test_a_tie_excuses_only_what_can_follow_from_it(net, monkeypatch, elsewhere):
    near_threshold(net, monkeypatch, ("conv3", 1, 2))

    def alter(logits, spikes):
        flip(spikes, "conv3", 1, 2)
        flip(spikes, *elsewhere)

    result = compared(net, alter)
    assert (result["spikes_different"], result["ties"], result["after_ties"]) == (1, 1, 0)


def test_logits_of_samples_without_ties_count(net, monkeypatch):
    near_threshold(net, monkeypatch, ("conv3", 1, 2))

    def alter(logits, spikes):
        flip(spikes, "conv3", 1, 2)
        logits[0, 1, 0] += 0.5

    assert compared(net, alter)["max_logit_error"] == pytest.approx(0.5)


def test_not_a_number_is_no_agreement(net):
    def alter(logits, spikes):
        logits[0, 0] = float("nan")

    with pytest.raises(GateError, match="error nan"):
        verify(net[0], net[0], Altered(*net, alter), samples(net[1], 4), "net")


def test_predictions_after_ties(net, monkeypatch):
    near_threshold(net, monkeypatch, ("conv3", 1, 2))

    def alter(logits, spikes):
        flip(spikes, "conv3", 1, 2)
        logits[:, 2] = logits[:, 2].flip(-1)
        logits[:, 1] = logits[:, 1].flip(-1)

    result = compared(net, alter)
    assert (result["predictions_different"], result["predictions_after_ties"]) == (1, 1)
    assert "1 of 4 predictions differ" in described(result)
    assert "1 further spike differs by rounding at the threshold" in described(result)
    assert "after that 0 spikes and 1 predictions, in 1 of the samples" in described(result)


def good(**changes):
    return {
        "samples": 9,
        "spikes_compared": 3 * SPIKES_PER_TIE,
        "spikes_different": 0,
        "ties": 3,
        "after_ties": 40,
        "max_logit_error": 1e-5,
        "predictions_different": 0,
        "predictions_after_ties": 1,
        "samples_with_ties": 2,
        **changes,
    }


def test_the_gate():
    """At its bounds, and beyond each of them."""
    _check(good(), "net")
    _check(good(spikes_compared=100, ties=1), "net")
    for changes in (
        {"spikes_different": 1},
        {"ties": 4},
        {"spikes_compared": 100, "ties": 2},
        {"predictions_different": 1},
        {"max_logit_error": 1.01e-5},
    ):
        with pytest.raises(GateError, match="the networks differ") as caught:
            _check(good(**changes), "net")
        assert caught.value.exit_code == 9
