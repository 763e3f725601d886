"""The forward pass of a watched training: which modules run, in which mode, and which of them are neurons that fire."""

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from lsgcli.analysis.lif_watchers import own_layer
from lsgcli.analysis.sums import signal
from lsgcli.analysis.watch import lines
from lsgcli.analysis.watch.evaluation import Readout
from lsgcli.analysis.watch.guard import Guard
from lsgcli.analysis.watch.lines import Line
from lsgcli.analysis.watch.modules import (
    ByIdentity,
    attributes,
    first_tensor,
    holds_a_state,
    library_of,
    own_parameters,
    parameters_of,
    states,
    threshold_of,
    unreset_decay,
    walk,
    weight_of,
)
from lsgcli.analysis.watch.seen import Neurons, Seen
from lsgcli.analysis.watch.tensors import axis_of, is_binary, is_count, kept, memory, moments, norm_of, sampled, thinned
from lsgcli.analysis.watchers import Watcher
from lsgcli.neurons import LIF

NORMS = (nn.modules.batchnorm._NormBase,)
LARGE = 1e9  # norm of outputs that no usual module has
CALLS = 64  # of which inputs are kept
DROPOUTS = (nn.modules.dropout._DropoutNd,)
GIVEN_DISTANCE = ("snntorch", "spikingjelly", "norse")  # their functions are given u - v_th


class Fired(NamedTuple):
    """A call of a surrogate, or of a comparison that may be one.

    Attributes:
        x, out: what it was given, and the spikes.
        threshold: of a comparison; None of a surrogate.
        line: of the user that called it.
        synapse: the weight before it.
    """

    x: Tensor
    out: Tensor
    threshold: float | None
    line: Line | None
    synapse: nn.Parameter | None


@dataclass
class Call:
    """A module that runs: the surrogates that it has called, and the layers of neurons that ran inside of it."""

    module: nn.Module
    fired: list[Fired] = field(default_factory=list)
    layers: int = 0


