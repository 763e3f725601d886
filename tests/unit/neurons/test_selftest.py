"""The cases with which backends test themselves."""

import pytest
import torch

from lsgcli import registry
from lsgcli.neurons.kernels import selftest
from tests.unit.neurons.oracle import JUMPS


@pytest.mark.parametrize("case", selftest.CASES + selftest.FEW, ids=str)
def test_rounding_decides_about_no_spike(monkeypatch, case):
    """No potential is near its threshold, or near a jump of the surrogate, which the backward pass calls with u - v_th."""
    h, jump, nearest = registry.get("surrogate", case.surrogate), JUMPS.get(case.surrogate, 0.0), []

    def observed(x, width):
        nearest.append(min(x.abs().min(), (x.abs() - jump * width).abs().min()))
        return h(x, width)

    monkeypatch.setitem(registry._entries, ("surrogate", case.surrogate), observed)
    selftest.run(case, "reference", torch.float64, torch.device("cpu"))
    assert min(nearest) > 4e-6  # of potentials around 1
