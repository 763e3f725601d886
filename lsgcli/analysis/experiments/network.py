"""Changes to a network: states, modes, inputs, currents, surrogates, neurons and weights."""

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from lsgcli.analysis.experiments.base import Intervention, OfModules, Values, replace_calls, with_first
from lsgcli.analysis.rules.layers import SaturatedLayers
from lsgcli.analysis.watch import lines
from lsgcli.analysis.watch.forward import NORMS
from lsgcli.analysis.watch.guard import Guard
from lsgcli.analysis.watch.modules import ByIdentity, attributes, first_tensor, is_plain, library_of, tensors, weight_of
from lsgcli.analysis.watch.seen import Seen
from lsgcli.analysis.watch.tensors import is_binary
from lsgcli.registry import register

COMPARISONS = ("__gt__", "__ge__", "gt", "ge")
HOLDERS = ("_memories", "_StatefulLayer__states")  # of states, in spikingjelly and sinabs
KEPT = {*HOLDERS, *(name for name in vars(nn.Module()) if name.startswith("_"))}  # attributes that are no states themselves


@register("intervention", "states-at-rest")
class StatesAtRest(
    OfModules,
    rules=("state-kept", "no-reset", "graph-twice", "batch-dependent"),
    remedy="Reset the states of all neurons before each batch, in training and in evaluation, also of those inside of lists and other modules.",
    at="network",
):
    """the states of all neurons are at rest before each batch"""

    def is_possible(self, seen: Seen) -> bool:
        return bool(seen.kept or any(layer.kept for layer in seen.layers.values()) or seen.error is not None)

    def begin(self, guard: Guard, values: Values) -> None:
        super().begin(guard, values)
        self.rest = ByIdentity()  # what each module stored before its first call
        self.modules: list[nn.Module] = []
        self.of_step = self.of_batch = 0  # calls of networks in a step of training, and since the states were at rest
        guard.enter(register_optimizer_step_post_hook(self._end_step))

    def _end_step(self, *arguments: Any) -> None:
        self.of_step = self.of_batch or self.of_step
        self._rest()

    def _rest(self) -> None:
        self.of_batch = 0
        for module in self.modules:
            for place, before in self.rest.get(module):
                for name, value in list(place.items()):
                    if isinstance(value, nn.Module | nn.Parameter) or next(tensors(value), None) is None:
                        continue
                    if name in before:
                        place[name] = _copied(before[name])
                    elif name not in KEPT:
                        del place[name]  # it is made in the first call

    def given(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if module not in self.rest and not type(module).__module__.startswith("torch."):
            self.rest[module] = _stored(module)
            self.modules.append(module)
        if self.is_network(module):
            if not torch.is_grad_enabled() and self.of_batch >= max(1, self.of_step):
                self._rest()
            self.of_batch += 1
        return arguments


def _stored(module: nn.Module) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The dictionaries of a module that may hold states, each with its values now."""
    own = attributes(module)
    places = [own, own.get("_buffers") or {}, *(own[name] for name in HOLDERS if name in own)]
    return [(place, {name: _copied(value) for name, value in place.items() if name not in KEPT}) for place in places]


def _copied(value: Any) -> Any:
    """A value with copies of its tensors."""
    if is_plain(value) and not isinstance(value, nn.Parameter):
        return value.detach().clone()
    kind = type(value)
    if kind in (tuple, list):
        return kind(map(_copied, value))
    return {key: _copied(entry) for key, entry in value.items()} if kind is dict else value


@register("intervention", "connected-timesteps")
class ConnectedTimesteps(
    Intervention,
    rules=("state-lost", "steps-without-gradient"),
    remedy="Remove detach() of states within the loop over timesteps; detach them once, after each step of the optimiser.",
    at="network",
):
    """states keep their gradient from timestep to timestep"""

    def is_possible(self, seen: Seen) -> bool:
        return any(layer.memory == 0 for layer in seen.layers.values())

    def begin(self, guard: Guard, values: Values) -> None:
        self.since = 0  # number of the first node of this step's graph

        def detach(original: Any, tensor: Tensor) -> Tensor:
            node = tensor.grad_fn
            belongs = node is not None and torch.is_grad_enabled() and node._sequence_nr() >= self.since  # type: ignore[attr-defined]
            return tensor if belongs and lines.calling() else original(tensor)

        def backward(original: Any, *arguments: Any, **options: Any) -> None:
            original(*arguments, **options)
            node = (torch.zeros(1, requires_grad=True) * 1).grad_fn
            self.since = node._sequence_nr()  # type: ignore[union-attr]

        replace_calls(guard, Tensor, ["detach"], detach)
        replace_calls(guard, torch.autograd, ["backward"], backward)


@register("intervention", "training-mode")
class TrainingMode(
    OfModules,
    rules=("evaluation-mode",),
    remedy="Call net.train() before each epoch of training, also after an evaluation.",
    at="network",
):
    """the network is in training mode whenever it trains"""

    def is_possible(self, seen: Seen) -> bool:
        return bool(seen.evaluating)

    def given(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if torch.is_grad_enabled() and self.is_network(module):
            module.train()
        return arguments


@register("intervention", "evaluation-mode")
class EvaluationMode(
    OfModules,
    rules=("training-mode", "running-statistics"),
    remedy="Call net.eval() before each evaluation.",
    at="evaluation",
):
    """the network is in evaluation mode whenever it is evaluated"""

    def is_possible(self, seen: Seen) -> bool:
        return bool(seen.training)

    def given(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if not torch.is_grad_enabled() and self.is_network(module):
            module.eval()
        return arguments


@register("intervention", "no-dropout")
class NoDropout(Intervention, rules=("dropout",), remedy="Drop less: p is the share that is dropped.", at="network"):
    """nothing is dropped out"""

    def is_possible(self, seen: Seen) -> bool:
        return any(p >= 0.5 for p, _ in seen.dropouts)

    def begin(self, guard: Guard, values: Values) -> None:
        def dropped(original: Any, x: Tensor, p: float, training: bool) -> Any:
            return original(x, 0.0, training)

        replace_calls(guard, torch._VF, ("dropout", "dropout_", "feature_dropout", "feature_dropout_"), dropped)


@register("intervention", "axes-exchanged")
class AxesExchanged(
    OfModules,
    rules=("batch-as-time", "batch-dependent"),
    remedy="Exchange the first two axes of the input: x.transpose(0, 1).",
    at="network",
):
    """the first two axes of the input are exchanged"""

    def is_possible(self, seen: Seen) -> bool:
        return seen.axes in (3, 5)  # time, batch and features, or images

    def given(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if arguments and is_plain(arguments[0]) and arguments[0].dim() > 2 and self.is_network(module):
            return (arguments[0].transpose(0, 1).contiguous(), *arguments[1:])
        return arguments


@register("intervention", "standard-input")
class StandardInput(
    OfModules,
    rules=("input-scale", "input-constant"),
    remedy="Scale the input: values to mean 0 and standard deviation 1, spikes so that a tenth of the entries is one.",
    at="network",
):
    """the input has a usual scale"""

    def is_possible(self, seen: Seen) -> bool:
        std = seen.trained_input.get("std", 1.0)
        return bool(seen.arriving < 0.03 or std < 0.1 or std > 5 or seen.trained_input.get("unequal", 0.0) > 10)

    def begin(self, guard: Guard, values: Values) -> None:
        super().begin(guard, values)
        self.moments: tuple[Tensor, Tensor] | None = None  # of the features in the first batch

    def given(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        x = first_tensor(arguments)
        if x is None or not x.is_floating_point() or not self.is_network(module) or x.std() == 0:
            return arguments
        if is_binary(x):
            return with_first(arguments, x * 0.3 / max(float(x.square().mean().sqrt()), 1e-3))
        if self.moments is None:
            each = x.dim() == 2 and len(x) > 1  # samples and features; of images and sequences, all values together
            self.moments = (x.mean(0), x.std(0).clamp_min(1e-6)) if each else (x.mean(), x.std())
        mean, std = self.moments
        return with_first(arguments, (x - mean) / std) if x.shape[-1:] == mean.shape[-1:] or not mean.dim() else arguments


@register("intervention", "new-weights")
class NewWeights(
    OfModules,
    rules=("equal-weights", "initial-scale"),
    remedy="Draw the initial weights at random, as torch.nn.init.kaiming_uniform_ does.",
    at="network",
):
    """the first weights are drawn at random, with the usual scale"""

    def is_possible(self, seen: Seen) -> bool:
        return any(known.equal for known in seen.parameters.values())

    def begin(self, guard: Guard, values: Values) -> None:
        super().begin(guard, values)
        self.drawn = ByIdentity()

    def given(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        weight = weight_of(module)
        if weight is not None and torch.is_grad_enabled() and module not in self.drawn:
            self.drawn[module] = True
            with torch.no_grad():
                nn.init.kaiming_uniform_(weight, nonlinearity="linear")
        return arguments


@register("intervention", "scaled-currents")
class ScaledCurrents(
    OfModules,
    rules=(
        "silent",
        "saturated",
        "potential-scale",
        "initial-scale",
        "signal-lost",
        "input-scale",
        "vanishing",
        "exploding",
        "blocked",
    ),
    general=True,
    remedy="Choose thresholds, initial weights or the scale of the input so that potentials have a standard deviation of about half the threshold.",
    at="network",
):
    """the current of each layer of neurons has a standard deviation of half its threshold"""

    def is_possible(self, seen: Seen) -> bool:
        return bool(self.values(seen))

    def names(self, seen: Seen) -> tuple[str, ...]:
        fires = [layer.spikes / layer.n for layer in seen.layers.values() if layer.n]
        return ("saturated", *self.rules) if min(fires, default=0.0) > SaturatedLayers.limit else self.rules

    def values(self, seen: Seen) -> Values:
        """Thresholds by number of the module with weights, in the order of first calls."""
        thresholds = {layer.weight_id: layer.threshold for layer in seen.layers.values() if layer.weight_id}
        return {str(number): thresholds[weight] for number, weight in enumerate(seen.weighted) if weight in thresholds}

    def begin(self, guard: Guard, values: Values) -> None:
        super().begin(guard, values)
        self.thresholds = ByIdentity()  # of the neurons behind modules with weights
        self.gains = ByIdentity()
        self.count = 0
        self.last: float | None = None  # threshold of the neurons behind the module with weights that ran last

    def returned(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        """The current is what a module with weights puts out, and after that a normalisation."""
        weighted = weight_of(module) is not None
        if weighted and module not in self.thresholds and torch.is_grad_enabled():
            self.thresholds[module] = self.known.get(str(self.count))
            self.count += 1
        if weighted:
            self.last = self.thresholds.get(module)
        if self.last is None or not is_plain(output) or not (weighted or isinstance(module, NORMS)):
            return output
        if module not in self.gains:
            spread = float(output.detach().std())
            if not 0 < spread < float("inf"):
                return output
            self.gains[module] = 0.5 * self.last / spread
        return output * self.gains.get(module)


def is_surrogate(x: Tensor | None, out: Any) -> TypeGuard[Tensor]:
    """Whether a function with a gradient of its own is given potentials x and returns spikes."""
    return x is not None and is_plain(out) and x.shape == out.shape and is_binary(out) and not is_binary(x)


def distance_of(x: Tensor, spikes: Tensor) -> Tensor:
    """Potentials minus their threshold, which is 0 or lies between those that fire and those that do not."""
    values = x.detach()
    fires = spikes != 0
    lowest = values[fires].min() if bool(fires.any()) else values.new_zeros(())
    return x if float(lowest) >= 0 and not bool((values[~fires] > 0).any()) else x - lowest


class _ArcTangent(torch.autograd.Function):
    """Spikes, with the gradient 1 / (1 + (2 x / width)^2) at distances x from the threshold."""

    @staticmethod
    def forward(context: Any, x: Tensor, spikes: Tensor, width: float) -> Tensor:
        context.save_for_backward(x)
        context.width = width
        return spikes.clone()

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Any:  # type: ignore[override]
        (x,) = context.saved_tensors
        return grad / (1 + (2 * x / context.width) ** 2), None, None


@register("intervention", "arc-tangent")
class ArcTangent(
    Intervention,
    rules=("narrow-window", "no-surrogate", "wide-window", "blocked", "vanishing", "exploding"),
    general=True,
    remedy="Use a surrogate gradient as wide as the distribution of the potentials, such as an arc tangent.",
    at="comparison",
):
    """the surrogate gradient is an arc tangent as wide as the distribution of the potentials"""

    def is_possible(self, seen: Seen) -> bool:
        return bool(seen.fires[True]) or "comparison" in seen.lines

    def names(self, seen: Seen) -> tuple[str, ...]:
        return self.rules if seen.fires[True] else ("no-surrogate", *self.rules)

    def values(self, seen: Seen) -> Values:
        return {"compared": not seen.fires[True]}

    def begin(self, guard: Guard, values: Values) -> None:
        self.busy = False
        replace_calls(guard, torch.autograd.Function, ["apply"], self._applied)
        if values["compared"]:
            replace_calls(guard, Tensor, COMPARISONS, self._compared)

    def _applied(self, original: Any, function: Any, *arguments: Any, **options: Any) -> Any:
        out = original(function, *arguments, **options)
        x = first_tensor(arguments[:1])
        if self.busy or not is_surrogate(x, out) or not x.requires_grad:
            return out
        return self._spikes(x, out.detach())

    def _compared(self, original: Any, x: Tensor, threshold: Any) -> Any:
        spikes = original(x, threshold)
        ours = is_plain(x) and x.requires_grad and torch.is_grad_enabled() and x.dim() > 1 and lines.calling()
        return self._spikes(x - threshold, spikes.to(x.dtype)) if ours else spikes

    def _spikes(self, x: Tensor, spikes: Tensor) -> Tensor:
        width = 2 * float(x.detach().std()) if x.numel() > 1 else 1.0
        self.busy = True
        try:
            return _ArcTangent.apply(distance_of(x, spikes), spikes, max(width, 1e-3))  # type: ignore[no-any-return, no-untyped-call]
        finally:
            self.busy = False


@register("intervention", "rectified")
class Rectified(OfModules, general=True, at="network"):
    """neurons are a ReLU of their current"""

    def is_possible(self, seen: Seen) -> bool:
        return any(layer.library for layer in seen.layers.values()) or bool(seen.fires[True])

    def values(self, seen: Seen) -> Values:
        return {"surrogates": not any(layer.library for layer in seen.layers.values())}

    def begin(self, guard: Guard, values: Values) -> None:
        super().begin(guard, values)
        self.moments: dict[Any, tuple[float, float]] = {}  # of the potentials in the first call at a line
        if values["surrogates"]:
            replace_calls(guard, torch.autograd.Function, ["apply"], self._applied)

    def _applied(self, original: Any, function: Any, *arguments: Any, **options: Any) -> Any:
        """Of neurons of the script, a ReLU of potentials, with mean 0 and standard deviation 1 at first, takes the place of spikes."""
        out = original(function, *arguments, **options)
        x = first_tensor(arguments[:1])
        if not is_surrogate(x, out):
            return out
        line = lines.here()
        if line not in self.moments:
            spread = float(x.detach().std()) if x.numel() > 1 else 0.0
            self.moments[line] = float(x.detach().mean()), spread or 1.0
        mean, spread = self.moments[line]
        return torch.relu((x - mean) / spread)

    def returned(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        current = first_tensor(arguments[:1])
        spikes = first_tensor(output)
        fires = library_of(module) and current is not None and spikes is not None and current.shape == spikes.shape
        return with_first(output, torch.relu(current)) if fires and is_binary(spikes) else output  # type: ignore[arg-type]
