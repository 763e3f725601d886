"""Random layers for backends that fuse: any size, memory layout, shape of the surrogate, decay, width, type and pooling.

A case is run by a backend in the type it is of, and by ``reference`` in float64; all numbers that go in are exact in both.
"""

import dataclasses
import random
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lsgcli import registry
from lsgcli.neurons import LIFParameters
from lsgcli.neurons.kernels.base import NormParameters, normalise
from lsgcli.neurons.step import RESETS
from lsgcli.neurons.widths import LayerState
from tests.unit.neurons.helpers import METHODS, SURROGATES, normal
from tests.unit.neurons.oracle import JUMPS

NEAR = 1e-6  # of a switch: there, the last bit of u decides about a spike or a gradient
TOLERANCE = 2e-4  # of gradients and statistics, relative to the largest

# Other ways for the values of x, (T, B, C, H, W), to lie in memory.
LAYOUTS = {
    "channels last": lambda x: x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3),
    "contiguous": lambda x: x.contiguous(),
    "batch first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "static": lambda x: x[:1].contiguous().expand_as(x),
    "every second": lambda x: torch.stack([x, x + 1], -1)[..., 0],
}


@dataclass
class Case:
    """What goes into ``normalise_and_fire``, or, with ``pool`` 0, into the neurons alone; in float64."""

    z: Tensor
    beta: Tensor
    alpha: Tensor
    threshold: float
    surrogate: str
    dtype: torch.dtype
    pool: int = 0
    residual: Tensor | None = None
    norm: NormParameters | None = None
    layout: str = "channels last"
    reset: str = "hard"
    detach: bool = False
    learned: bool = False  # whether the threshold is learned

    def run(
        self, backend: str, dtype: torch.dtype, device: torch.device | str = "cpu", grad: Tensor | None = None
    ) -> "Outcome":
        """Forward and backward with z and the residual in a type, and all else in float32 or better; the outcome is on the CPU.

        ``grad`` arrives at the output; by default it is drawn.
        """
        wide = torch.promote_types(dtype, torch.float32)
        arrange = LAYOUTS[self.layout] if self.z.dim() == 5 else lambda x: x
        leaves = {"z": self.z.to(device, dtype, copy=True)}
        if self.residual is not None:
            leaves["residual"] = self.residual.to(device, dtype, copy=True)
        leaves["beta"] = self.beta.to(device, wide, copy=True)
        threshold: float | Tensor = self.threshold
        if self.learned:
            leaves["threshold"] = threshold = torch.tensor(self.threshold, device=device, dtype=wide)
        norm = self.norm
        if norm is not None:
            leaves["gamma"], leaves["mu"], *running = (vector.to(device, wide, copy=True) for vector in norm[:4])
            norm = NormParameters(leaves["gamma"], leaves["mu"], *running, *norm[4:])
        for leaf in leaves.values():
            leaf.requires_grad_()
        surrogate, measured = registry.get("surrogate", self.surrogate), torch.zeros(3, dtype=torch.float64, device=device)
        alpha, reset = self.alpha.to(device, wide), (self.reset, self.detach)
        p = LIFParameters(leaves["beta"], alpha, threshold, surrogate, measured, *reset)
        chosen = registry.get("backend", backend)
        z = arrange(leaves["z"])
        behind = {"residual": leaves.get("residual"), "pool": self.pool}
        out = chosen.normalise_and_fire(z, norm, p, **behind) if self.pool else chosen(z, p)
        grad = normal(*out.shape, seed=7).to(torch.bfloat16).to(out) if grad is None else grad.to(out)
        gradients = dict(zip(leaves, torch.autograd.grad(out, list(leaves.values()), grad), strict=True))
        statistics = {} if norm is None else {"running mean": norm.running_mean, "running variance": norm.running_var}
        others = {name: value.cpu() for name, value in (gradients | statistics).items()}
        return Outcome(out.detach().cpu(), others, measured.cpu())

    def near_a_switch(self) -> bool:
        """Whether any u, in float64, is so near the threshold, or a jump of the surrogate, that rounding decides."""
        z = LAYOUTS[self.layout](self.z) if self.z.dim() == 5 else self.z
        current = z if self.norm is None else normalise(z, self._fresh())
        current = current if self.residual is None else current + self.residual
        alphas = self.alpha if self.alpha.dim() == current.dim() else [self.alpha] * len(current)
        u = torch.zeros_like(current[0])
        for alpha, current_t in zip(alphas, current, strict=True):
            rest = {"hard": torch.zeros_like(u), "soft": u - self.threshold, "none": u}[self.reset]
            u = self.beta * u.where(u < self.threshold, rest) + current_t
            distance = (u - self.threshold).abs()
            edge = (distance - JUMPS[self.surrogate] * alpha).abs() if self.surrogate in JUMPS else distance
            if torch.minimum(distance, edge).min() < NEAR * max(1.0, float(current.abs().max())):
                return True
        return False

    def _fresh(self) -> NormParameters:
        assert self.norm is not None
        running = (self.norm.running_mean.clone(), self.norm.running_var.clone())
        return self.norm._replace(running_mean=running[0], running_var=running[1])

    def __str__(self) -> str:
        kind = "neurons alone" if not self.pool else f"pool {self.pool}"
        norm = "no tdBN" if self.norm is None else f"tdBN {'in training' if self.norm.training else 'in evaluation'}"
        shapes = f"z {tuple(self.z.shape)}, beta {tuple(self.beta.shape)}, alpha {tuple(self.alpha.shape)}"
        return f"{kind}, {norm}, residual {self.residual is not None}, {shapes}, {self.surrogate}, {self.dtype}, {self.layout}, {self.reset}, detach {self.detach}"


