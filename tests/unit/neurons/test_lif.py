"""The LIF module: what it stores, learns and refuses; and the surrogates, each the derivative that its docstring states."""

import math

import pytest
import torch

from lsgcli import registry
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF
from lsgcli.neurons.methods import Method
from lsgcli.neurons.surrogates import FORMS, Forms
from lsgcli.neurons.widths import WidthRule
from tests.unit.neurons import oracle
from tests.unit.neurons.helpers import METHODS, SURROGATES, close, normal

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


def test_settings_are_given_by_name():
    """A name that is none is refused, and so is a method in the place of the configuration."""
    for name, wanted in {"beta": "decay", "tau": "decay", "v_threshold": "threshold", "spike_grad": "surrogate"}.items():
        with pytest.raises(ConfigError, match=f"unknown setting '{name}': did you mean {wanted}\\? [A-Z]"):
            LIF(**{name: 0.9})
    with pytest.raises(ConfigError, match="unknown setting 'metod': did you mean method"):
        LIF(metod="lsg")
    with pytest.raises(ConfigError, match=r"LIF: found 'lsg'"):
        LIF("lsg")


def test_printed_form():
    """Method, decay and width; on the meta device there are no values."""
    assert "beta=0.200, alpha=1.020" in repr(LIF(method="lsg"))
    assert "beta" not in repr(LIF(neuron="psn", method="fixed", steps=3))
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
    with pytest.raises(ConfigError, match=r"method given: found the width alpha"):
        LIF(method="given", decay_per="channel", channels=2, steps=3)


WIDTHS = (0.25, 1.0, 3.0)


@pytest.fixture(params=SURROGATES)
def shape(request):
    return registry.get("surrogate", request.param)


@pytest.mark.parametrize("name", SURROGATES)
def test_has_every_form(name):
    """Without an expression a backend would run the slower reference; without an integral asgl would refuse the surrogate."""
    forms = FORMS.get(registry.get("surrogate", name), Forms())
    lacking = [field for field, form in forms._asdict().items() if not form]
    where = f"@Forms(...) above `def {name}` in lsgcli/neurons/surrogates.py"
    assert not lacking, f"surrogate {name}: found no {' and no '.join(lacking)}, expected them in {where}"
    assert name in oracle.SURROGATES, f"surrogate {name}: found no formula in SURROGATES of tests/unit/neurons/oracle.py"


@pytest.mark.parametrize("name", SURROGATES)
def test_equals_the_numpy_form(name):
    x = torch.linspace(-4, 4, 1000, dtype=torch.float64)
    for width in WIDTHS:
        assert close(registry.get("surrogate", name)(x, width), oracle.SURROGATES[name](x.numpy(), width), 1e-12)


def test_support():
    """Rectangular: abs(x) < width/2, edges excluded; triangular: zero from abs(x) = width on; A2SG: to width; atan: tails as 1/x^2."""
    edges = torch.tensor([-0.5, -0.49, 0.49, 0.5], dtype=torch.float64)
    assert registry.get("surrogate", "rectangular")(edges, 1.0).tolist() == [0, 1, 1, 0]
    assert registry.get("surrogate", "triangular")(2 * edges, 1.0).tolist() == pytest.approx([0, 0.02, 0.02, 0])
    assert registry.get("surrogate", "a2sg")(4 * edges[:3], 2.0).tolist() == pytest.approx([0, 0.25 * 0.02, 0.25 * 1.98])
    assert registry.get("surrogate", "a2sg")(torch.tensor([2.0, 2.001]), 2.0).tolist() == [0.5, 0]
    far = torch.tensor([1e3, 2e3], dtype=torch.float64)
    near, further = registry.get("surrogate", "atan")(far, 1.0)
    assert (near / further).item() == pytest.approx(4, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_width_broadcasts_and_type_stays(shape, dtype):
    """A width per channel, (C, 1, 1), gives each channel what its number would; the result has x's shape and type."""
    x = normal(2, 3, 4, 4, seed=1, dtype=dtype)
    widths = torch.tensor([0.5, 1.0, 2.0], dtype=dtype)
    h = shape(x, widths.view(3, 1, 1))
    assert (h.shape, h.dtype) == (x.shape, dtype)
    assert shape(x, torch.tensor(0.7)).dtype == dtype
    for channel, width in enumerate(widths):
        assert torch.equal(h[:, channel], shape(x[:, channel], width))


def test_finite_far_from_the_threshold(shape):
    x = torch.tensor([-1e30, -1e4, 1e4, 1e30])
    assert shape(x, torch.tensor(0.5)).isfinite().all()
