"""Surrogate shapes: one meaning of width, and each the derivative that its docstring states."""

import pytest
import torch

from lsgcli import registry
from lsgcli.neurons.surrogates import FORMS, Forms
from tests.unit.neurons import oracle
from tests.unit.neurons.helpers import SURROGATES, close, normal

WIDTHS = (0.25, 1.0, 3.0)


@pytest.fixture(params=SURROGATES)
def shape(request):
    """Each registered surrogate."""
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
    """Each value equals that of the independently written formula."""
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
    """No overflow at membrane potentials of any size."""
    x = torch.tensor([-1e30, -1e4, 1e4, 1e30])
    assert shape(x, torch.tensor(0.5)).isfinite().all()