@dataclass
class Outcome:
    """What came out of a case: spikes or averages; gradients and statistics by name; number, sum and sum of squares of u."""

    out: Tensor
    others: dict[str, Tensor] = field(default_factory=dict)
    measured: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))

    def same_bits(self, other: "Outcome") -> bool:
        return torch.equal(self.out, other.out) and all(torch.equal(other.others[name], x) for name, x in self.others.items())


def large_case(surrogate: str = "triangular", size: tuple[int, ...] = (4, 5, 33, 16, 46), **changes: Any) -> Case:
    """A case of several chunks, rows in a block, and tiles, with everything in it; ``size`` is (T, B, C, H, W)."""
    z, residual = normal(*size, seed=1, mean=1.0, std=2.0), normal(*size, seed=2, std=0.3)
    vectors = [v.float().double() for v in (normal(size[2], seed=s, mean=1.0, std=0.3).abs() for s in (3, 4, 5, 6))]
    norm = NormParameters(*vectors, True, 0.1, 1e-5, 0.5)
    beta, alpha = torch.tensor(0.375).double(), torch.tensor(1.25).double()
    case = Case(z.float().double(), beta, alpha, 0.5, surrogate, torch.float32, 2, residual.float().double(), norm)
    return dataclasses.replace(case, **changes)


def against_reference(case: Case, backend: str, device: str = "cpu") -> list[str] | None:
    """What differs between a backend and the reference in float64; None for a case where rounding decides."""
    if case.near_a_switch():
        return None
    return differences(case, case.run(backend, case.dtype, device), case.run("reference", torch.float64))


def differences(case: Case, found: Outcome, exact: Outcome) -> list[str]:
    """What differs from the outcome in float64 by more than is allowed."""
    dtype, wide = case.dtype, torch.promote_types(case.dtype, torch.float32)
    wrong = [] if torch.equal(found.out, exact.out.to(wide).to(dtype)) else ["spikes"]
    wrong += [] if _same_moments(case, found.measured, exact.measured) else [f"u: {found.measured}, not {exact.measured}"]
    for name, expected in exact.others.items():
        value, kept = found.others[name], dtype if name in ("z", "residual") else wide
        if value.shape != expected.shape or value.dtype != kept:
            wrong.append(f"{name}: {tuple(value.shape)} {value.dtype}")
        elif not bool(((value.double() - expected).abs() <= _allowed(case, value.dtype, expected)).all()):
            wrong.append(f"{name}: {float((value.double() - expected).abs().max() / expected.abs().max()):.1e} of the largest")
    return wrong


def _same_moments(case: Case, found: Tensor, exact: Tensor) -> bool:
    """Whether u was measured as exactly as float32 is. Neurons outside of all windows may be left out."""
    if exact[0] != case.z.numel():
        return False
    if case.pool and (case.z.shape[3] % case.pool or case.z.shape[4] % case.pool):
        return bool(0 < found[0] <= exact[0])
    scale = torch.stack([torch.tensor(1.0).double(), exact[2].sqrt() * exact[0].sqrt(), exact[2]])
    return bool(((found - exact).abs() <= scale * torch.tensor([0, 1e-5, 1e-5])).all())


