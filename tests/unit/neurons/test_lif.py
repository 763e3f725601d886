"""The LIF module: what it stores, what it learns, what it refuses."""

import math

import pytest
import torch

from lsgcli import registry
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF
from lsgcli.neurons.methods import Method
from lsgcli.neurons.widths import WidthRule
from tests.unit.neurons.helpers import METHODS

# Besides b.
STORED = {
    "measured-sigma": ["sigma"],
    "adaptive": ["sigma", "ratio"],
    "matched-width": ["width"],
    "isometric": ["u_mean", "u_std"],
}


@pytest.mark.parametrize("method", METHODS)
def test_b_is_a_parameter_where_learned(method):
    """A parameter where the method learns the decay, else a buffer; stored under the same name either way."""
    layer = LIF(method=method, width=1.0, decay=0.6)
    assert layer.beta.item() == pytest.approx(0.6)
    assert [name for name, _ in layer.named_parameters()] == ([] if method == "fixed" else ["b"])
    assert list(layer.state_dict()) == ["b", *STORED.get(method, [])]


def test_width_follows_the_decay():
    """alpha is computed anew in every pass: after b has moved, the gradient has the new width."""
    layer, gradients = LIF(method="lsg").double(), []
    for beta in (0.2, 0.9):
        layer.b.data.fill_(math.log(beta / (1 - beta)))
        current = torch.full((1, 1), 0.4, dtype=torch.float64, requires_grad=True)
        layer(current).sum().backward()
        gradients.append(current.grad.item())
    assert gradients == pytest.approx([1 / math.sqrt(1.04), 1 / math.sqrt(1.81)])


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [({"method": "lgs"}, "lsg"), ({"surrogate": "rectangle"}, "rectangular"), ({"backend": "referense"}, "reference")],
)
def test_unknown_names(arguments, nearest):
    """An unknown name is refused and the nearest suggested."""
    with pytest.raises(ConfigError, match=f"did you mean {nearest}"):
        LIF(**arguments)


def test_settings_are_given_by_name():
    """A name that is none is refused, and so is a method in the place of the configuration."""
    with pytest.raises(ConfigError, match="unknown setting 'metod': did you mean method"):
        LIF(metod="lsg")
    with pytest.raises(ConfigError, match=r"LIF: found 'lsg'"):
        LIF("lsg")


def test_printed_form():
    """Method, decay and width; on the meta device there are no values."""
    assert "method=lsg, beta=0.200, alpha=1.020" in repr(LIF(method="lsg"))
    with torch.device("meta"):
        assert repr(LIF(method="lsg", threshold_learned=True)) == "LIF(lif, method=lsg, surrogate=rectangular, backend=auto)"


def test_sums_of_what_is_measured_stay_in_double_precision():
    """Number and squares of many potentials have no place in float16."""
    lif = LIF(method="measured-sigma", init_potential="measured").half()
    lif(torch.full((2, 70_000), 3.0, dtype=torch.float16))
    lif.end_step()
    assert (lif.b.dtype, lif.measured.dtype, lif.remains.dtype) == (torch.float16, torch.float64, torch.float64)
    assert lif.sigma.isfinite()
    assert lif.initial.isfinite()


@pytest.mark.parametrize("value", [2, -1.0, 0.0, math.nan, math.inf, [1.0, -1.0], [[1.0, 1.0], [1.0, 1.0]], [1.0] * 3])
def test_a_width_is_a_positive_number_or_one_for_each_channel(monkeypatch, value):
    class Given(WidthRule):
        formula = "?"

        def alpha(self, layer):
            return value if isinstance(value, int) else torch.tensor(value)

    monkeypatch.setitem(registry._entries, ("method", "given"), Method(True, Given()))
    if value == 2:
        assert LIF(method="given").alpha.item() == 2
        return
    with pytest.raises(ConfigError, match=r"method given: found (the width alpha|a width of shape)"):
        LIF(method="given", decay_per="channel", channels=2, steps=3)
