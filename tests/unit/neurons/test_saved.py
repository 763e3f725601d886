"""Spikes saved for backward in bits: what is restored, and how much memory they need."""

import weakref

import numpy as np
import pytest
import torch

from lsgcli.neurons.kernels.saved import saved_compactly

pytest.importorskip("numba")
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
