"""Convolutions by spikes against convolutions in float64, and spikes saved for backward in bits."""

import random
import weakref

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lsgcli.neurons.kernels.cpu.packing import packed
from lsgcli.neurons.kernels.cpu.rows import Geometry, convolved, rows_of, weight_gradient
from lsgcli.neurons.kernels.saved import saved_compactly
from lsgcli.system.device import limited_threads

CLOSE = 1e-6  # relative to the largest element


def spikes(shape, density, levels, dtype=torch.float32):
    """Numbers of spikes / levels (N, C, H, W), channels last: none, some or all elements are 1 at densities 0, between, and 1."""
    chance = torch.full(shape, float(density))
    counts = sum(torch.bernoulli(chance) for _ in range(levels))
    return (counts / levels).to(dtype).contiguous(memory_format=torch.channels_last), counts


def compare(N, C, channels, H, W, side, stride, density, levels, dtype=torch.float32):
    """Relative errors of output and gradient of the weight; results are the same for 1, 2 and 3 threads."""
    x, counts = spikes((N, C, H, W), density, levels, dtype)
    weight = torch.randn(channels, C, side, side).to(dtype)
    padding = side // 2
    exact = weight.double().requires_grad_()
    z = F.conv2d(counts.double() / levels, exact, None, stride, padding)
    grad = torch.randn(*z.shape).to(dtype).contiguous(memory_format=torch.channels_last)
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
    assert compare(*case) < CLOSE


@pytest.mark.slow  # its kernels take seconds to compile
def test_weights_and_gradients_in_bfloat16_have_sums_of_float32():
    torch.manual_seed(0)
    assert compare(2, 65, 70, 6, 6, 3, 1, 0.2, 4, torch.bfloat16) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("linear", [False, True])
def test_random_shapes(linear, seed):
    """50 convolutions, or 25 linear layers of up to 200 timesteps."""
    torch.manual_seed(seed)
    chance = random.Random(seed)
    for _ in range(25 if linear else 50):
        density, levels, dtype = chance.choice((0, 0.02, 0.15, 0.5, 1)), chance.choice((1, 1, 2, 3, 4, 9)), torch.float32
        if linear:
            dtype = chance.choice((torch.float32, torch.float32, torch.bfloat16))
            levels = levels if dtype == torch.float32 else chance.choice((1, 2, 4))  # thirds are no numbers of bfloat16
            case = (chance.randint(1, 200) * chance.randint(1, 16), chance.randint(1, 300), chance.randint(1, 300), 1, 1, 1, 1)
        else:
            sizes = [chance.randint(1, most) for most in (5, 140, 140, 13, 13)]
            case = (*sizes, chance.choice((1, 3, 3, 5)), chance.choice((1, 1, 2, 3)))
        assert compare(*case, density, levels, dtype) < CLOSE, (case, density, levels, dtype)


BY_DEFINITION = [(1, 1, 1), (1, 3, 2), (4, 4, 3), (9, 9, 4), (1, 12, 4), (1, 255, 8)]  # levels, largest number, planes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("levels", "largest", "planes"), BY_DEFINITION)
@pytest.mark.parametrize("n", [1, 7, 8, 9, 4097, 200_003])
def test_numbers_of_spikes_are_restored(n, levels, largest, planes, dtype):
    from lsgcli.neurons.kernels.cpu.packing import packed

    numbers = np.random.default_rng(n).integers(0, largest + 1, n)
    numbers[-1] = largest
    x = torch.from_numpy(numbers.astype(np.float32) / levels).to(dtype)
    kept = packed(x, levels)
    assert torch.equal(kept.restore(), x)
    assert kept.spikes == numbers.sum()
    assert kept.density == numbers.mean()
    assert len(kept.planes) == planes
    for j, plane in enumerate(kept.planes.numpy()):
        found = np.unpackbits(plane[: -(-n // 8)], bitorder="little")
        np.testing.assert_array_equal(found[:n], numbers >> j & 1)
        assert not found[n:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_views_share_what_is_saved(dtype):
    """In their own shape and memory order; other tensors are saved as they are."""
    x = (torch.arange(48).reshape(2, 2, 3, 4) % 2).to(dtype).requires_grad_()
    other = torch.rand(48, dtype=dtype)
    with saved_compactly(x.detach(), 1):
        y = x.permute(2, 3, 1, 0).square()
        z = (x.flatten() * other).sum() + x.square().sum()
    kept = [node._raw_saved_self.data for node in (y.grad_fn, z.grad_fn.next_functions[1][0].next_functions[0][0])]
    assert kept[0][0] is kept[1][0]
    # Bytes, or bits that can be read by words.
    assert len(kept[0][0].words.flatten()) == (48 if dtype == torch.float64 else 8 + 16)
    grad = torch.rand(3, 4, 2, 2, dtype=dtype)
    (z + (y * grad).sum()).backward()
    expected = 2 * x * (1 + grad.permute(3, 2, 0, 1)) + other.view_as(x)
    torch.testing.assert_close(x.grad, expected.detach())


def test_part_of_a_tensor_is_saved_as_it_is():
    x = torch.ones(4, 4, requires_grad=True)
    with saved_compactly(x.detach()[:2], 1):
        y = x[:2].square()
    assert torch.equal(y.grad_fn._saved_self, x[:2])


def test_a_result_that_its_own_node_saves_is_freed():
    """Also without a backward pass, as that of a sigmoid whose gradient is not needed."""
    with saved_compactly(torch.ones(4), 1):
        beta = torch.zeros(3, requires_grad=True).sigmoid()
    kept = weakref.ref(beta)
    del beta
    assert kept() is None
