"""What was seen of a training: losses, outputs, parameters, modes, and for each layer of neurons its signals and gradients."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from msgspec import Struct, field
from torch import Tensor, nn

from lsgcli.analysis.measures import LEARNED, RECENT, fallen
from lsgcli.analysis.watch.lines import Line, Operand, search
from lsgcli.analysis.watch.surrogates import Values, equivalent_width, heights_by_distance, roundest
from lsgcli.analysis.watch.tensors import explained, norm_of, sampled

Scores = list[tuple[int, float, int]]  # step, share, samples


class Neurons(Struct):
    """Signals and gradients of a layer of neurons in one step of training.

    Attributes:
        name: qualified name of its module, and the line for neurons without a module.
        where: line that builds the module, or calls the neurons.
        weight: of the linear layer or convolution before it, until the step is measured.
        weight_id: its id; 0 if it is unknown.
        calls: number of calls, one per timestep or one for all.
        v_th: the threshold that its module stores, or that a comparison has; NaN if none is known.
        rests: whether its function is known to be given u - v_th.
        spikes, n: sum and number of outputs.
        u, u_squared, m: sums over a sample of m values that its function is given.
        silent, firing: the largest of these without a spike, and the smallest with one.
        samples: of calls, some of these values, and the surrogate there, NaN where no gradient arrives.
        arriving, du: squared norm of dL/do and dL/du at each call.
        zeros, entries: exact zeros among the entries of dL/du, of calls whose spikes have a gradient.
        unreset: decay of neurons that are not reset; 0 of others.
        ignores: whether its surrogate passes a gradient on where none arrives.
        not_finite: whether dL/du is not finite while dL/do is.
        rested: calls after the first that began at rest.
        holds: whether the last call began with a state that was not at rest.
        nodes: of the potentials of each call, the number of the module call, and that of the node in the graph.
        memory: derivative of potentials by those of the timestep before; 0 if no graph connects them, NaN if unknown.
        compares: whether its spikes are a comparison in the user's code, whose gradient, if any, is added otherwise.
        detached: whether the spikes have no gradient, although the current has one.
        library: package of its module, if it is one of known libraries.
        kept: whether it starts the step with a state that is not at rest.
        shape: of the spikes of a call.
        spread: standard deviation of its weights times the root of their number for each neuron, in units of the threshold.
        grad_norm: norm of the gradient of its weights.
        threshold: v_th, in whose units u is recorded.
        extra: measures that are known otherwise.
    """

    name: str
    where: Line | None = None
    weight: nn.Parameter | None = None
    weight_id: int = 0
    calls: int = 0
    v_th: float = math.nan
    rests: bool = False
    spikes: float = 0.0
    n: int = 0
    u: float = 0.0
    u_squared: float = 0.0
    m: int = 0
    silent: float = -math.inf
    firing: float = math.inf
    samples: list[tuple[Values, Values]] = []
    arriving: dict[int, float] = {}
    du: dict[int, float] = {}
    zeros: int = 0
    entries: int = 0
    ignores: bool = False
    not_finite: bool = False
    rested: int = 0
    holds: bool = False
    nodes: list[tuple[int, int]] = []
    memory: float = math.nan
    compares: bool = False
    detached: bool = False
    library: str = ""
    kept: bool = False
    unreset: float = 0.0
    shape: tuple[int, ...] = ()
    spread: float = math.nan
    grad_norm: float = math.nan
    threshold: float = 1.0
    extra: dict[str, Any] = {}

    def fired(self, spikes: Tensor) -> None:
        """Add the spikes of a call."""
        values = sampled(spikes)
        self.shape = tuple(spikes.shape)
        self.n += len(values)
        self.spikes += float((values != 0).sum())

    def potentials(self, x: Tensor, spikes: Tensor) -> None:
        """Add values x that its function is given in a call, and the spikes."""
        sample = sampled(x)
        values = sample.double()
        fires = sampled(spikes) != 0
        self.u += float(values.sum())
        self.u_squared += float(values.square().sum())
        self.m += len(values)
        self.firing = min(self.firing, float(sample.masked_fill(~fires, math.inf).min()))
        self.silent = max(self.silent, float(sample.masked_fill(fires, -math.inf).max()))

    def boundary(self) -> float:
        """The value above which its function fires: v_th, or 0 if it is given u - v_th."""
        low, high = sorted([self.silent, self.firing])
        if self.compares:
            return self.v_th
        if self.rests or low <= 0 <= high:
            return 0.0
        if low <= self.v_th <= high:
            return self.v_th
        if math.isinf(low):
            return 0.0
        # If none fires, the threshold is above the largest potential: at least there.
        return low if math.isinf(high) else roundest(low, high)

    def measure(self, grads: bool) -> None:
        """Compute what is known at the end of a step, with the weights' gradients if they have any."""
        self.threshold = self.boundary() or self.threshold
        weight = self.weight
        if weight is None:
            return
        self.weight = None
        self.weight_id = id(weight)
        self.spread = float(weight.std()) * math.sqrt(weight[0].numel()) / self.threshold
        if grads and weight.grad is not None:
            self.grad_norm = norm_of([weight.grad])

    def surrogate(self) -> dict[str, float]:
        """Width, coverage and moments of the surrogate, from the values at which it is known."""
        if not self.samples:
            return {}
        distance = np.concatenate([x for x, _ in self.samples]) - self.boundary()
        known, heights = heights_by_distance(distance, np.concatenate([h for _, h in self.samples]))
        spread = max(self.threshold, float(distance.std()))
        width = equivalent_width(known, heights, 0.1 * spread)
        if math.isnan(width) or not width:
            return {}
        everywhere = np.interp(np.abs(distance), known, heights)
        return {
            "alpha": width,
            "coverage": float((np.abs(distance) < width / 2).mean()),
            "sg_mean": float(everywhere.mean()),
            "sg_sq_mean": float(np.square(everywhere).mean()),
        }

    @property
    def falls(self) -> bool:
        """Whether its surrogate is negative."""
        return sum(float(np.nansum(heights)) for _, heights in self.samples) < 0

    def record(self, reference: float) -> dict[str, Any]:
        """The layer as in a gradient-flow record, as far as it is known: NaN stands for unknown, and leaves the field out."""
        potentials = self.m or math.nan
        mean = self.u / potentials
        known = {
            "firing_rate": self.spikes / (self.n or math.nan),
            "u_mean": (mean - self.boundary()) / self.threshold + 1,
            "u_std": math.sqrt(max(self.u_squared / potentials - mean**2, 0.0)) / self.threshold,
            **self.surrogate(),
            "grad_zero": self.zeros / (self.entries or math.nan),
            "beta": self.memory or math.nan,
            "grad_norm": self.grad_norm,
            "grad_ratio": self.grad_norm / (reference or math.nan),
        }
        known = {key: number for key, number in known.items() if math.isfinite(number)}
        return {"name": self.name, **known, **self.extra}


