"""Self-test of a backend: a few layers, forward and backward, compared with ``reference`` in double precision."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lsgcli import registry
from lsgcli.neurons.kernels.base import NormParameters
from lsgcli.neurons.step import LIFParameters

TOLERANCE = 2e-4  # of gradients and statistics, relative to the largest
SHAPE = (4, 3, 8, 6, 4)  # T, B, C, H, W


class Case(NamedTuple):
    """A layer: what ``normalise_and_fire`` gets, or, with ``pool`` 0, the neurons alone."""

    surrogate: str
    reset: str = "hard"
    threshold: float = 0.5
    pool: int = 0
    normalised: bool = False
    residual: bool = False


CASES = (
    Case("rectangular"),
    Case("triangular", reset="soft"),
    Case("atan", reset="none", threshold=1.0),
    Case("rectangular", pool=2, normalised=True),
    Case("sigmoid", pool=1, normalised=True, residual=True),
)


class Comparison(NamedTuple):
    """Result of a self-test: the number of cases, the largest relative error of a case, and a description of that case if it is too large."""

    cases: int
    worst: float
    failure: str


def compare(name: str, device: torch.device) -> Comparison:
    """Compare a backend with ``reference``: spikes, gradients and running statistics of each of ``CASES``."""
    worst, failure = 0.0, ""
    for case in CASES:
        found, expected = _run(case, name, torch.float32, device), _run(case, "reference", torch.float64, torch.device("cpu"))
        for what, value in expected.items():
            error = float((found[what] - value).abs().max() / value.abs().max().clamp(min=1e-12))
            if not error <= worst:  # also for NaN
                worst, wrong = error, f"{what} of {' '.join(_described(case))}: relative error {error:.1e}"
                failure = failure or ("" if error <= TOLERANCE else wrong)
    return Comparison(len(CASES), worst, failure)


def _run(case: Case, backend: str, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Output, gradients and statistics, in float64 on the CPU. All numbers that go in are exact in float32."""
    draw = torch.Generator().manual_seed(0)

    def leaf(*shape: int, low: int, high: int) -> Tensor:
        values = torch.randint(low, high, shape, generator=draw) / 64
        return values.to(device, dtype).requires_grad_()

    leaves = {"current": leaf(*SHAPE, low=-64, high=96), "beta": leaf(low=16, high=17)}
    norm = residual = None
    if case.normalised:
        leaves |= {"gamma": leaf(SHAPE[2], low=32, high=64), "mu": leaf(SHAPE[2], low=0, high=16)}
        running = (torch.zeros(SHAPE[2], device=device, dtype=dtype), torch.ones(SHAPE[2], device=device, dtype=dtype))
        norm = NormParameters(leaves["gamma"], leaves["mu"], *running, True, 0.1, 1e-5, case.threshold)
    if case.residual:
        leaves["residual"] = residual = leaf(*SHAPE, low=-32, high=32)
    p = LIFParameters(
        leaves["beta"],
        torch.tensor(0.703125, device=device, dtype=dtype),  # no u that occurs is at the edge of the rectangle
        case.threshold,
        registry.get("surrogate", case.surrogate),
        reset=case.reset,
    )
    chosen, current = registry.get("backend", backend), leaves["current"].clone()
    behind = {"residual": residual, "pool": case.pool}
    out = chosen.normalise_and_fire(current, norm, p, **behind) if case.pool else chosen(current, p)
    weight = torch.randint(-8, 9, out.shape, generator=draw).to(device, dtype)
    gradients = torch.autograd.grad(out, list(leaves.values()), weight)
    values = {"spikes": out, **{f"gradient of {name}": grad for name, grad in zip(leaves, gradients, strict=True)}}
    if norm is not None:
        values |= {"running mean": norm.running_mean, "running variance": norm.running_var}
    return {name: value.detach().double().cpu() for name, value in values.items()}


def _described(case: Case) -> Iterator[Any]:
    yield from (case.surrogate, case.reset)
    yield from (["tdBN"] if case.normalised else []) + (["residual"] if case.residual else [])
    yield f"pool {case.pool}" if case.pool else "neurons"