def _allowed(case: Case, dtype: torch.dtype, expected: Tensor) -> Tensor:
    """TOLERANCE and one rounding; in bfloat16 also what autograd rounds outside of the backend."""
    eps, largest = torch.finfo(dtype).eps, expected.abs().max()
    allowed = TOLERANCE * largest + eps * expected.abs()
    if expected.numel() == 1:  # a sum over all neurons may cancel to a small part of its terms
        allowed = allowed + torch.finfo(torch.float32).eps * case.z.numel() ** 0.5
    if case.dtype == torch.bfloat16 and case.pool and (case.z.shape[3] % case.pool or case.z.shape[4] % case.pool):
        # Average pooling by itself gives a bfloat16 gradient, which each neuron's share is rounded to.
        rounded = torch.finfo(torch.bfloat16).eps
        allowed = allowed + 2 * rounded * largest
        if expected.numel() == 1:
            allowed = allowed + rounded * case.z.numel() ** 0.5
    return allowed + eps * largest if case.layout == "static" else allowed  # a sum over time of rounded gradients


def random_case(seed: int) -> Case:
    """The case of that number; two of three are tdBN, neurons and pool, the others neurons alone."""
    r, generator = random.Random(seed), torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    dtype = r.choice([torch.float32, torch.float32, torch.bfloat16])
    surrogate, threshold = r.choice(SURROGATES), r.choice([0.5, 1.0])
    sizes = [(1, 2, 3, 5, 8), (1, 2, 3), (1, 2, 3, 5, 8, 16, 17), (2, 3, 4, 5, 7), (2, 3, 4, 6, 9)]
    shape = [r.choice(choices) for choices in sizes]
    alone = r.random() < 1 / 3
    if alone:
        shape = shape[: r.choice([1, 2, 3, 4, 5])]
    z = (draw(*shape) * r.choice([0.3, 1.0]) + r.choice([0.0, 0.5])).to(dtype).double()
    per_channel = (shape[2], *[1] * (len(shape) - 3)) if len(shape) > 2 else ()
    per_step = (shape[0], *[1] * (len(shape) - 1))
    beta = draw(*r.choice([(), (), (1,), per_channel] if len(shape) > 1 else [()])).sigmoid().float().double()
    rule, width = registry.get("method", r.choice(METHODS)).width, torch.tensor(r.choice([0.5, 1.0, 2.0])).double()
    own = {"sigma": 0.6 * width, "ratio": width, "width": width, "u_mean": 0.1 * width, "u_std": 0.6 * width}
    by_rule = rule.alpha(LayerState(shape[0], threshold, beta, width, gamma=1.5 * width, own=own))
    if by_rule.dim() > beta.dim():
        by_rule = by_rule.view(shape[0], *[1] * (len(shape) - by_rule.dim()), *beta.shape)
    per_both = per_step[:2] + per_channel if len(shape) > 2 else per_step
    drawn = draw(*r.choice([(), per_channel, per_step, per_both])).mul(0.3).exp()
    alpha = r.choice([by_rule, drawn]).float().double()
    case = Case(z, beta, alpha, threshold, surrogate, dtype, layout=r.choice(list(LAYOUTS)))
    if not alone:
        C, H, W = shape[2:]
        case.pool = r.choice([1, 1, 2, 2, 3] if min(H, W) > 2 else [1, 2])
        if r.random() < 0.5:
            case.residual = draw(*shape).to(dtype).double()
        if r.random() < 0.75:
            vectors = [v.float().double() for v in (1 + 0.3 * draw(C), 0.3 * draw(C), draw(C), draw(C).exp())]
            training = r.random() < 2 / 3 and LAYOUTS[case.layout](z)[:, :, 0].numel() > 1
            case.norm = NormParameters(*vectors, training, 0.1, 1e-5, threshold * r.choice([1.0, 0.7071]))
    return case


def case_with_options(seed: int) -> Case:
    """The random case of that number with another reset, perhaps detached, and perhaps a learned threshold."""
    r, case = random.Random(seed), random_case(seed)
    case.reset, case.detach, case.learned = r.choice(sorted(RESETS, reverse=True)), r.random() < 0.5, r.random() < 0.75
    case.surrogate, case.dtype = "triangular", torch.float32  # more kernels take longer to compile
    return case