class Parameters(Struct):
    """A parameter of the networks, over the measured steps.

    Attributes:
        name: qualified name.
        where: line that builds its module.
        frozen: ``requires_grad`` is off.
        optimised: whether an optimiser has it.
        gradients: of each measured step, the norm of its gradient; None without one.
        equal: whether all values of a matrix are equal at the start; None of vectors.
        updates: their relative sizes, of measured steps.
    """

    name: str
    where: Line | None
    size: int
    frozen: bool = False
    optimised: bool = False
    gradients: list[float | None] = []
    equal: bool | None = None
    updates: list[float] = []


class Outputs(Struct):
    """What a loss function was given in a measured step: ``values`` (B, classes), after a sum over its calls, and ``labels``; ``targets`` of losses that compare values."""

    loss: str
    values: Tensor
    labels: Tensor
    calls: int = 1
    targets: Tensor | None = None


class Failure(Struct):
    """An error that ended a script: the name of its class, and its message."""

    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


class Seen(Struct):
    """All that was seen. Lines are where the user's code did it first.

    Attributes:
        steps: steps of optimisers, counting simultaneous ones once.
        losses: on which ``backward`` was called, one per step.
        accuracy: of each step whose loss was given outputs and labels: (step, share of correct samples, samples).
        evaluated: the same without gradients.
        layers: of the last measured step.
        parameters: by id.
        lines: of what was called: "backward", "step", "loss", "network", "evaluation", "optimiser"; of a comparison of values with a
            gradient, "comparison"; and of the error.
        first: records of the first measured step, by layer.
        spreads: of the layers' weights then.
        kept: layers that begin an evaluation with a state, and the lines that build them.
        momenta: of normalisations with running statistics.
        broken: ids of the parameters that were not finite when the loss was not for the first time; empty if all were.
        error: what ended the script.
        shapes: of outputs and targets of which a loss repeats one along an axis of the other.
        repeated: measured steps with the labels of the step before.
        agreements: by stage ("input" of the network, "first" layer with weights, "outputs", and those of the first steps, "begin") and layout, sums over
            the measured steps of :func:`agreement`.
        repetition: correlation, over samples, of the input's means over the earlier and the later half of the timesteps.
        same_input: measured steps with the input of the measured step before and other labels.
        explained: of each step of a regression, as ``accuracy``, the share of the variance of its targets (R^2).
        evaluated_explained, correlation: R^2 in evaluation, and the correlation of predictions and targets.
        decisions: what was compared in evaluation.
        ranked: area under the curve of scores in evaluation.
        outside: a target of a binary cross-entropy that is not between 0 and 1; 0 if there is none.
        pull: of measured steps, the gradient at the outputs of the labels' classes beside the others, over their mean size; below 0 in a descent.
        softmax: what is passed through a softmax before a loss that has its own: its "classes" or "another axis".
        smoothing: largest label smoothing.
        negative: layers whose surrogate was negative in a measured step.
        elsewhere: whether another network is evaluated than the one that trains.
        restored: whether the network that is evaluated has other weights than after its last step.
        ended: whether the script came to its end.
        arriving: share of spikes in the input of the first module with weights, if it has spikes.
    """

    steps: int = 0
    losses: list[Any] = []
    accuracy: Scores = []
    evaluated: Scores = []
    layers: dict[Any, Neurons] = {}
    records: list[dict[str, Any]] = []
    parameters: dict[int, Parameters] = {}
    shared: dict[tuple[str, str], None] = {}  # names of what is one module or parameter, in order
    lines: dict[str, Line] = {}
    networks: list[str] = []
    evaluating: dict[str, Line | None] = {}  # modules in evaluation mode in training
    training: dict[str, Line | None] = {}  # modules in training mode in evaluation
    kept: dict[str, Line | None] = {}
    dropouts: set[tuple[float, Line | None]] = set()
    momenta: dict[str, tuple[float, Line | None]] = {}
    input: dict[str, Any] = {}
    trained_input: dict[str, Any] = {}  # of the first call of a step
    evaluated_input: dict[str, Any] = {}
    batch: int = 0
    axes: int = 0  # of the network's input
    weighted: dict[int, None] = {}  # ids of matrices of modules, in the order of their first calls
    drawn: bool = False  # whether a data loader was
    timesteps: int = 0
    outputs: Outputs | None = None
    classes: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    largest_class: list[float] = []  # its share of each batch
    backwards: int = 0
    leaves: int = 0  # backward passes of tensors without a graph
    moved: bool = False  # parameters changed without a step
    has_optimiser: bool = False
    weight_decay: float = 0.0
    largest_update: float = 0.0  # relative, of a weight
    broken: set[int] | None = None
    first: dict[str, dict[str, Any]] = {}
    spreads: dict[str, float] = {}
    accumulated: int = 0  # steps with gradients that an earlier step has used
    without_backward: int = 0  # steps of optimisers without a backward pass before
    shapes: tuple[torch.Size, torch.Size] | None = None
    repeated: int = 0
    agreements: dict[tuple[str, str], Tensor] = {}
    same_input: int = 0
    repetition: float = math.nan
    explained: Scores = []
    evaluated_explained: float = math.nan
    correlation: float = math.nan
    decisions: list[Any] = []
    ranked: float = math.nan
    outside: float = 0.0
    pull: list[float] = []
    softmax: str = ""
    flat: str = ""  # an operation without a derivative
    smoothing: float = 0.0
    negative: dict[str, None] = {}
    elsewhere: bool = False
    restored: bool = False
    ended: bool = False
    arriving: float = math.nan
    clipped: list[float] = []  # norm of gradients at the step over that after backward
    settings: dict[str, Any] = {}  # of the first group of an optimiser
    # By module with weights behind neurons, at each call, the share of its input that is not 0.
    entering: dict[str, list[float]] = {}
    parts: list[Any] = []  # of each loss, the loss function of the outputs
    rate: float = math.nan  # largest learning rate of the last step
    highest_rate: float = 0.0  # learning rate so far, or that a schedule is given
    low: int = 0  # steps with a small part of that rate
    shrink: float = 0.0  # share of the weights that a step takes away by weight decay alone
    overwritten: int = 0  # steps before which weights were no longer those after the step before
    runs: Counter[bool] = field(default_factory=Counter)  # calls of the network with gradients, and without
    fires: Counter[bool] = field(default_factory=Counter)  # of surrogates
    beyond: tuple[str, Line | None] | None = None  # the module whose outputs were too large before the first step
    error: Failure | None = None
    operands: list[Operand] = []  # of the call that failed
    failed: dict[str, str] = {}  # what could not be observed, and why
    compiled: bool = False  # whether torch.compile compiled something

    def add(self, name: str, parameter: Tensor, where: Line | None) -> None:
        """Keep a parameter, if it is not known."""
        if id(parameter) not in self.parameters:
            equal = bool((parameter == parameter.reshape(-1)[0]).all()) if parameter.dim() > 1 else None
            self.parameters[id(parameter)] = Parameters(
                name, where, parameter.numel(), not parameter.requires_grad, equal=equal
            )

    def note(self, what: str, line: Line | None) -> None:
        """Keep the line of the user's code that did something first."""
        if line is not None:
            self.lines.setdefault(what, line)

    def search(self, pattern: str) -> Iterator[Line]:
        """The lines of the user's files in which a regular expression matches."""
        return search(pattern, dict.fromkeys(line.file for line in self.lines.values()))

    def line_with(self, pattern: str) -> Line | None:
        """The first of these lines."""
        return next(self.search(pattern), None)

    def line_of(self, layer: str) -> Line | None:
        """The line of a layer of neurons."""
        return next((neurons.where for neurons in self.layers.values() if neurons.name == layer), None)

    @property
    def thresholds(self) -> dict[str, float]:
        """Of the layers of neurons."""
        return {layer.name: layer.threshold for layer in self.layers.values()}

    def numbers(self) -> list[float]:
        """The losses as numbers."""
        return [float(loss) for loss in self.losses]

    @property
    def update(self) -> float:
        """Median relative size of the last measured update of the weights; NaN if it is unknown."""
        updates = []
        for parameter in self.parameters.values():
            trains = parameter.optimised and parameter.gradients and (parameter.gradients[-1] or 0) > 1e-5
            if trains and parameter.size > 64 and parameter.updates:
                updates.append(parameter.updates[-1])
        updates.sort()
        return updates[len(updates) // 2] if updates else math.nan

    @property
    def adaptive(self) -> bool:
        """Whether the optimiser divides gradients by their size."""
        return "betas" in self.settings or "eps" in self.settings

    @property
    def maximises(self) -> bool:
        """Whether the optimiser was asked to."""
        return self.settings.get("maximize") is True

    @property
    def least_update(self) -> float:
        """The size of updates that together change little; without an adaptive optimiser, which adds up noise, it is larger."""
        return min(2e-3, (0.1 if self.adaptive else 0.3) / max(1, self.steps))

    @property
    def progress(self) -> float:
        """Share by which the loss fell from its start, the mean of the first steps, to the mean of the last; NaN with fewer than 5 steps."""
        return fallen(self.losses)

    @property
    def progresses(self) -> bool:
        """Whether the network learns: its accuracy is clearly above that of guessing, or unknown and the loss fell by 20 %."""
        return self.progress > 0.2 if math.isnan(self.skill) else self.skill > 0.2

    @property
    def learned(self) -> bool:
        """Whether the network classifies most samples correctly, in training and in evaluation."""
        return self.error is None and self.recent(self.accuracy or self.explained) > LEARNED and not self.gap > 0.3

    @property
    def learned_before(self) -> bool:
        """Whether it classified most samples correctly in a fifth of the steps or more."""
        right = sum(accuracy > LEARNED for _, accuracy, _ in self.accuracy)
        return right > len(self.accuracy) // 5

    @property
    def skill(self) -> float:
        """Accuracy in training on a scale from 0, guessing, to 1, or R^2; NaN if it is unknown."""
        if not self.classes:
            return self.recent(self.explained)
        return (self.recent(self.accuracy) - self.chance) / (1 - self.chance + 1e-9)

    def separability(self, stage: str) -> dict[str, float]:
        """For each layout of a stage, by how many standard deviations more neighbours share their labels than random samples do."""
        known = {layout: sums.tolist() for (name, layout), sums in self.agreements.items() if name == stage}
        return {layout: (right - chance) / variance**0.5 for layout, (right, chance, variance) in known.items() if variance > 5}

    def separable(self, *stages: str) -> float:
        """The :meth:`separability` of labels in the best layout of some stages; NaN if none is known."""
        return max((z for stage in stages for z in self.separability(stage).values()), default=math.nan)

    def fits(self, values: Tensor, targets: Tensor) -> None:
        """Predictions of targets in evaluation, (B, ...) each."""
        if len(values) > 1:
            self.evaluated_explained = explained(values, targets)
            pair = torch.stack([values.flatten(), targets.flatten()])
            self.correlation = float(torch.corrcoef(pair.float())[0, 1])

    @property
    def chance(self) -> float:
        """Accuracy of guessing the most frequent class."""
        return max(1 / max(1, self.classes), max(self.labels.values(), default=0) / max(1, self.labels.total()))

    @property
    def held_out(self) -> float:
        """Accuracy in the last evaluation; NaN without any."""
        return self.recent([score for score in self.evaluated if score[0] == self.evaluated[-1][0]])

    @property
    def gap(self) -> float:
        """Accuracy in training minus that of the last evaluation, at the same time; NaN if one of them is unknown."""
        last = self.evaluated[-1][0] if self.evaluated else 0
        return self.recent([score for score in self.accuracy if last - 5 <= score[0] < last]) - self.held_out

    def recent(self, pairs: Sequence[tuple[int, float, int]]) -> float:
        """Mean of the last accuracies; NaN without any."""
        last = pairs[-RECENT:]
        samples = sum(count for _, _, count in last)
        return sum(share * count for _, share, count in last) / samples if samples else math.nan
