"""The forward pass of a watched training: which modules run, in which mode, and which of them are neurons that fire."""

import math
import threading
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

from lsgcli.analysis.lif_watchers import own_layer
from lsgcli.analysis.sums import signal
from lsgcli.analysis.watch import lines
from lsgcli.analysis.watch.evaluation import Readout
from lsgcli.analysis.watch.lines import Line
from lsgcli.analysis.watch.neurons import holds_a_state, library_of, states, threshold_of, unreset_decay
from lsgcli.analysis.watch.seen import Neurons, Seen
from lsgcli.analysis.watch.tensors import axis_of, first_tensor, is_binary, is_count, kept, memory, moments, norm_of, sampled
from lsgcli.analysis.watchers import Watcher, equivalent_width, height_of
from lsgcli.neurons import LIF

NORMS = (nn.modules.batchnorm._NormBase,)
LARGE = 1e9  # norm of outputs that no usual module has
CALLS = 64  # of which inputs are kept
DROPOUTS = (nn.modules.dropout._DropoutNd,)


class Fired(NamedTuple):
    """A call of a surrogate, or of a comparison that may be one.

    Attributes:
        x, out: what it was given, and the spikes.
        fire: computes the spikes again; of a comparison, the threshold.
        line: of the user that called it.
        synapse: the weight before it.
    """

    x: Tensor
    out: Tensor
    fire: Any
    line: Line | None
    synapse: nn.Parameter | None


@dataclass
class Call:
    """A module that runs: the surrogates that it has called, and the layers of neurons that ran inside of it."""

    module: nn.Module
    fired: list[Fired] = field(default_factory=list)
    layers: int = 0


