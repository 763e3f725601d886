"""Self-test of a backend: small layers, forward and backward, compared with ``reference`` in double precision on the same device.

A current with which a potential is within rounding of a threshold, or of a jump of the surrogate, is drawn again: all others must give the
same spikes.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lsgcli import registry
from lsgcli.neurons.kernels.base import NormParameters, normalise
from lsgcli.neurons.step import LIFParameters, initial_state, step
from lsgcli.neurons.surrogates import FORMS

TOLERANCE = 2e-4  # of gradients and statistics, relative to the largest, beyond one rounding
NEAR = 4e-6  # of a threshold or jump, relative to the largest current
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
        options = {
            "tdBN in " + self.norm: self.norm,
            "residual": self.residual,
            "one decay": self.single,
            "detached": self.detach,
            "learned threshold": self.learned,
            "measured": self.measured,
        }
        chosen = [text for text, applies in options.items() if applies]
        kind = f"pool {self.pool}" if self.pool else "neurons"
        memory = "contiguous" if self.contiguous else "channels-last"
        size = "x".join(map(str, self.shape))
        return ", ".join([f"{self.surrogate} {self.reset} {str(self.dtype)[6:]} {size} {memory}", kind, *chosen])


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
        leaves = _drawn(case)
        exact = _run(case, leaves, "reference", torch.float64, device)
        try:
            found = _run(case, leaves, name, case.dtype, device)
        except Exception as error:  # of a compiler, a driver, or the backend itself
            text = " ".join(f"{type(error).__name__}: {error}".split())
            yield Result(str(case), None, f"{case}: {text[:LONGEST]}")
            continue
        errors = {what: _error(found[what], value) for what, value in exact.items()}
        wrong = (f"{what} of {case}: relative error {error:.1e}" for what, error in errors.items() if not error <= TOLERANCE)
        worst = max(errors.values()) if all(map(math.isfinite, errors.values())) else None
        yield Result(str(case), worst, next(wrong, ""))


def _drawn(case: Case) -> dict[str, Tensor]:
    """The tensors of a case that require gradients: float64 on the CPU, exact in the type that the case has them in."""
    chance, channels = torch.Generator().manual_seed(0), case.shape[2]

    def normal(*shape: int, mean: float, std: float, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=chance).mul(std).add(mean).to(dtype).double()

    def current() -> Tensor:
        return normal(*case.shape, mean=0.3, std=0.8, dtype=case.dtype)

    leaves = {"current": current(), "beta": normal(*(() if case.single else (channels, 1, 1)), mean=0.5, std=0.1)}
    if case.norm:
        leaves |= {"gamma": normal(channels, mean=1.5, std=0.2), "mu": normal(channels, mean=0.2, std=0.2)}
    if case.residual:
        leaves["residual"] = normal(*case.shape, mean=0.0, std=0.3, dtype=case.dtype)
    if case.learned:
        leaves["threshold"] = torch.tensor(case.threshold).double()
    while (near := _near(case, leaves)).any():
        leaves["current"] = torch.where(near, current(), leaves["current"])
    return leaves


def _near(case: Case, leaves: dict[str, Tensor]) -> Tensor:
    """Whether rounding may decide about a spike or gradient of a neuron: (B, C, H, W)."""
    norm, p = _parameters(case, leaves, torch.float64, torch.device("cpu"))
    current = leaves["current"] if norm is None else normalise(leaves["current"], norm)
    current = current + leaves.get("residual", 0)
    state, close = initial_state(current[0]), torch.zeros(current.shape[1:], dtype=torch.bool)
    near = NEAR * max(1.0, float(current.abs().max()))
    for current_t, p_t in zip(current, p.each_step(current), strict=True):
        _, state = step(current_t, state, p_t)
        distance = (state.u - case.threshold).abs()
        close |= distance < near
        close |= (distance - FORMS[p_t.surrogate].jump * p_t.alpha).abs() < near
    return close


def _parameters(
    case: Case, leaves: dict[str, Tensor], dtype: torch.dtype, device: torch.device
) -> tuple[NormParameters | None, LIFParameters]:
    """Parameters of a layer with these leaves."""
    channels, norm = case.shape[2], None
    if case.norm:
        mean, variance = (torch.linspace(low, 1.5, channels, dtype=torch.float64).to(device, dtype) for low in (-0.5, 0.5))
        options = (case.norm == "training", 0.1, 1e-5, 0.7 * case.threshold)
        norm = NormParameters(leaves["gamma"], leaves["mu"], mean, variance, *options)
    widths = (case.shape[0], 1 if case.single else channels)
    width = torch.linspace(0.75, 1.5, widths[0] * widths[1]).view(widths[0], 1, widths[1], 1, 1).to(device, dtype)
    measured = torch.zeros(3, dtype=torch.float64, device=device) if case.measured else None
    surrogate, threshold = registry.get("surrogate", case.surrogate), leaves.get("threshold", case.threshold)
    return norm, LIFParameters(leaves["beta"], width, threshold, surrogate, measured, case.reset, case.detach)


def _run(case: Case, drawn: dict[str, Tensor], backend: str, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Statistics, output and gradients on the CPU, in the order in which they follow from each other."""
    wide, leaves = torch.promote_types(dtype, torch.float32), {}
    for name, value in drawn.items():
        images = value.dim() == 5
        value = value.to(device, dtype if images else wide, copy=True)
        if images and not case.contiguous:
            value = value.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
        leaves[name] = value.requires_grad_()
    norm, p = _parameters(case, leaves, wide, device)
    chosen, current = registry.get("backend", backend), leaves["current"]
    behind = {"residual": leaves.get("residual"), "pool": case.pool}
    out = chosen.normalise_and_fire(current, norm, p, **behind) if case.pool else chosen(current, p)
    values: dict[str, Tensor] = {}
    if norm is not None:
        values |= {"running mean": norm.running_mean, "running variance": norm.running_var}
    values["spikes"] = out
    if p.measured is not None:
        values["moments of u"] = p.measured / p.measured[0]
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
