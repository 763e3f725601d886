"""What was seen of a training: losses, outputs, parameters, modes, and for each layer of neurons its signals and gradients."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli.analysis.watch.lines import Line

SAMPLE = 100_000  # entries of a tensor of which moments are computed
RECENT = 20  # losses and accuracies that count as the last


def sampled(x: Tensor) -> Tensor:
    """At most about ``SAMPLE`` entries of x, evenly spaced, (n,), float32, without gradient."""
    flat = x.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // SAMPLE)].float()


def first_tensor(value: Any) -> Tensor | None:
    """A tensor, or the first tensor of a tuple, list or mapping; None if there is none."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, tuple | list | type({}.values())):
        for part in value:
            if (tensor := first_tensor(part)) is not None:
                return tensor
    return None


def is_binary(x: Tensor) -> bool:
    """Whether a floating tensor has the values 0 and one other value above it, in a sample; also if all are 0."""
    if not x.is_floating_point() or not x.numel():
        return False
    values = sampled(x)
    top = values.max()
    return bool(((values == 0) | (values == top)).all()) and bool(top >= 0) and not bool((values == top).all() and top > 0)


@dataclass
class Neurons:
    """Signals and gradients of a layer of neurons in one step of training.

    Attributes:
        name: qualified name of its module, and the line for neurons without a module.
        where: line that builds the module, or calls the neurons.
        weight: weight of the linear layer or convolution before it.
        calls: number of calls, one per timestep or one for all.
        threshold: v_th, in whose units u is recorded.
        spikes, n: sum and number of outputs.
        rates: firing rate of each call.
        u, u_squared, m: sums over a sample of m potentials before the reset, in units of the threshold.
        inside, h, h_squared: of the same sample, how many are inside the surrogate, and sums of the surrogate.
        width: equivalent width of the surrogate.
        arriving, du: squared norm of dL/do and dL/du at each call.
        zeros, entries: exact zeros among the entries of dL/du.
        not_finite: whether dL/du is not finite while dL/do is.
        detached: whether the spikes have no gradient, although the current has one.
        kept: whether it starts the step with a state that is not at rest.
        shape: of the spikes of a call.
        extra: measures that are known otherwise.
    """

    name: str
    where: Line | None = None
    weight: nn.Parameter | None = None
    calls: int = 0
    threshold: float = 1.0
    spikes: float = 0.0
    n: int = 0
    rates: list[float] = field(default_factory=list)
    u: float = 0.0
    u_squared: float = 0.0
    m: int = 0
    inside: float = 0.0
    h: float = 0.0
    h_squared: float = 0.0
    width: float = math.nan
    arriving: dict[int, float] = field(default_factory=dict)
    du: dict[int, float] = field(default_factory=dict)
    zeros: int = 0
    entries: int = 0
    not_finite: bool = False
    detached: bool = False
    kept: bool = False
    shape: tuple[int, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    def fired(self, spikes: Tensor) -> None:
        """Add the spikes of a call."""
        values, self.shape = sampled(spikes), tuple(spikes.shape)
        self.n += values.numel()
        count = float((values != 0).sum())
        self.spikes += count
        self.rates.append(count / max(1, values.numel()))

    def potentials(self, x: Tensor, heights: Tensor | None) -> None:
        """Add u - v_th of a sample, and the surrogate there."""
        u = x / self.threshold + 1
        self.u += float(u.double().sum())
        self.u_squared += float(u.double().square().sum())
        self.m += u.numel()
        if heights is not None:
            self.inside += float((x.abs() < self.width / 2).sum())
            self.h += float(heights.double().sum())
            self.h_squared += float(heights.double().square().sum())

    def record(self, grad_norm: float, reference: float) -> dict[str, Any]:
        """The layer as in a gradient-flow record, as far as it is known."""
        measured = self.m > 0
        mean = self.u / self.m if measured else math.nan
        variance = self.u_squared / self.m - mean**2 if measured else math.nan
        has_width = measured and math.isfinite(self.width)
        known: dict[str, Any] = {
            "name": self.name,
            "firing_rate": self.spikes / self.n if self.n else math.nan,
            "grad_norm": grad_norm,
            "grad_ratio": grad_norm / reference if reference > 0 else math.nan,
        }
        if measured:
            known |= {"u_mean": mean, "u_std": math.sqrt(max(0.0, variance))}
        if has_width:
            known |= {
                "alpha": self.width,
                "coverage": self.inside / self.m,
                "sg_mean": self.h / self.m,
                "sg_sq_mean": self.h_squared / self.m,
            }
        if self.entries:
            known["grad_zero"] = self.zeros / self.entries
        return known | self.extra


@dataclass
class Parameters:
    """A parameter of the networks, over the measured steps.

    Attributes:
        name: qualified name.
        where: line that builds its module.
        frozen: ``requires_grad`` is off.
        optimised: whether an optimiser has it.
        gradients: of each measured step, the norm of its gradient; None without one.
        changed: between successive measured steps, whether its values changed.
        equal: whether all its values are equal at the start.
        update: relative size of the last measured update.
    """

    name: str
    where: Line | None
    size: int
    frozen: bool = False
    optimised: bool = False
    gradients: list[float | None] = field(default_factory=list)
    changed: list[bool] = field(default_factory=list)
    equal: bool = False
    update: float = math.nan
    fingerprint: float = math.nan


@dataclass
class Outputs:
    """What a loss function was given in a measured step: ``values`` (B, classes), after a sum over its calls, and ``labels``."""

    loss: str
    where: Line | None
    values: Tensor
    labels: Tensor | None
    calls: int = 1


@dataclass
class Seen:
    """All that was seen. Lines are where the user's code did it first.

    Attributes:
        steps: steps of optimisers, counting simultaneous ones once.
        losses: on which ``backward`` was called, one per step.
        accuracy: of each step whose loss was given outputs and labels: (step, share of correct samples, samples).
        evaluated: the same without gradients.
        layers: of the last measured step.
        parameters: by id.
        lines: of what was called: "backward", "step", "loss", "network".
        error: the exception that ended the script, and its line.
    """

    steps: int = 0
    losses: list[Any] = field(default_factory=list)
    accuracy: list[tuple[int, float, int]] = field(default_factory=list)
    evaluated: list[tuple[int, float, int]] = field(default_factory=list)
    layers: dict[Any, Neurons] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    parameters: dict[int, Parameters] = field(default_factory=dict)
    shared: list[tuple[str, str]] = field(default_factory=list)
    lines: dict[str, Line] = field(default_factory=dict)
    networks: list[str] = field(default_factory=list)
    evaluating: dict[str, Line | None] = field(default_factory=dict)  # modules in evaluation mode in training
    training: dict[str, Line | None] = field(default_factory=dict)  # modules in training mode in evaluation
    dropouts: dict[str, tuple[float, Line | None]] = field(default_factory=dict)
    input: dict[str, float] = field(default_factory=dict)
    batch: int = 0
    timesteps: int = 0
    outputs: Outputs | None = None
    classes: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    accumulated: int = 0  # backward passes that added to gradients of an earlier step
    without_backward: int = 0  # steps of optimisers without a backward pass before
    clipped: list[float] = field(default_factory=list)  # norm of gradients at the step over that after backward
    rates: list[float] = field(default_factory=list)  # learning rates of the groups of an optimiser
    error: BaseException | None = None
    failed_at: Line | None = None

    def note(self, what: str, line: Line | None) -> None:
        """Keep the line of the user's code that did something first."""
        if line is not None:
            self.lines.setdefault(what, line)

    def line_of(self, layer: str) -> Line | None:
        """The line of a layer of neurons."""
        return next((neurons.where for neurons in self.layers.values() if neurons.name == layer), None)

    def numbers(self) -> list[float]:
        """The losses as numbers."""
        return [float(loss) for loss in self.losses]

    @property
    def progress(self) -> float:
        """Share by which the loss fell from its start, the mean of the first steps, to the mean of the last; NaN with fewer than 5 steps."""
        losses = self.numbers()
        if len(losses) < 5:
            return math.nan
        start, last = losses[:3], losses[-min(RECENT, len(losses) // 3) :]
        first = sum(start) / len(start)
        return (first - sum(last) / len(last)) / abs(first) if first else math.nan

    @property
    def progresses(self) -> bool:
        """Whether the network learns: its accuracy is three times that of guessing and 10 points above it, or unknown and the loss fell by 30 %."""
        accuracy = self.recent(self.accuracy)
        if math.isnan(accuracy) or not self.classes:
            return self.progress > 0.3
        chance = max(1 / self.classes, max(self.labels.values(), default=0) / max(1, self.labels.total()))
        return accuracy > chance + 0.1 and (accuracy > 3 * chance or accuracy > 0.75 + 0.25 * chance)

    def recent(self, pairs: Sequence[tuple[int, float, int]]) -> float:
        """Mean of the last accuracies; NaN without any."""
        last = pairs[-RECENT:]
        samples = sum(count for _, _, count in last)
        return sum(share * count for _, share, count in last) / samples if samples else math.nan


def norm_of(tensors: Iterable[Tensor]) -> float:
    """Euclidean norm of some tensors together."""
    return math.sqrt(sum(float(tensor.detach().double().square().sum()) for tensor in tensors))


def moments(x: Tensor, batch: int) -> dict[str, float]:
    """Statistics of a network's input, whose axis of ``batch`` entries is that of the samples."""
    values = sampled(x)
    axis = next((axis for axis, size in enumerate(x.shape) if size == batch), None)
    by_sample = values[None] if axis is None else x.detach().movedim(axis, 0).flatten(1)[:8].float()
    return {
        "mean": float(values.mean()),
        "std": float(values.std()) if values.numel() > 1 else 0.0,
        "min": float(values.min()),
        "max": float(values.max()),
        "finite": float(torch.isfinite(values).all()),
        "equal_samples": float(len(by_sample) > 1 and bool((by_sample == by_sample[:1]).all())),
    }
