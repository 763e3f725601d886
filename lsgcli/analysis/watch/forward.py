"""The forward pass of a watched training: which modules run, in which mode, and which of them are neurons that fire."""

import math
import threading
import weakref
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli.analysis.watch import lines
from lsgcli.analysis.watch.evaluation import Readout
from lsgcli.analysis.watch.graph import memory
from lsgcli.analysis.watch.lines import Line
from lsgcli.analysis.watch.lsg import OwnLayers
from lsgcli.analysis.watch.neighbours import kept
from lsgcli.analysis.watch.neurons import (
    holds_a_state,
    is_library_neuron,
    is_own,
    library_of,
    states,
    threshold_of,
    unreset_decay,
)
from lsgcli.analysis.watch.seen import (
    Neurons,
    Seen,
    axis_of,
    first_tensor,
    is_binary,
    is_count,
    moments,
    norm_of,
    sampled,
)
from lsgcli.analysis.watchers import equivalent_width, height_of

NORMS = (nn.modules.batchnorm._NormBase,)
LARGE = 1e9  # norm of outputs that no usual module has
CALLS = 64  # of which inputs are kept
DROPOUTS = (nn.modules.dropout._DropoutNd,)


class Forward:
    """Observes the modules that run, through hooks of torch on all modules.

    Args:
        seen: what is seen is added to it.

    Attributes:
        built: the user's line that built a module or optimiser.
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
        self.built: weakref.WeakKeyDictionary[Any, Line | None] = weakref.WeakKeyDictionary()
        self.names: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
        self.shapes: weakref.WeakKeyDictionary[nn.Module, torch.Size] = weakref.WeakKeyDictionary()  # of spikes
        self.called: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # layers, in this batch of an evaluation
        self.per_batch = 1  # calls of the network
        self.roots: list[nn.Module] = []
        self.apart: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.loose: list[nn.Parameter] = []
        self.axis = -1  # of the samples in the network's input
        self.runs = 0  # modules of neurons that have run
        self.readout = Readout()
        self.start()

    def begin_evaluation(self) -> None:
        """Begin an evaluation."""
        self.called.clear()
        self.ended = False  # whether labels were drawn or compared since the first call of a batch
        self.evaluated = self.of_batch = 0
        self.readout.calls, self.readout.decided = {}, []

    def start(self) -> None:
        """Begin a step."""
        self.begin_evaluation()
        self.stack: list[
            tuple[nn.Module, list[tuple[Tensor, Tensor, Any]], int]
        ] = []  # module, surrogates called, layers inside
        self.layers: dict[Any, Neurons] = {}
        self.before, self.roots = self.roots, []
        self.calls = 0
        self.sizes: dict[nn.Module, float] = {}  # of the last outputs of modules, before the first step
        self.entries: dict[str, tuple[nn.Module, list[Tensor]]] = {}
        self.own: OwnLayers | None = None
        self.synapse: nn.Parameter | None = None
        self.inside = False

    @property
    def foreign(self) -> bool:
        """Whether a call is of another thread, of the watch itself, or is being compiled."""
        return self.inside or threading.get_ident() != self.thread or torch.compiler.is_compiling()

    def parameters(self) -> list[nn.Parameter]:
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
        if not self.stack and any(True for _ in module.parameters()) and not isinstance(module, nn.modules.loss._Loss):
            self._network(module, arguments)
        elif self._is_apart(module):
            self.roots.append(module)
        self.stack.append((module, [], 0))
        grads = torch.is_grad_enabled()
        if isinstance(module, NORMS + DROPOUTS) and grads != module.training and not (grads and _frozen(module)):
            kept = self.seen.evaluating if grads else self.seen.training
            kept.setdefault(self.name(module), self.built.get(module))
        shape = self.shapes.get(module)
        begins = module not in self.called
        self.called.add(module)
        if begins and shape is not None and holds_a_state(module, arguments, shape):
            if grads:
                self._layer(module, module).kept = True
            else:
                self.seen.kept[self.name(module)] = self.built.get(module)
        if not grads:
            return
        if shape is not None and not begins:
            layer = self._layer(module, module)
            layer.holds = holds_a_state(module, arguments, shape)
            layer.rested += is_library_neuron(module) and not layer.holds
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() > 1:
            self.synapse = weight
            if self.layers and (x := first_tensor(arguments)) is not None:
                self.seen.entering.setdefault(self.name(module), []).append(float((sampled(x) != 0).float().mean()))
            if "first" in self.entries or not self.layers:  # before any neurons
                self._enters("first", module, first_tensor(arguments))

    def _enters(self, stage: str, module: nn.Module, x: Tensor | None) -> None:
        first, calls = self.entries.setdefault(stage, (module, []))
        if first is module and x is not None and len(calls) < CALLS:
            calls.append(kept(x))

    def _is_apart(self, module: nn.Module) -> bool:
        """Whether a module with parameters runs inside a network that does not have it, as those of a plain list."""
        if module not in self.names and torch.is_grad_enabled() and any(True for _ in module.parameters()):
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
            # Another batch, rather than a timestep that batches of training do not have.
            if self.per_batch == 1 or (self.ended and self.of_batch >= self.per_batch):
                self.called.clear()
                self.ended, self.of_batch = False, 0
            self.of_batch += 1
            self.evaluated += 1
            trains = any(id(parameter) in seen.parameters for parameter in module.parameters())
            seen.elsewhere |= bool(seen.steps) and not trains
            if x is not None and self.evaluated == 1:
                seen.note("evaluation", lines.here(2))
                seen.evaluated_input = moments(x, self.axis) if trains else seen.evaluated_input
            return
        seen.note("network", lines.here(2))
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
        if any(is_own(part) for part in module.modules()):
            self.own = OwnLayers(module)

    def parts(self, module: nn.Module) -> None:
        """The names of a network's modules, and its parameters."""
        owners: dict[int, str] = {}
        for name, part in module.named_modules(remove_duplicate=False):
            name = name.removeprefix("module.")  # of DataParallel
            known = self.names.setdefault(part, name or type(part).__name__)
            if name and known != name and is_library_neuron(part) and any(True for _ in states(part, ())):
                self._share(known, name)
            if isinstance(part, NORMS) and part.track_running_stats:
                momentum = 1.0 if part.momentum is None else part.momentum
                self.seen.momenta[known] = momentum, self.built.get(part)
            for own, parameter in part.named_parameters(recurse=False):
                full = f"{name}.{own}".lstrip(".")
                if id(parameter) in owners and owners[id(parameter)] != full:
                    self._share(owners[id(parameter)], full)
                owners.setdefault(id(parameter), full)
                self.seen.add(full, parameter, self.built.get(part))

    def _share(self, first: str, second: str) -> None:
        if (first, second) not in self.seen.shared:
            self.seen.shared.append((first, second))

    def leaves(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        """After a module has run."""
        if self.foreign or not self.stack or self.stack[-1][0] is not module:
            return
        _, applied, inner = self.stack.pop()
        if not self.stack:
            self.readout.add(module, first_tensor(output))
        if not torch.is_grad_enabled():
            return
        if applied and self.stack and is_library_neuron(self.stack[-1][0]):  # a surrogate that is a module
            self.stack[-1][1].extend(applied)
            return
        applied = [call for call in applied if callable(call[2][0])] or applied  # rather than comparisons beside them
        spikes, current = first_tensor(output), first_tensor(arguments)
        if not self.seen.steps and spikes is not None:
            size, before = norm_of([sampled(spikes)]), self.sizes.get(module) or math.inf
            if not size < LARGE and not self.seen.beyond:
                self.seen.beyond = self.name(module), self.built.get(module), size / before
            self.sizes[module] = size
        if self.own is not None and is_own(module):
            found = 1
            if spikes is not None:
                self.shapes[module] = spikes.shape
        elif spikes is None or (is_library_neuron(module) and not is_count(spikes)):  # such as an integrator without spikes
            found = 0
        elif applied and (is_library_neuron(module) or not inner):
            found = self._fires(module, spikes, applied)
        elif not inner and self._is_neurons(module, spikes, current):
            layer = self._layer(module, module)
            layer.detached |= bool(current is not None and current.requires_grad and not spikes.requires_grad)
            layer.calls += 1
            layer.fired(spikes)
            self.shapes[module] = spikes.shape
            found = 1
        else:
            found = 0
        if self.stack and (found or inner):
            parent, calls, count = self.stack[-1]
            self.stack[-1] = parent, calls, count + found + inner

    def _is_neurons(self, module: nn.Module, spikes: Tensor, current: Tensor | None) -> bool:
        """Whether a module whose surrogate is not seen puts out spikes, of which its input has none."""
        if is_library_neuron(module):
            return True
        if current is None or not current.requires_grad or not is_binary(spikes) or is_binary(current):
            return False
        return bool(spikes.any()) or not spikes.requires_grad

    def _fires(self, module: nn.Module, spikes: Tensor, applied: list[tuple[Tensor, Tensor, Any]]) -> int:
        """Surrogates that a module has called; returns the number of layers that they are."""
        self.runs += 1
        one = (
            len({how[1:] for _, _, how in applied}) == 1
            and is_binary(spikes)
            and spikes.shape[-1:] == applied[-1][1].shape[-1:]
        )
        if is_library_neuron(module) or one:
            single = spikes.shape == applied[-1][1].shape
            steps = spikes.shape[1:], spikes.shape[:1] + spikes.shape[2:]  # of (T, B, ...) and (B, T, ...)
            chosen = applied[-1:] if single else [call for call in applied if call[1].shape in steps] or applied[-1:]
            self.shapes[module] = applied[-1][1].shape
            for call in chosen:
                self._observe(self._layer(module, module, self.built.get(module)), *call, threshold_of(module))
            return 1
        keys = set()
        for x, out, how in applied:
            _, line, synapse = how
            key = (module, line, synapse)
            keys.add(key)
            self._observe(self._layer(key, module, line, synapse), x, out, how, threshold_of(module))
        return len(keys)

    def _layer(
        self, key: Any, module: nn.Module | None, where: Line | None = None, synapse: nn.Parameter | None = None
    ) -> Neurons:
        """The layer of a key in this step."""
        if key not in self.layers:
            name = self.name(module) if module is not None else "spikes"
            if key is not module:
                weight = self.seen.parameters.get(id(synapse))
                name = name if weight is None else weight.name.removesuffix(".weight")
                name = f"{name}, line {where.line}" if where else name
            self.layers[key] = Neurons(
                name,
                where or (self.built.get(module) if module is not None else None),
                self.synapse if synapse is None else synapse,
                unreset=unreset_decay(module),
                library=library_of(module),
            )
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
        if not torch.is_grad_enabled():
            return
        x = arguments[0] if arguments else None
        if not (isinstance(x, Tensor) and isinstance(out, Tensor) and x.shape == out.shape):
            return
        module = self.stack[-1][0] if self.stack else None
        if not is_binary(out) and not (is_library_neuron(module) and is_count(out)):
            return
        if self.own is not None and own:  # seen by its own watchers
            return
        if is_binary(x):  # for example a straight-through rounding of spikes
            return
        rest = arguments[1:]
        how = (lambda v: function.apply(v, *rest)), lines.here(3), self.synapse
        if module is not None:
            self.stack[-1][1].append((x, out, how))
        elif how[1] is not None:
            self._observe(self._layer((None, *how[1:]), None, *how[1:]), x, out, how, 1.0)

    def compared(self, x: Tensor, threshold: Any, out: Tensor, line: Line) -> None:
        """A comparison of potentials with a threshold, in the user's own neurons: where no surrogate is called, its gradient is added otherwise."""
        single = threshold.numel() == 1 if isinstance(threshold, Tensor) else isinstance(threshold, int | float)
        if self.stack and x.dim() > 1 and single:
            self.stack[-1][1].append((x, out.to(x.dtype), (float(threshold), line, self.synapse)))

    def _observe(self, layer: Neurons, x: Tensor, out: Tensor, how: Any, threshold: float) -> None:
        """Add a call of the neurons, and observe its gradients."""
        fire, *_ = how
        layer.compares |= not callable(fire)
        layer.detached |= x.requires_grad and not out.requires_grad and not layer.compares
        call, layer.calls = layer.calls, layer.calls + 1
        layer.fired(out)
        layer.threshold = threshold if math.isnan(layer.boundary) else layer.threshold
        values, heights = sampled(x), None
        self.inside = True
        try:
            with torch.random.fork_rng([x.device] if x.is_cuda else []):  # for functions that fire at random
                layer.nodes += [] if x.grad_fn is None else [(self.runs, x.grad_fn._sequence_nr())]
                # Timesteps, not other samples: calls within one of the module, or with a state.
                if call == 2 < len(layer.nodes) and (layer.holds or layer.nodes[0][0] == self.runs):
                    layer.memory = memory(x, layer.nodes[0][1], layer.nodes[1][1])
                if math.isnan(layer.boundary):
                    layer.boundary = boundary_of(fire, values) if callable(fire) else fire
                    layer.threshold = layer.boundary or threshold
                values = values - layer.boundary
                height = height_of(lambda v: fire(v.to(values.dtype) + layer.boundary))
                heights = height(values, values.new_ones(())).detach()
                if math.isnan(layer.width):
                    unasked = height_of(lambda v: 0 * fire(v + layer.boundary))(values.new_zeros(1), values.new_ones(()))
                    layer.ignores |= float(unasked.abs()) > 0
                if math.isnan(layer.width) and float(heights.sum()) >= 0:
                    width = float(equivalent_width(height))
                    layer.width = width if width > 0 else math.nan  # of a surrogate that is negative on one side
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
        if layer.arriving.get(call, 0) > 0:
            layer.zeros += int((grad == 0).sum())
            layer.entries += grad.numel()
        layer.not_finite |= not math.isfinite(layer.du[call]) and math.isfinite(layer.arriving.get(call, math.nan))

    def records(self) -> list[dict[str, Any]]:
        """Records of the layers, in the order of their first calls."""
        layers = list(self.layers.values())
        last = layers[-1]
        if not last.arriving and not last.compares and (last.du or any(layer.arriving for layer in layers)):
            layers.pop()  # it is read from its potentials, not from its spikes
        norms = [
            math.nan if layer.weight is None or layer.weight.grad is None else norm_of([layer.weight.grad]) for layer in layers
        ]
        return [layer.record(norm, norms[-1]) for layer, norm in zip(layers, norms, strict=True)]


def _frozen(module: nn.Module) -> bool:
    """Whether a module has parameters of which none is trained."""
    own = list(module.parameters())
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def boundary_of(fire: Any, values: Tensor) -> float:
    """The value above which a function fires: v_th where it is given u, and 0 where it is given u - v_th, or that is not found."""
    sizes = torch.logspace(-3, 4, 400, dtype=values.dtype, device=values.device)
    grid = torch.cat([-sizes.flip(0), sizes])
    for _ in range(2):  # coarse, then fine
        silent = int((fire(grid).detach() == 0).sum())
        if not 0 < silent < len(grid):
            return 0.0
        low, high = float(grid[silent - 1]), float(grid[silent])
        grid = torch.linspace(low, high, 100, dtype=values.dtype, device=values.device)
    return 0.0 if low < 0 < high else high
