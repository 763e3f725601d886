"""Self-test of a backend: small layers, forward and backward, compared with ``reference`` in double precision on the same device.

In the drawn currents, no potential is within rounding of a threshold, or of a jump of the surrogate: all spikes must be the same.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lsgcli import registry
from lsgcli.neurons.kernels.base import NormParameters
from lsgcli.neurons.step import LIFParameters

TOLERANCE = 2e-4  # of gradients and statistics, relative to the largest, beyond one rounding
LONGEST = 300  # characters of an error


class Case(NamedTuple):
    """A layer: what ``normalise_and_fire`` gets, or, with ``pool`` 0, the neurons alone.

    Attributes:
        shape: T, B, C, H, W.
        norm: ``training``, ``evaluation``, or empty without tdBN.
        contiguous: the memory layout; otherwise channels-last.
        single: whether the layer has one decay, and one width per timestep; otherwise one for each channel.
        learned: whether the threshold is learned.
        measured: whether the moments of u are measured.
    """

    surrogate: str
    dtype: torch.dtype = torch.float32
    shape: tuple[int, int, int, int, int] = (3, 2, 5, 7, 9)
    reset: str = "hard"
    threshold: float = 0.5
    pool: int = 0
    norm: str = ""
    residual: bool = False
    contiguous: bool = False
    single: bool = False
    detach: bool = False
    learned: bool = False
    measured: bool = False

    def __str__(self) -> str:
        changed = [f"{name}={value}" for name, value in self._asdict().items() if value != self._field_defaults.get(name)]
        return ", ".join(changed)


WIDE = (2, 3, 67, 7, 5)  # more than a tile of channels
BF16, FP16 = torch.bfloat16, torch.float16
CASES = (
    Case("rectangular", single=True),
    Case("triangular", BF16, reset="soft", contiguous=True, learned=True),
    Case("atan", FP16, reset="none", threshold=1.0, measured=True),
    Case("rectangular", pool=1, norm="training", shape=WIDE),
    Case("rectangular", pool=2, norm="training", shape=(4, 2, 3, 17, 19), single=True),
    Case("sigmoid", BF16, pool=1, norm="training", residual=True, contiguous=True),
    Case("rectangular", BF16, pool=2, norm="training", shape=(3, 2, 67, 4, 6), measured=True),
    Case("triangular", FP16, pool=2, norm="training", residual=True, shape=(2, 3, 5, 6, 10), reset="soft", detach=True),
    Case("exponential", pool=3, norm="evaluation", residual=True),
    Case("a2sg", BF16, pool=1, norm="evaluation", threshold=1.0),
    Case("tanh", pool=1, residual=True, reset="none", learned=True),
    Case("sigmoid", FP16, pool=2, shape=(4, 2, 67, 2, 4), reset="soft", learned=True, measured=True),
)
FEW = (  # of backends that compile each of them for seconds
    Case("triangular", reset="soft", learned=True),
    Case("rectangular", BF16, pool=2, norm="training", residual=True, measured=True),
)


class Result(NamedTuple):
    """Result of a case: its description, the largest relative error (None if there is none to compare), and what is wrong, if anything."""

    case: str
    worst: float | None
    failure: str = ""


def compare(name: str, device: torch.device) -> Iterator[Result]:
    """Compare a backend with ``reference``: running statistics, spikes, moments of u and gradients of each case in its types."""
    backend = registry.get("backend", name)
    for case in FEW if backend.compiles else CASES:
        if case.dtype not in backend.types:
            continue
        exact = run(case, "reference", torch.float64, device)
        try:
            found = run(case, name, case.dtype, device)
        except Exception as error:  # of a compiler, a driver, or the backend itself
            text = " ".join(f"{type(error).__name__}: {error}".split())
            yield Result(str(case), None, f"{case}: {text[:LONGEST]}")
            continue
        errors = {what: _error(found[what], value) for what, value in exact.items()}
        wrong = (f"{what} of {case}: relative error {error:.1e}" for what, error in errors.items() if not error <= TOLERANCE)
        worst = max(errors.values()) if all(map(math.isfinite, errors.values())) else None
        yield Result(str(case), worst, next(wrong, ""))


def run(case: Case, name: str, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Statistics, output and gradients of a backend on the CPU, in the order in which they follow from each other.

    Images are of ``dtype``, all else is of float32 or higher precision; the numbers are exact in the types of the case.
    """
    T, B, C, H, W = case.shape
    wide, chance = torch.promote_types(dtype, torch.float32), torch.Generator().manual_seed(0)

    def vector(*shape: int, mean: float, std: float) -> Tensor:
        return (torch.randn(shape, generator=chance) * std + mean).to(device, wide).requires_grad_()

    def image(mean: float, std: float) -> Tensor:
        drawn = torch.randn(T, B, H, W, C, generator=chance) * std + mean
        drawn = drawn.to(case.dtype).to(device, dtype).permute(0, 1, 4, 2, 3)
        return (drawn.contiguous() if case.contiguous else drawn).requires_grad_()

    leaves = {"current": image(0.3, 0.8), "beta": vector(*(() if case.single else (C, 1, 1)), mean=0.5, std=0.1)}
    if case.residual:
        leaves["residual"] = image(0.0, 0.3)
    if case.learned:
        leaves["threshold"] = torch.tensor(case.threshold, device=device, dtype=wide).requires_grad_()
    values: dict[str, Tensor] = {}
    norm = None
    if case.norm:
        leaves |= {"gamma": vector(C, mean=1.5, std=0.2), "mu": vector(C, mean=0.2, std=0.2)}
        mean, variance = (torch.linspace(low, 1.5, C).to(device, wide) for low in (-0.5, 0.5))
        options = (case.norm == "training", 0.1, 1e-5, 0.7 * case.threshold)
        norm = NormParameters(leaves["gamma"], leaves["mu"], mean, variance, *options)
        values |= {"running mean": mean, "running variance": variance}
    channels = 1 if case.single else C
    width = torch.linspace(0.75, 1.5, T * channels).view(T, 1, channels, 1, 1).to(device, wide)
    measured = torch.zeros(3, dtype=torch.float64, device=device) if case.measured else None
    surrogate, threshold = registry.get("surrogate", case.surrogate), leaves.get("threshold", case.threshold)
    p = LIFParameters(leaves["beta"], width, threshold, surrogate, measured, case.reset, case.detach)
    backend, current, residual = registry.get("backend", name), leaves["current"], leaves.get("residual")
    if case.pool:
        values["spikes"] = out = backend.normalise_and_fire(current, norm, p, residual=residual, pool=case.pool)
    else:
        values["spikes"] = out = backend(current, p)
    if measured is not None:
        values["moments of u"] = measured / measured[0]
    arriving = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(BF16).to(device, dtype)
    gradients = torch.autograd.grad(out, list(leaves.values()), arriving)
    values |= {f"gradient of {name}": value for name, value in zip(leaves, gradients, strict=True)}
    return {name: value.detach().cpu() for name, value in values.items()}


def _error(found: Tensor, exact: Tensor) -> float:
    """Largest difference beyond one rounding to the type of ``found``, relative to the largest value."""
    if found.shape != exact.shape:
        return math.inf
    excess = (found.double() - exact).abs() - torch.finfo(found.dtype).eps / 2 * exact.abs()
    return float(excess.max().clamp(min=0) / exact.abs().max().clamp(min=1e-12))