class Forward:
    """Observes the modules that run.

    Args:
        seen: what is seen is added to it.
        guard: through which hooks of the graph observe gradients.

    Attributes:
        built: the user's line that built a module or optimiser.
        stack: the modules that run, the innermost last.
        layers: layers of neurons of this step, by module, or by module and line.
        roots: networks of this step, which no other module calls, and modules apart that run.
        apart: modules that run inside of networks that do not have them.
        loose: parameters of an optimiser, where there is no module.
        calls: number of their calls.
        entries: inputs of the calls of the first network ("input"), and of its first module with weights ("first").
        own: watchers of layers of lsg.
        owners: references to the modules that have the parameters, and the names there, by id of the parameter.
    """

    def __init__(self, seen: Seen, guard: Guard):
        self.seen = seen
        self.guard = guard
        self.built = ByIdentity()
        self.names = ByIdentity()
        self.shapes = ByIdentity()  # of spikes
        self.called: set[int] = set()  # layers, in this batch of an evaluation
        self.per_batch = 1  # calls of the network
        self.before: list[weakref.ref[nn.Module]] = []  # networks of the step before
        self.roots: list[weakref.ref[nn.Module]] = []
        self.apart = ByIdentity()
        self.loose: list[Tensor] = []
        self.axis = -1  # of the samples in the network's input
        self.runs = 0  # modules of neurons that have run
        self.readout = Readout()
        self.own: dict[LIF, Watcher] = {}
        self.owners: dict[int, tuple[Callable[[], Any], str]] = {}
        self.stack: list[Call] = []
        self.start()

    def begin_evaluation(self) -> None:
        """Begin an evaluation."""
        self.called.clear()
        self.ended = False  # whether labels were drawn or compared since the first call of a batch
        self.evaluated = self.of_batch = 0
        self.readout.calls = {}
        self.readout.decided = []

    def start(self) -> None:
        """Begin a step."""
        self.begin_evaluation()
        self.stack = []
        self.layers: dict[Any, Neurons] = {}
        self.before = self.roots
        self.roots = []
        self.calls = 0
        self.entries: dict[str, tuple[int, list[Tensor]]] = {}
        self.synapse: nn.Parameter | None = None

    def release(self) -> None:
        """Observe lsg's neurons no longer."""
        for watcher in self.own.values():
            watcher.close()
        self.own = {}
        self.synapse = None

    @property
    def innermost(self) -> nn.Module | None:
        """The module that runs."""
        return self.stack[-1].module if self.stack else None

    def parameters(self) -> list[Any]:
        """The parameters of the networks of this step, or before these run, of the step before."""
        roots = alive(self.roots) or alive(self.before)
        return [parameter for root in roots for parameter in parameters_of(root)] if roots else self.loose

    def gradients(self) -> list[Tensor]:
        """Their gradients."""
        return [parameter.grad for parameter in self.parameters() if parameter.grad is not None]

    def enters(self, module: nn.Module, *arguments: Any) -> None:
        """Before a module runs."""
        grads = self.guard.grads
        has_parameters = any(own_parameters(part) for _, part in walk(module))
        if not self.stack and has_parameters and not isinstance(module, nn.modules.loss._Loss):
            self._network(module, arguments)
        elif has_parameters and self._is_apart(module):
            self.roots.append(weakref.ref(module))
        self.stack.append(Call(module))
        trains = attributes(module)["training"]
        if isinstance(module, NORMS + DROPOUTS) and grads != trains and not (grads and _frozen(module)):
            modes = self.seen.evaluating if grads else self.seen.training
            modes.setdefault(self.name(module), self.built.get(module))
        self._begins(module, arguments)
        weight = weight_of(module)
        if grads and weight is not None:
            self.synapse = weight
            self.seen.weighted.setdefault(id(weight))
            x = first_tensor(arguments)
            if self.layers and x is not None:
                self.seen.entering.setdefault(self.name(module), []).append(float((sampled(x) != 0).float().mean()))
            if "first" in self.entries or not self.layers:  # before any neurons
                self._enters("first", module, x)

    def _begins(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        """The state with which neurons begin a batch, or a timestep after the first."""
        shape = self.shapes.get(module)
        begins = id(module) not in self.called
        self.called.add(id(module))
        if shape is None:
            return
        holds = holds_a_state(module, arguments, shape)
        if not self.guard.grads:
            if begins and holds:
                self.seen.kept[self.name(module)] = self.built.get(module)
        elif not begins:
            layer = self._layer(module)
            layer.holds = holds
            layer.rested += bool(library_of(module)) and not holds
        elif holds:
            self._layer(module).kept = True

    def _enters(self, stage: str, module: nn.Module, x: Tensor | None) -> None:
        first, calls = self.entries.setdefault(stage, (id(module), []))
        if first == id(module) and x is not None and len(calls) < CALLS:
            x = kept(x)
            if not calls or x.shape == calls[0].shape:
                calls.append(x)

    def _is_apart(self, module: nn.Module) -> bool:
        """Whether a module with parameters runs inside a network that does not have it, as those of a plain list."""
        if module not in self.names and self.guard.grads:
            for root in alive(self.roots):
                self.parts(root)  # which may have made it in its first call
            if module not in self.names:
                self.parts(module)
                self.apart[module] = None
        return module in self.apart and all(root is not module for root in alive(self.roots))

    def _network(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        """A call of a module that no other module calls."""
        seen = self.seen
        seen.runs[self.guard.grads] += 1
        x = first_tensor(arguments)
        x = None if x is None or not x.numel() or not x.is_floating_point() else x.detach()
        if not self.guard.grads:
            self._evaluates(module, x)
            return
        seen.note("network", lines.here())
        self.calls += 1
        self._enters("input", module, x)
        if x is not None and self.calls == 1:
            self.axis = axis_of(x, seen.batch)
            seen.axes = x.dim()
            seen.trained_input = moments(x, self.axis)
        if any(root is module for root in alive(self.roots)):
            return
        self.roots.append(weakref.ref(module))
        if type(module).__name__ not in seen.networks:
            seen.networks.append(type(module).__name__)
        self.parts(module)
        for _, part in walk(module):
            if isinstance(part, LIF) and part not in self.own:
                self.own[part] = own_layer(self.name(part), part, part.b).watch(full=True, guard=self.guard)

    def _evaluates(self, module: nn.Module, x: Tensor | None) -> None:
        """A call of a network without gradients."""
        seen = self.seen
        # Another batch, rather than a timestep that batches of training do not have.
        if self.per_batch == 1 or (self.ended and self.of_batch >= self.per_batch):
            self.called.clear()
            self.ended = False
            self.of_batch = 0
        self.of_batch += 1
        self.evaluated += 1
        trains = any(id(parameter) in seen.parameters for parameter in parameters_of(module))
        seen.elsewhere |= bool(seen.steps) and not trains
        if x is not None and self.evaluated == 1:
            seen.note("evaluation", lines.here())
            seen.evaluated_input = moments(x, self.axis) if trains else seen.evaluated_input

    def parts(self, module: nn.Module) -> None:
        """The names of a network's modules, and its parameters."""
        first_names: dict[int, str] = {}
        for name, part in walk(module):
            name = name.removeprefix("module.")  # of DataParallel
            line = self.built.get(part)
            known = self.names.setdefault(part, name or type(part).__name__)
            if name and known != name and library_of(part) and states(part, ()):
                self._share(known, name)
            if isinstance(part, NORMS) and part.track_running_stats:
                self.seen.momenta[known] = 1.0 if part.momentum is None else part.momentum, line
            for own, parameter in own_parameters(part).items():
                full = f"{name}.{own}".lstrip(".")
                self._share(first_names.setdefault(id(parameter), full), full)
                self.owners[id(parameter)] = weakref.ref(part), own
                self.seen.add(full, parameter, line)

    def _share(self, first: str, second: str) -> None:
        if first != second:
            self.seen.shared[first, second] = None

    def leaves(self, output: Any, module: nn.Module, *arguments: Any) -> None:
        """After a module has run."""
        call = self.stack.pop()
        spikes = first_tensor(output)
        if not self.stack:
            self.readout.add(module, spikes, self.guard.grads)
        if not self.guard.grads:
            return
        outer = self.stack[-1] if self.stack else Call(module)
        if call.fired and self.stack and library_of(outer.module):  # a surrogate that is a module
            outer.fired += call.fired
            return
        if spikes is not None:
            if not self.seen.steps and self.seen.beyond is None and not norm_of([sampled(spikes)]) < LARGE:
                self.seen.beyond = self.name(module), self.built.get(module)
            call.layers += self._neurons(call, spikes, first_tensor(arguments))
        outer.layers += call.layers

    def _neurons(self, call: Call, spikes: Tensor, current: Tensor | None) -> int:
        """The number of layers of neurons that a module is itself, beside those inside of it."""
        module = call.module
        library = library_of(call.module)
        if isinstance(module, LIF) and module in self.own:
            self.shapes[module] = spikes.shape
            self.layers[id(module)] = Neurons(self.name(module), self.built.get(module), self.synapse)
            return 1
        if library and not is_count(spikes):  # such as an integrator without spikes
            return 0
        if call.fired and (library or not call.layers):
            return self._fires(module, spikes, [one for one in call.fired if one.threshold is None] or call.fired)
        if call.layers or not (library or _emits_spikes(spikes, current)):
            return 0
        layer = self._layer(module)
        layer.detached |= bool(current is not None and current.requires_grad and not spikes.requires_grad)
        layer.calls += 1
        layer.fired(spikes)
        self.shapes[module] = spikes.shape
        return 1

    def _fires(self, module: nn.Module, spikes: Tensor, calls: list[Fired]) -> int:
        """Surrogates that a module has called; returns the number of layers that they are."""
        self.runs += 1
        shape = calls[-1].out.shape
        places = {(fired.line, id(fired.synapse)) for fired in calls}
        if library_of(module) or (len(places) == 1 and is_binary(spikes) and spikes.shape[-1:] == shape[-1:]):
            self.shapes[module] = shape
            steps = spikes.shape[1:], spikes.shape[:1] + spikes.shape[2:]  # of (T, B, ...) and (B, T, ...)
            each = [] if spikes.shape == shape else [fired for fired in calls if fired.out.shape in steps]
            for fired in each or calls[-1:]:
                self._observe(self._layer(module), fired, threshold_of(module))
            return 1
        for fired in calls:
            self._observe(self._layer(module, fired), fired, threshold_of(module))
        return len(places)

    def _layer(self, module: nn.Module | None, fired: Fired | None = None) -> Neurons:
        """The layer of a module in this step, or that of one of the surrogates that a module, or none, calls."""
        key = id(module) if fired is None else (id(module), fired.line, id(fired.synapse))
        if key not in self.layers:
            name, where = ("spikes", None) if module is None else (self.name(module), self.built.get(module))
            synapse = self.synapse
            if fired is not None:
                weight = self.seen.parameters.get(id(fired.synapse))
                synapse = fired.synapse
                name = name if weight is None else weight.name.removesuffix(".weight")
                name = f"{name}, line {fired.line.line}" if fired.line else name
                where = fired.line or where
            library = library_of(module)
            self.layers[key] = Neurons(
                name,
                where,
                synapse,
                unreset=unreset_decay(module),
                library=library,
                rests=library in GIVEN_DISTANCE,
            )
        return self.layers[key]

    def name(self, module: nn.Module) -> str:
        """Qualified name of a module in its network."""
        return self.names.get(module) or type(module).__name__

    def applied(self, out: Any, function: Any, *arguments: Any) -> None:
        """A call of a function with a gradient of its own, inside the innermost module; spikes are kept until the module returns."""
        own = function.__module__.startswith("lsgcli.")  # other functions in evaluation than in training
        self.seen.fires[self.guard.grads] += not own
        if not self.guard.grads or (self.own and own):  # seen by its own watchers
            return
        x = first_tensor(arguments[:1])
        out = first_tensor(out)
        if x is None or out is None or x.shape != out.shape:
            return
        module = self.innermost
        spikes = is_binary(out) or (library_of(module) and is_count(out))
        if not spikes or is_binary(x):  # for example a straight-through rounding of spikes
            return
        fired = Fired(x, out, None, lines.here(), self.synapse)
        if module is not None:
            self.stack[-1].fired.append(fired)
        elif fired.line is not None:
            self._observe(self._layer(None, fired), fired, 1.0)

    def compared(self, x: Tensor, threshold: Any, out: Tensor, line: Line) -> None:
        """A comparison of potentials with a threshold, in the user's own neurons: where no surrogate is called, its gradient is added otherwise."""
        single = threshold.numel() == 1 if isinstance(threshold, Tensor) else isinstance(threshold, int | float)
        if self.stack and x.dim() > 1 and single:
            self.stack[-1].fired.append(Fired(x, out, float(threshold), line, self.synapse))

    def _observe(self, layer: Neurons, fired: Fired, threshold: float) -> None:
        """Add a call of the neurons, and observe its gradients."""
        x, out = fired.x, fired.out
        compares = fired.threshold is not None
        layer.compares |= compares
        layer.detached |= x.requires_grad and not out.requires_grad and not layer.compares
        call = layer.calls
        layer.calls = layer.calls + 1
        layer.fired(out)
        layer.potentials(x, out)
        layer.v_th = threshold if fired.threshold is None else fired.threshold
        layer.threshold = layer.v_th or threshold  # a comparison of u - v_th with 0
        if x.grad_fn is not None:
            layer.nodes.append((self.runs, x.grad_fn._sequence_nr()))  # type: ignore[attr-defined]
            # Timesteps, not other samples: calls within one of the module, or with a state.
            if call == 2 < len(layer.nodes) and (layer.holds or layer.nodes[0][0] == self.runs):
                layer.memory = memory(x, layer.nodes[0][1], layer.nodes[1][1])
            hook = self.guard.hook(layer.name, _observe_potential_gradient, layer, call, x.output_nr)
            x.grad_fn.register_prehook(hook)
        if out.grad_fn is not None and not compares:
            hook = self.guard.hook(layer.name, _observe_surrogate, layer, call, thinned(x).numpy(), x.grad_fn is None)
            out.grad_fn.register_hook(hook)

    def add_own(self) -> None:
        """Add lsg's own neurons to the layers, after the backward pass."""
        for module, watcher in self.own.items():
            watcher.end_batch()
            if id(module) in self.layers and "n" in watcher.sums.values:
                layer = self.layers[id(module)]
                layer.threshold, layer.calls = watcher.sums.threshold, len(watcher.sums.values["n"])
                layer.shape, layer.extra = tuple(self.shapes.get(module))[1:], signal(watcher.sums, None)

    def records(self) -> list[dict[str, Any]]:
        """Records of the layers, in the order of their first calls."""
        layers = list(self.layers.values())
        last = layers[-1]
        if not last.arriving and not last.compares and (last.du or any(layer.arriving for layer in layers)):
            layers.pop()  # it is read from its potentials, not from its spikes
        return [layer.record(layers[-1].grad_norm) for layer in layers]


def alive(references: list[Any]) -> list[Any]:
    """What is referred to, and has not been deleted."""
    return [value for reference in references if (value := reference()) is not None]


def _frozen(module: nn.Module) -> bool:
    """Whether a module has parameters of which none is trained."""
    parameters = parameters_of(module)
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)


def _emits_spikes(spikes: Tensor, current: Tensor | None) -> bool:
    """Whether a module whose surrogate is not seen puts out spikes, of which its input has none."""
    if current is None or not current.requires_grad or not is_binary(spikes) or is_binary(current):
        return False
    return bool(spikes.any()) or not spikes.requires_grad


def _observe_potential_gradient(layer: Neurons, call: int, output: int, grads: tuple[Tensor | None, ...]) -> None:
    """dL/du of a call, as it arrives at the node that computed the potentials."""
    _add_potential_gradient(layer, call, first_tensor(grads[output]))


def _add_potential_gradient(layer: Neurons, call: int, grad: Tensor | None) -> None:
    if grad is None:
        return
    layer.du[call] = float(grad.double().square().sum())
    arrives = layer.arriving.get(call, math.nan)
    if arrives > 0:
        layer.zeros += int((grad == 0).sum())
        layer.entries += grad.numel()
    layer.not_finite |= not math.isfinite(layer.du[call]) and math.isfinite(arrives)


def _observe_surrogate(
    layer: Neurons,
    call: int,
    x: np.ndarray[Any, Any],
    is_leaf: bool,
    given: tuple[Tensor | None, ...],
    arriving: tuple[Tensor | None, ...],
) -> None:
    """dL/do of a call and what its surrogate makes of it, which gives the surrogate's value at each potential x."""
    grad = first_tensor(arriving[:1])
    passed = first_tensor(given[:1])
    if grad is None:
        return
    layer.arriving[call] = float(grad.double().square().sum())
    if passed is None:
        layer.detached = True
        return
    arrives, passes = thinned(grad).numpy(), thinned(passed).numpy()
    if len(passes) != len(x):
        return
    layer.ignores |= bool(np.any(np.nan_to_num(passes[arrives == 0])))  # 0 by inf is NaN
    heights = np.full_like(x, np.nan)
    np.divide(passes, arrives, out=heights, where=arrives != 0)
    layer.samples.append((x, heights))
    if is_leaf:
        _add_potential_gradient(layer, call, passed)
