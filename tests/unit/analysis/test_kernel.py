"""The compiled kernel that counts, against the same counts by torch, block by block."""

import numpy as np
import pytest
import torch

from lsgcli import registry
from lsgcli.analysis import lif_watchers
from lsgcli.analysis.dynamics import Dynamics, LayerInput
from lsgcli.analysis.sums import LayerSums
from tests.exports import slow_if

pytest.importorskip("numba")
T, B, C, H, W = 3, 2, 5, 6, 4


# Larger than a period and a block of the kernel; with a last block of fewer rows; with rows that are cut into pieces.
LARGE = [(2, 64, 32, 32), (5, 33, 18, 46), (1, 1200, 8, 8)]


def layer_input(
    surrogate="rectangular",
    side=1,
    residual=False,
    per="layer",
    dtype=torch.float32,
    still=False,
    size=(B, C, H, W),
    reset="hard",
    detach=False,
):
    torch.manual_seed(0)
    B, C, H, W = size
    x = torch.randn(T * B, C, H, W).to(dtype).contiguous(memory_format=torch.channels_last).unflatten(0, (T, B))
    if still:
        x = x[:1].expand(T, B, C, H, W)
    decay, width = {
        "layer": (torch.tensor(0.4), torch.tensor(0.9)),
        "channel": (torch.rand(C, 1, 1), 0.5 + torch.rand(C, 1, 1)),
        "step": (torch.tensor(0.4), (0.5 + torch.rand(T)).view(T, 1, 1, 1, 1)),
    }[per]
    p = Dynamics(decay, 0.5, width, registry.get("surrogate", surrogate), reset, detach=detach)
    more = 0.3 * torch.randn(T, B, C, H, W).to(dtype) if residual else None
    return LayerInput(x, p, 0.5 + torch.rand(C), 0.2 * torch.randn(C), more, side)


def by_torch(one, grad, full):
    sums = LayerSums()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lif_watchers, "kernel_layout", lambda given: None)
        lif_watchers.count(sums, one, grad, full=full)
    return sums


def by_kernel(one, grad, full):
    assert lif_watchers.kernel_layout(one)
    sums = LayerSums()
    lif_watchers.count(sums, one, grad, full=full)
    return sums


SETTINGS = [
    {},
    {"side": 2},
    {"side": 2, "residual": True, "per": "channel"},
    {"residual": True, "per": "step"},
    {"still": True},
]
OTHERS = [name for name in registry.names("surrogate") if name != "rectangular"]
LONG = [  # each has kernels of its own, which take seconds to compile
    ("rectangular", {"dtype": torch.bfloat16}),
    *(
        ("rectangular", {"reset": reset, "detach": detach})
        for reset, detach in (("soft", False), ("hard", True), ("soft", True), ("none", True), ("none", False))
    ),
    *((name, settings) for name in OTHERS for settings in (SETTINGS[2], {"reset": "none"})),
]


@pytest.mark.parametrize(
    ("surrogate", "settings"), [("rectangular", settings) for settings in SETTINGS] + [slow_if(True, *case) for case in LONG]
)
def test_the_same_counts(surrogate, settings):
    one = layer_input(surrogate, **settings)
    # Some neurons get no gradient at all.
    grad = torch.randn(T, B, C, H // one.side, W // one.side).to(one.x.dtype) * (torch.rand(C, 1, 1) < 0.5)
    expected, found = by_torch(one, grad, True), by_kernel(one, grad, True)
    assert found.values.keys() == expected.values.keys()
    for name, total in expected.values.items():
        np.testing.assert_allclose(found.values[name], total, rtol=1e-4, atol=1e-3, err_msg=name)
    assert int((found.histogram - expected.histogram).abs().sum()) <= 2  # of those at the very edge of a bin
    assert torch.equal(found.ever, expected.ever)
    assert torch.equal(found.always, expected.always)
    assert found.ever.any()
    assert float(by_kernel(one, None, True).values["du"].sum()) == 0
    light = by_kernel(one, None, False)
    assert {name: total.tolist() for name, total in light.values.items()} == {
        name: found.values[name].tolist() for name in ("n", "spikes", "inside")
    }


@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize("settings", [{}, {"side": 2}, {"side": 2, "residual": True, "per": "channel"}, {"per": "step"}])
def test_the_same_counts_in_large_layers(size, settings):
    one = layer_input(size=size, **settings)
    batch, channels, height, width = size
    grad = torch.randn(T, batch, channels, height // one.side, width // one.side) * (torch.rand(channels, 1, 1) < 0.5)
    expected, found = by_torch(one, grad, True), by_kernel(one, grad, True)
    for name, total in expected.values.items():
        np.testing.assert_allclose(found.values[name], total, rtol=1e-4, atol=3, err_msg=name)  # a few lie at a switch
    assert int((found.histogram - expected.histogram).abs().sum()) < 1e-5 * one.x.numel() + 10
    assert (found.ever != expected.ever).float().mean() < 1e-4
    assert (found.always != expected.always).float().mean() < 1e-4


def test_what_is_no_number_does_no_harm():
    one = layer_input()
    one.x[0, 0, 0, 0, 0], one.x[1, 0, 1, 0, 0], one.x[1, 0, 2, 0, 0] = np.nan, np.inf, -np.inf
    found = by_kernel(one, torch.randn(T, B, C, H, W), True)
    assert int(found.histogram.sum()) == T * B * C * H * W


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_bits_for_any_number_of_threads(threads):
    one, grad = layer_input(side=2), torch.randn(T, B, C, H // 2, W // 2)
    expected = by_kernel(one, grad, True)
    torch.set_num_threads(threads)
    try:
        found = by_kernel(one, grad, True)
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(found.values[name], total) for name, total in expected.values.items())


def test_what_the_kernel_does_not_know():
    one = layer_input()
    assert not lif_watchers.kernel_layout(one._replace(x=one.x.double()))
    assert not lif_watchers.kernel_layout(one._replace(p=one.p._replace(surrogate=lambda x, width: x)))
    assert not lif_watchers.kernel_layout(one._replace(p=one.p._replace(decay=torch.rand(C, H, 1))))
    assert not lif_watchers.kernel_layout(one._replace(side=4))
    assert not lif_watchers.kernel_layout(one._replace(scale=None))
