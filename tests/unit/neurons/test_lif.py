"""The LIF module: what it stores, what it learns, what it refuses."""

import math

import pytest
import torch
from torch import nn

from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF
from tests.unit.neurons.helpers import METHODS

LEARNED = {name: name != "none" for name in METHODS}
STORED = {"measured-sigma": ["sigma"], "matched-width": ["width"], "isometric": ["u_mean", "u_std"]}  # besides b


def at(beta, **arguments):
    """A float64 layer whose decay is beta."""
    layer = LIF(**arguments).double()
    with torch.no_grad():
        layer.b.fill_(math.log(beta / (1 - beta)))
    return layer


@pytest.mark.parametrize("method", METHODS)
def test_decay_starts_at_one_fifth(method):
    """beta = sigmoid(b) = 0.2, b = -1.3862944."""
    layer = LIF(method=method, width=1.0)
    assert layer.b.item() == pytest.approx(-1.3862944, abs=1e-6)
    assert layer.beta.item() == pytest.approx(0.2, abs=1e-7)
    assert layer.beta.dim() == 0


@pytest.mark.parametrize("decay", [0.01, 0.5, 0.99])
def test_decay_starts_as_told(decay):
    """beta is the decay that was asked for."""
    assert LIF(decay=decay).beta.item() == pytest.approx(decay, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_b_is_a_parameter_where_learned(method):
    """A parameter where the method learns the decay, else a buffer; stored under the same name either way."""
    layer = LIF(method=method, width=1.0)
    assert layer.method.learns_decay == LEARNED[method]
    assert isinstance(layer.b, nn.Parameter) == LEARNED[method]
    assert [name for name, _ in layer.named_parameters()] == (["b"] if LEARNED[method] else [])
    assert list(layer.state_dict()) == ["b", *STORED.get(method, [])]


def test_weights_travel_between_methods():
    """A decay that was learned loads into a layer that keeps it fixed."""
    fixed = LIF(method="none").double()
    fixed.load_state_dict(at(0.7, method="lsg").state_dict())
    assert fixed.beta.item() == pytest.approx(0.7)


@pytest.mark.parametrize(("beta", "alpha"), [(0.2, 1.0198), (0.5, 1.1180), (0.8, 1.2806), (1 - 1e-9, 1.4142)])
def test_learnable_width(beta, alpha):
    """alpha = 2 v_th sqrt(1 + beta^2) at v_th = 0.5, and in proportion to v_th."""
    assert at(beta, method="lsg").alpha.item() == pytest.approx(alpha, abs=5e-5)
    assert at(beta, method="lsg", threshold=1.0).alpha.item() == pytest.approx(2 * alpha, abs=1e-4)
    assert at(beta, method="lsg", width=7.0).alpha.item() == pytest.approx(alpha, abs=5e-5)


@pytest.mark.parametrize("method", ["none", "trainable-decay"])
def test_fixed_width(method):
    """alpha = width, whatever the decay."""
    assert at(0.8, method=method).alpha.item() == 1.0
    assert at(0.8, method=method, width=2.5).alpha.item() == 2.5


def test_width_follows_the_decay():
    """alpha is computed anew in every pass: after b has moved, the gradient has the new width."""
    layer, gradients = at(0.2, method="lsg"), []
    for beta in (0.2, 0.9):
        layer = at(beta, method="lsg")
        current = torch.full((1, 1), 0.4, dtype=torch.float64, requires_grad=True)
        layer(current).sum().backward()
        gradients.append(current.grad.item())
    assert gradients == pytest.approx([1 / math.sqrt(1.04), 1 / math.sqrt(1.81)])
    with torch.no_grad():
        layer.b.zero_()
    assert layer.alpha.item() == pytest.approx(math.sqrt(1.25))


def test_threshold_reaches_the_neuron():
    """A current of 0.7 fires at 0.5 and not at 1.0."""
    current = torch.full((1, 1), 0.7)
    assert LIF(threshold=0.5)(current).item() == 1
    assert LIF(threshold=1)(current).item() == 0


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
    with pytest.raises(ConfigError, match="unknown argument 'metod': did you mean method"):
        LIF(metod="lsg")
    with pytest.raises(
        ConfigError, match=r"LIF: found 'lsg', expected a NeuronConfig, or settings by name, such as LIF\(method='lsg'\)"
    ):
        LIF("lsg")


@pytest.mark.parametrize("name", ["decay", "threshold", "width"])
@pytest.mark.parametrize("value", [0, -0.5, math.nan, "0.5"])
def test_values_out_of_range(name, value):
    """Decay, threshold and width are above 0; the message names the setting and what was found."""
    with pytest.raises(ConfigError, match=f"{name}: found {value!r}"):
        LIF(**{name: value})


@pytest.mark.parametrize("decay", [1, 1.0, 1.5])
def test_decay_is_below_one(decay):
    """A decay of 1 has no b."""
    with pytest.raises(ConfigError, match="below 1"):
        LIF(decay=decay)


def test_sums_of_what_is_measured_stay_in_double_precision():
    """Number and squares of many potentials have no place in float16."""
    lif = LIF(method="measured-sigma", init_potential="measured").half()
    lif(torch.full((2, 70_000), 3.0, dtype=torch.float16))
    lif.end_step()
    assert (lif.b.dtype, lif.measured.dtype, lif.remains.dtype) == (torch.float16, torch.float64, torch.float64)
    assert lif.sigma.isfinite()
    assert lif.initial.isfinite()


def test_printed_form_without_values():
    """On the meta device there are none."""
    with torch.device("meta"):
        assert repr(LIF(method="lsg", threshold_learned=True)) == "LIF(method=lsg, surrogate=rectangular, backend=auto)"


def test_printed_form():
    """repr tells method, decay and width."""
    assert "method=lsg, beta=0.200, alpha=1.020" in repr(LIF(method="lsg"))
