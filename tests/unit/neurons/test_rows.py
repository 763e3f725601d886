"""Convolutions by spikes against convolutions in float64."""

import random

import pytest
import torch
from torch.nn import functional as F

from lsgcli.neurons.kernels.cpu.packing import packed
from lsgcli.neurons.kernels.cpu.rows import Geometry, convolved, rows_of, weight_gradient
from lsgcli.system.device import limited_threads

CLOSE = 1e-6  # relative to the largest element


def spikes(shape, density, levels, dtype=torch.float32):
    """Numbers of spikes / levels (N, C, H, W), channels last: none, some or all elements are 1 at densities 0, between, and 1."""
    chance = torch.full(shape, float(density))
    counts = sum(torch.bernoulli(chance) for _ in range(levels))
    return (counts / levels).to(dtype).contiguous(memory_format=torch.channels_last), counts


def whole(*shape):
    """Small whole numbers, whose sums are exact in float32."""
    return torch.randint(-9, 10, shape).float()


def compare(N, C, channels, H, W, side, stride, density, levels, draw, dtype=torch.float32):
    """Relative errors of output and gradient of the weight; results are the same for 1, 2 and 3 threads."""
    x, counts = spikes((N, C, H, W), density, levels, dtype)
    weight = draw(channels, C, side, side).to(dtype)
    padding = side // 2
    exact = weight.double().requires_grad_()
    z = F.conv2d(counts.double() / levels, exact, None, stride, padding)
    grad = draw(*z.shape).to(dtype).contiguous(memory_format=torch.channels_last)
    (expected,) = torch.autograd.grad(z, exact, grad.double())
    geometry = Geometry(N, H, W, C, z.shape[2], z.shape[3], channels, side, stride, padding)
    bits, results = packed(x, levels), []
    for threads in (1, 2, 3):
        with limited_threads(threads):
            results.append((convolved(bits, geometry, rows_of(weight), torch.float32), weight_gradient(bits, geometry, grad)))
    assert all(torch.equal(a, b) for again in results[1:] for a, b in zip(again, results[0], strict=True))
    errors = [
        (found - true).abs().max() / true.abs().max().clamp(min=1e-30)
        for found, true in zip(results[0], (z.detach(), expected), strict=True)
    ]
    assert results[0][0].shape == z.shape
    return float(max(errors))


CASES = [
    (2, 64, 64, 6, 6, 3, 1, 0.15, 1),  # whole words and blocks
    (3, 130, 70, 7, 5, 3, 1, 0.3, 1),
    (1, 3, 5, 1, 1, 3, 1, 0.5, 1),  # one pixel
    (2, 65, 64, 9, 8, 3, 2, 0.2, 1),
    (2, 16, 130, 8, 9, 1, 2, 0.2, 1),
    (1, 31, 33, 11, 13, 5, 3, 0.1, 1),
    (40, 7, 9, 6, 6, 3, 1, 0.2, 4),  # averages of four spikes; several chunks
    (2, 20, 30, 6, 6, 3, 1, 0.4, 9),
    (2, 70, 20, 5, 5, 3, 1, 0.0, 1),  # no spike
    (2, 70, 20, 5, 5, 3, 1, 1.0, 4),  # all
    (3000, 70, 130, 1, 1, 1, 1, 0.3, 1),  # linear layers
    (33, 700, 5, 1, 1, 1, 1, 0.02, 4),
]


@pytest.mark.parametrize("case", CASES)
def test_as_in_float64(case):
    torch.manual_seed(0)
    assert compare(*case, torch.randn) < CLOSE


@pytest.mark.parametrize("case", [case for case in CASES if case[-1] != 9])
def test_whole_numbers_are_exact(case):
    torch.manual_seed(0)
    assert compare(*case, whole) == 0


def test_weights_and_gradients_in_bfloat16_have_sums_of_float32():
    torch.manual_seed(0)
    assert compare(2, 65, 70, 6, 6, 3, 1, 0.2, 4, torch.randn, torch.bfloat16) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_shapes(seed):
    """50 each."""
    torch.manual_seed(seed)
    chance = random.Random(seed)
    for _ in range(50):
        sizes = (
            chance.randint(1, 5),
            chance.randint(1, 140),
            chance.randint(1, 140),
            chance.randint(1, 13),
            chance.randint(1, 13),
        )
        case = (*sizes, chance.choice((1, 3, 3, 5)), chance.choice((1, 1, 2, 3)), chance.choice((0, 0.02, 0.15, 0.5, 1)))
        assert compare(*case, chance.choice((1, 1, 2, 4, 9)), torch.randn) < CLOSE, case


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_linear_layers(seed):
    """25 each, of up to 200 timesteps."""
    torch.manual_seed(seed)
    chance = random.Random(seed)
    for _ in range(25):
        N = chance.randint(1, 200) * chance.randint(1, 16)
        density, levels = chance.choice((0, 0.01, 0.05, 0.3, 1)), chance.choice((1, 1, 2, 3, 4))
        dtype = chance.choice((torch.float32, torch.float32, torch.bfloat16))
        levels = levels if dtype == torch.float32 or levels != 3 else 4  # thirds are no numbers of bfloat16
        case = (N, chance.randint(1, 300), chance.randint(1, 300), 1, 1, 1, 1, density, levels)
        assert compare(*case, torch.randn, dtype) < CLOSE, case
