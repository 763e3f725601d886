"""Settings of a layer given by name: their defaults, and what is refused when it is built."""

import dataclasses

import pytest
import torch

from lsgcli import registry
from lsgcli.config.neuron import NeuronConfig
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF
from lsgcli.neurons.methods import Method
from lsgcli.neurons.widths import WidthRule


@pytest.mark.parametrize(
    "settings", [{}, {"decay": 0.5}, {"threshold": 1.0, "reset": "soft"}, {"method": "none", "width": 2.0}]
)
def test_settings_by_name_are_those_of_a_config(settings):
    one, other = LIF(**settings), LIF(NeuronConfig(**settings))
    assert dataclasses.asdict(one.config) == dataclasses.asdict(other.config)
    assert torch.equal(one.alpha, other.alpha)
    assert one.state_dict().keys() == other.state_dict().keys()


@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan"), float("inf"), [1.0, -1.0], [[1.0, 1.0], [1.0, 1.0]], [1.0] * 3])
def test_a_width_that_is_none_is_refused(monkeypatch, value):
    class Given(WidthRule):
        formula = "?"

        def alpha(self, layer):
            return torch.tensor(value)

    monkeypatch.setitem(registry._entries, ("method", "given"), Method(True, Given()))
    with pytest.raises(ConfigError, match=r"method given: found (the width alpha|a width of shape)"):
        LIF(method="given", decay_per="channel", channels=2, steps=3)


def test_a_width_may_be_a_number(monkeypatch):
    class Number(WidthRule):
        formula = "2"

        def alpha(self, layer):
            return 2

    monkeypatch.setitem(registry._entries, ("method", "number"), Method(False, Number()))
    assert LIF(method="number").alpha.item() == 2
