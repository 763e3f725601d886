"""Two shares of a batch, each with the statistics of both: the results of ``reference`` on the whole batch, in float64."""

import dataclasses

import pytest
import torch

from lsgcli.neurons.kernels.base import NormParameters
from tests.unit.neurons.cases import Case
from tests.unit.neurons.helpers import close, normal

SHARES = (slice(0, 2), slice(2, 3))  # of a batch of 3


def whole(pool, residual, training):
    """A layer with tdBN, whose shares differ in mean and deviation."""
    z = normal(3, 3, 5, 6, 6, seed=1, std=2.0) + torch.tensor([0.0, 1.0, 4.0]).reshape(3, 1, 1, 1).double()
    weight, bias, mean, var = (normal(5, seed=seed) for seed in (3, 4, 5, 6))
    norm = NormParameters(1 + 0.3 * weight, bias, mean, var.exp(), training, 0.1, 1e-5, 0.5)
    beta, alpha = torch.tensor(0.4).double(), torch.tensor(1.2).double()
    return Case(z, beta, alpha, 0.5, "triangular", torch.float64, pool, normal(*z.shape, seed=2) if residual else None, norm)


def shares(case, grad):
    """Results of both shares.

    No processes are needed: what a share gives to its n-th gathering depends only on the results of earlier ones. So shares run one after
    the other, with what the other gave in the last round, until both give the same twice.
    """
    given = [[], []]
    while True:
        before, given = given, [[], []]
        results = [share(case, rank, before, given, grad) for rank in range(2)]
        if all(len(a) == len(b) and all(map(torch.equal, a, b)) for a, b in zip(given, before, strict=True)):
            return results, len(given[0])


def share(case, rank, before, given, grad):
    def gather(own):
        others, n = before[1 - rank], len(given[rank])
        given[rank].append(own.clone())
        both = (own, others[n] if n < len(others) else own)
        return torch.stack(both if rank == 0 else both[::-1])

    part = SHARES[rank]
    residual = None if case.residual is None else case.residual[:, part]
    own = dataclasses.replace(case, z=case.z[:, part], residual=residual, norm=case.norm._replace(gather=gather))
    return own.run("reference", torch.float64, grad=grad[:, part])


@pytest.mark.parametrize(("pool", "residual"), [(1, True), (2, False), (3, True)])
def test_two_shares_are_the_batch(pool, residual):
    case = whole(pool, residual, training=True)
    grad = normal(3, 3, 5, 6 // pool, 6 // pool, seed=7)
    expected = case.run("reference", torch.float64, grad=grad)
    found, gatherings = shares(case, grad)
    assert gatherings == 2  # forward and backward
    assert torch.equal(torch.cat([one.out for one in found], 1), expected.out)
    assert 0.05 < expected.out.mean() < 0.95
    for name, value in expected.others.items():
        parts = [one.others[name] for one in found]
        if name in ("z", "residual"):
            assert close(torch.cat(parts, 1), value, 1e-12), name
        elif name.startswith("running"):
            assert all(close(part, value, 1e-12) for part in parts), name
        else:
            assert close(sum(parts), value, 1e-12), name


def test_running_statistics_need_no_gathering():
    case, grad = whole(1, False, training=False), normal(3, 3, 5, 6, 6, seed=7)
    expected = case.run("reference", torch.float64, grad=grad)
    found, gatherings = shares(case, grad)
    assert gatherings == 0
    assert torch.equal(torch.cat([one.out for one in found], 1), expected.out)
    assert close(torch.cat([one.others["z"] for one in found], 1), expected.others["z"], 1e-12)