class Forward:
    """Observes the modules that run, through hooks of torch on all modules.

    Args:
        seen: what is seen is added to it.

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
    """

    def __init__(self, seen: Seen):
        self.seen = seen
        self.thread = threading.get_ident()
        self.built: WeakKeyDictionary[Any, Line | None] = WeakKeyDictionary()
        self.names: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        self.shapes: WeakKeyDictionary[nn.Module, torch.Size] = WeakKeyDictionary()  # of spikes
        self.called: WeakSet[nn.Module] = WeakSet()  # layers, in this batch of an evaluation
        self.per_batch = 1  # calls of the network
        self.roots: list[nn.Module] = []
        self.apart: WeakSet[nn.Module] = WeakSet()
        self.loose: list[Any] = []
        self.axis = -1  # of the samples in the network's input
        self.runs = 0  # modules of neurons that have run
        self.readout = Readout()
        self.own: dict[LIF, Watcher] = {}
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
        self.stack: list[Call] = []
        self.layers: dict[Any, Neurons] = {}
        self.before = self.roots
        self.roots = []
        self.calls = 0
        self.entries: dict[str, tuple[nn.Module, list[Tensor]]] = {}
        self.synapse: nn.Parameter | None = None
        self.inside = False

    def release(self) -> None:
        """Observe lsg's neurons no longer."""
        for watcher in self.own.values():
            watcher.close()
        self.own = {}

    @property
    def foreign(self) -> bool:
        """Whether a call is of another thread, of the watch itself, or is being compiled."""
        return self.inside or threading.get_ident() != self.thread or torch.compiler.is_compiling()

    @property
    def innermost(self) -> nn.Module | None:
        """The module that runs."""
        return self.stack[-1].module if self.stack else None

    def parameters(self) -> list[Any]:
        """The parameters of the networks of this step, or before these run, of the step before."""
        roots = self.roots or self.before
        return [parameter for root in roots for parameter in root.parameters()] if roots else self.loose

    def gradients(self) -> list[Tensor]:
        """Their gradients."""
        return [parameter.grad for parameter in self.parameters() if parameter.grad is not None]

    def enters(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        """Before a module runs."""
        if self.foreign:
            return
        if not self.stack and _has_parameters(module) and not isinstance(module, nn.modules.loss._Loss):
            self._network(module, arguments)
        elif self._is_apart(module):
            self.roots.append(module)
        self.stack.append(Call(module))
        grads = torch.is_grad_enabled()
        if isinstance(module, NORMS + DROPOUTS) and grads != module.training and not (grads and _frozen(module)):
            modes = self.seen.evaluating if grads else self.seen.training
            modes.setdefault(self.name(module), self.built.get(module))
        self._begins(module, arguments)
        weight = getattr(module, "weight", None)
        if grads and isinstance(weight, nn.Parameter) and weight.dim() > 1:
            self.synapse = weight
            x = first_tensor(arguments)
            if self.layers and x is not None:
                self.seen.entering.setdefault(self.name(module), []).append(float((sampled(x) != 0).float().mean()))
            if "first" in self.entries or not self.layers:  # before any neurons
                self._enters("first", module, x)

    def _begins(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        """The state with which neurons begin a batch, or a timestep after the first."""
        shape = self.shapes.get(module)
        begins = module not in self.called
        self.called.add(module)
        if shape is None:
            return
        holds = holds_a_state(module, arguments, shape)
        if not torch.is_grad_enabled():
            if begins and holds:
                self.seen.kept[self.name(module)] = self.built.get(module)
        elif not begins:
            layer = self._layer(module)
            layer.holds = holds
            layer.rested += bool(library_of(module)) and not holds
        elif holds:
            self._layer(module).kept = True

    def _enters(self, stage: str, module: nn.Module, x: Tensor | None) -> None:
        first, calls = self.entries.setdefault(stage, (module, []))
        if first is module and x is not None and len(calls) < CALLS:
            x = kept(x)
            if not calls or x.shape == calls[0].shape:
                calls.append(x)

    def _is_apart(self, module: nn.Module) -> bool:
        """Whether a module with parameters runs inside a network that does not have it, as those of a plain list."""
        if module not in self.names and torch.is_grad_enabled() and _has_parameters(module):
            for root in self.roots:
                self.parts(root)  # which may have made it in its first call
            if module not in self.names:
                self.parts(module)
                self.apart.add(module)
        return module in self.apart and module not in self.roots

    def _network(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        """A call of a module that no other module calls."""
        seen = self.seen
        seen.runs[torch.is_grad_enabled()] += 1
        x = first_tensor(arguments)
        x = None if x is None or not x.numel() or not x.is_floating_point() else x.detach()
        if not torch.is_grad_enabled():
            self._evaluates(module, x)
            return
        seen.note("network", lines.here())
        self.calls += 1
        self._enters("input", module, x)
        if x is not None and self.calls == 1:
            self.axis = axis_of(x, seen.batch)
            seen.trained_input = moments(x, self.axis)
        if module in self.roots:
            return
        self.roots.append(module)
        if type(module).__name__ not in seen.networks:
            seen.networks.append(type(module).__name__)
        self.parts(module)
        for part in module.modules():
            if isinstance(part, LIF) and part not in self.own:
                self.own[part] = own_layer(self.name(part), part, part.b).watch(full=True)

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
        trains = any(id(parameter) in seen.parameters for parameter in module.parameters())
        seen.elsewhere |= bool(seen.steps) and not trains
        if x is not None and self.evaluated == 1:
            seen.note("evaluation", lines.here())
            seen.evaluated_input = moments(x, self.axis) if trains else seen.evaluated_input

    def parts(self, module: nn.Module) -> None:
        """The names of a network's modules, and its parameters."""
        owners: dict[int, str] = {}
        for name, part in module.named_modules(remove_duplicate=False):
            name = name.removeprefix("module.")  # of DataParallel
            line = self.built.get(part)
            known = self.names.setdefault(part, name or type(part).__name__)
            if name and known != name and library_of(part) and states(part, ()):
                self._share(known, name)
            if isinstance(part, NORMS) and part.track_running_stats:
                self.seen.momenta[known] = 1.0 if part.momentum is None else part.momentum, line
            for own, parameter in part.named_parameters(recurse=False):
                full = f"{name}.{own}".lstrip(".")
                self._share(owners.setdefault(id(parameter), full), full)
                self.seen.add(full, parameter, line)

    def _share(self, first: str, second: str) -> None:
        if first != second:
            self.seen.shared[first, second] = None

    def leaves(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        """After a module has run."""
        if self.foreign or self.innermost is not module:
            return
        call = self.stack.pop()
        spikes = first_tensor(output)
        if not self.stack:
            self.readout.add(module, spikes)
        if not torch.is_grad_enabled():
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
        if module in self.own:
            self.shapes[module] = spikes.shape
            self.layers[module] = Neurons(self.name(module), self.built.get(module), self.synapse)
            return 1
        if library and not is_count(spikes):  # such as an integrator without spikes
            return 0
        if call.fired and (library or not call.layers):
            return self._fires(module, spikes, [fired for fired in call.fired if callable(fired.fire)] or call.fired)
        if call.layers or not (library or _puts_out_spikes(spikes, current)):
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
        threshold = threshold_of(module)
        places = {(fired.line, fired.synapse) for fired in calls}
        if library_of(module) or (len(places) == 1 and is_binary(spikes) and spikes.shape[-1:] == shape[-1:]):
            self.shapes[module] = shape
            steps = spikes.shape[1:], spikes.shape[:1] + spikes.shape[2:]  # of (T, B, ...) and (B, T, ...)
            each = [] if spikes.shape == shape else [fired for fired in calls if fired.out.shape in steps]
            for fired in each or calls[-1:]:
                self._observe(self._layer(module), fired, threshold)
            return 1
        for fired in calls:
            self._observe(self._layer(module, fired), fired, threshold)
        return len(places)

    def _layer(self, module: nn.Module | None, fired: Fired | None = None) -> Neurons:
        """The layer of a module in this step, or that of one of the surrogates that a module, or none, calls."""
        key = module if fired is None else (module, fired.line, fired.synapse)
        if key not in self.layers:
            name, where = ("spikes", None) if module is None else (self.name(module), self.built.get(module))
            synapse = self.synapse
            if fired is not None:
                weight = self.seen.parameters.get(id(fired.synapse))
                synapse = fired.synapse
                name = name if weight is None else weight.name.removesuffix(".weight")
                name = f"{name}, line {fired.line.line}" if fired.line else name
                where = fired.line or where
            self.layers[key] = Neurons(name, where, synapse, unreset=unreset_decay(module), library=library_of(module))
        return self.layers[key]

    def name(self, module: nn.Module) -> str:
        """Qualified name of a module in its network."""
        return self.names.get(module) or type(module).__name__

    def applied(self, function: Any, arguments: tuple[Any, ...], out: Any) -> None:
        """A call of a function with a gradient of its own, inside the innermost module; spikes are kept until the module returns."""
        if self.foreign:
            return
        own = function.__module__.startswith("lsgcli.")  # other functions in evaluation than in training
        self.seen.fires[torch.is_grad_enabled()] += not own
        if not torch.is_grad_enabled() or (self.own and own):  # seen by its own watchers
            return
        x, *rest = arguments or (None,)
        if not (isinstance(x, Tensor) and isinstance(out, Tensor) and x.shape == out.shape):
            return
        module = self.innermost
        spikes = is_binary(out) or (library_of(module) and is_count(out))
        if not spikes or is_binary(x):  # for example a straight-through rounding of spikes
            return
        fired = Fired(x, out, lambda v: function.apply(v, *rest), lines.here(), self.synapse)
        if module is not None:
            self.stack[-1].fired.append(fired)
        elif fired.line is not None:
            self._observe(self._layer(None, fired), fired, 1.0)

    def compared(self, x: Tensor, threshold: Any, out: Tensor, line: Line) -> None:
        """A comparison of potentials with a threshold, in the user's own neurons: where no surrogate is called, its gradient is added otherwise."""
        single = threshold.numel() == 1 if isinstance(threshold, Tensor) else isinstance(threshold, int | float)
        if self.stack and x.dim() > 1 and single:
            self.stack[-1].fired.append(Fired(x, out.to(x.dtype), float(threshold), line, self.synapse))

    def _observe(self, layer: Neurons, fired: Fired, threshold: float) -> None:
        """Add a call of the neurons, and observe its gradients."""
        x, out, fire, *_ = fired
        layer.compares |= not callable(fire)
        layer.detached |= x.requires_grad and not out.requires_grad and not layer.compares
        call = layer.calls
        layer.calls = layer.calls + 1
        layer.fired(out)
        layer.threshold = threshold if math.isnan(layer.boundary) else layer.threshold
        if x.grad_fn is not None:
            layer.nodes.append((self.runs, x.grad_fn._sequence_nr()))  # type: ignore[attr-defined]
        values = sampled(x)
        heights = None
        self.inside = True
        try:
            with torch.random.fork_rng([x.device] if x.is_cuda else []):  # for functions that fire at random
                # Timesteps, not other samples: calls within one of the module, or with a state.
                if call == 2 < len(layer.nodes) and (layer.holds or layer.nodes[0][0] == self.runs):
                    layer.memory = memory(x, layer.nodes[0][1], layer.nodes[1][1])
                if math.isnan(layer.boundary):
                    layer.boundary = boundary_of(fire, values) if callable(fire) else fire
                    layer.threshold = layer.boundary or threshold
                values = values - layer.boundary
                height = height_of(lambda v: fire(v.to(values.dtype) + layer.boundary))
                unit = values.new_ones(())
                heights = height(values, unit).detach()
                if math.isnan(layer.width):
                    unasked = height_of(lambda v: 0 * fire(v + layer.boundary))(values.new_zeros(1), unit)
                    layer.ignores |= float(unasked.abs()) > 0
                    if float(heights.sum()) >= 0:
                        width = float(equivalent_width(height))
                        layer.width = width if 0 < width < math.inf else math.nan  # negative on one side
                        layer.detached |= math.isnan(layer.width) and not bool(heights.any())  # zero everywhere
        except Exception:  # no surrogate, or one that takes tensors of one shape only
            heights = None
        finally:
            self.inside = False
        layer.potentials(values, heights)
        if x.requires_grad:
            x.register_hook(partial(self._gradient, layer, call))
        if out.requires_grad:
            out.register_hook(partial(self._arrives, layer, call))

    def _arrives(self, layer: Neurons, call: int, grad: Tensor) -> None:
        if not self.inside:
            layer.arriving[call] = float(grad.double().square().sum())

    def _gradient(self, layer: Neurons, call: int, grad: Tensor) -> None:
        if self.inside:
            return
        layer.du[call] = float(grad.double().square().sum())
        arrives = layer.arriving.get(call, math.nan)
        if arrives > 0:
            layer.zeros += int((grad == 0).sum())
            layer.entries += grad.numel()
        layer.not_finite |= not math.isfinite(layer.du[call]) and math.isfinite(arrives)

    def add_own(self) -> None:
        """Add lsg's own neurons to the layers, after the backward pass."""
        for module, watcher in self.own.items():
            watcher.end_batch()
            if module in self.layers and "n" in watcher.sums.values:
                layer = self.layers[module]
                layer.threshold, layer.calls = watcher.sums.threshold, len(watcher.sums.values["n"])
                layer.shape, layer.extra = tuple(self.shapes[module])[1:], signal(watcher.sums, None)

    def records(self) -> list[dict[str, Any]]:
        """Records of the layers, in the order of their first calls."""
        layers = list(self.layers.values())
        last = layers[-1]
        if not last.arriving and not last.compares and (last.du or any(layer.arriving for layer in layers)):
            layers.pop()  # it is read from its potentials, not from its spikes
        return [layer.record(layers[-1].grad_norm) for layer in layers]


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _frozen(module: nn.Module) -> bool:
    """Whether a module has parameters of which none is trained."""
    return _has_parameters(module) and not any(parameter.requires_grad for parameter in module.parameters())


def _puts_out_spikes(spikes: Tensor, current: Tensor | None) -> bool:
    """Whether a module whose surrogate is not seen puts out spikes, of which its input has none."""
    if current is None or not current.requires_grad or not is_binary(spikes) or is_binary(current):
        return False
    return bool(spikes.any()) or not spikes.requires_grad


def boundary_of(fire: Any, values: Tensor) -> float:
    """The value above which a function fires: v_th where it is given u, and 0 where it is given u - v_th, or that is not found."""
    sizes = torch.logspace(-3, 4, 30_000, dtype=values.dtype, device=values.device)  # to 0.05 %
    grid = torch.cat([-sizes.flip(0), sizes])
    silent = int((fire(grid).detach() == 0).sum())
    if not 0 < silent < len(grid):
        return 0.0
    low = float(grid[silent - 1])
    high = float(grid[silent])
    return 0.0 if low < 0 < high else high
