"""Watch a training: hooks on modules, surrogates, losses and optimisers, which observe and change nothing."""

import functools
import math
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from lsgcli.analysis.watch import lines
from lsgcli.analysis.watch.lines import Line
from lsgcli.analysis.watch.lsg import OwnLayers
from lsgcli.analysis.watch.neurons import holds_a_state, is_library_neuron, is_own, threshold_of
from lsgcli.analysis.watch.seen import Neurons, Outputs, Parameters, Seen, first_tensor, is_binary, moments, norm_of, sampled
from lsgcli.analysis.watchers import equivalent_width, height_of
from lsgcli.system.files import finite

EVALUATIONS = 3  # blocks without gradients in which modes are observed
FIRST = 3  # steps that are measured, before those at 10, 30, 100, ...
LOSSES = (
    *("cross_entropy", "nll_loss", "mse_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "l1_loss"),
    *("smooth_l1_loss", "huber_loss", "multi_margin_loss", "multilabel_margin_loss", "kl_div"),
)
NORMS = (nn.modules.batchnorm._NormBase,)
DROPOUTS = (nn.modules.dropout._DropoutNd,)


class Enough(BaseException):
    """Ends a script after the last step that is watched."""


def is_due(step: int, every: int | None = None) -> bool:
    """Whether a step is measured: the first three, then 10, 30, 100, 300, ... and every so many if given."""
    if step < FIRST or (every and step % every == 0):
        return True
    power = 10 ** int(math.log10(step))
    return step >= 10 and step in (power, 3 * power)


class Watch:
    """While the block runs, observe all that trains in this process.

    Measures of layers are taken at some steps; losses, accuracies and modes at each. A *step* lasts until an optimiser has stepped. Values, gradients
    and random numbers of the training stay as they are.

    Args:
        steps: number of steps after which :class:`Enough` is raised; None to watch until the end.
        every: steps between further measurements.
        networks, optimizers: that exist already.
    """

    active: "Watch | None" = None

    def __init__(
        self,
        steps: int | None = None,
        every: int | None = None,
        networks: Sequence[nn.Module] = (),
        optimizers: Sequence[torch.optim.Optimizer] = (),
    ):
        self.limit, self.every, self.seen = steps, every, Seen()
        self.thread = threading.get_ident()
        self.built: weakref.WeakKeyDictionary[Any, Line | None] = weakref.WeakKeyDictionary()
        self.names: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
        self.shapes: weakref.WeakKeyDictionary[nn.Module, torch.Size] = weakref.WeakKeyDictionary()  # of spikes
        self.optimised: set[int] = set()
        self.steppers: set[int] = set()  # optimisers that have stepped since the last backward pass
        self.weights: dict[int, Tensor] = {}  # before a measured step
        self.evaluations: list[Any] = []  # blocks without gradients that were observed; None if they have ended
        self.measuring = False
        self._undo: list[Callable[[], object]] = []
        self._hooks: list[Any] = []
        self._start()
        for network in networks:
            self._parts(network)
        for optimizer in optimizers:
            self._add_optimiser(optimizer)

    def _start(self) -> None:
        """Begin a step."""
        self.stack: list[tuple[nn.Module, list[tuple[Tensor, Tensor, Any]], int]] = []
        self.layers: dict[Any, Neurons] = {}
        self.roots: list[nn.Module] = []
        self.synapse: nn.Parameter | None = None
        self.backwards = 0
        self.top_calls = 0
        self.after_backward = 0.0
        self.logits: Outputs | None = None
        self.own: OwnLayers | None = None
        self.input: Tensor | None = None
        self.inside = False

    def __enter__(self) -> Self:
        if Watch.active is not None:
            raise RuntimeError("watch: found another watch that is active, expected one at a time")
        Watch.active = self
        self._patch(torch.autograd, "backward", self._backward)
        for name in LOSSES:
            self._patch(F, name, functools.partial(self._loss, name))
        self._patch(nn.Module, "__init__", self._built)
        self._patch(torch.optim.Optimizer, "__init__", self._optimiser_built)
        for context in (torch.no_grad, torch.inference_mode):
            self._patch(context, "__enter__", self._evaluation_begins)
            self._patch(context, "__exit__", self._evaluation_ends)
        apply = torch.autograd.Function.__dict__["apply"]
        torch.autograd.Function.apply = classmethod(functools.partial(_applied, apply.__func__))  # type: ignore[assignment]
        self._undo.append(lambda: setattr(torch.autograd.Function, "apply", apply))
        for handle in (
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ):
            self._undo.append(handle.remove)
        self._measure(True)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._measure(False)
        for undo in reversed(self._undo):
            undo()
        Watch.active = None
        if error is not None and not isinstance(error, Enough | SystemExit):
            self.seen.layers = self.layers or self.seen.layers
            self.seen.error, self.seen.failed_at = error, lines.of_error(error)

    def _patch(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        """Replace a function by ``around``, which is called with the function first."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def patched(*arguments: Any, **options: Any) -> Any:
            return around(original, *arguments, **options)

        setattr(owner, name, patched)
        self._undo.append(lambda: setattr(owner, name, original))

    def _here(self, what: str) -> None:
        """Keep the user's line that did something first."""
        if what not in self.seen.lines and (line := lines.here(3)) is not None:
            self.seen.lines[what] = line

    @property
    def foreign(self) -> bool:
        """Whether a call is of another thread, of the watch itself, or is being compiled."""
        return self.inside or threading.get_ident() != self.thread or torch.compiler.is_compiling()

    # Evaluation

    def _evaluation_begins(self, original: Callable[..., Any], context: Any) -> Any:
        """Observe the modes of modules in the user's first blocks without gradients."""
        value = original(context)
        caller = sys._getframe(2)
        if caller.f_code.co_name == "decorate_context" and caller.f_back is not None:  # of a function
            caller = caller.f_back
        if not self.measuring and len(self.evaluations) < EVALUATIONS and lines.of_user(caller.f_code.co_filename):
            self.evaluations.append(context)
            self._measure(True)
        return value

    def _evaluation_ends(self, original: Callable[..., Any], context: Any, *error: Any) -> Any:
        if self.evaluations and self.evaluations[-1] is context:
            self.evaluations[-1] = None
            self._measure(False)
        return original(context, *error)

    # What is built

    def _built(self, original: Callable[..., None], module: nn.Module, *arguments: Any, **options: Any) -> None:
        original(module, *arguments, **options)
        self.built[module] = lines.here_of(module)

    def _optimiser_built(self, original: Callable[..., None], optimiser: Any, *arguments: Any, **options: Any) -> None:
        self.built[optimiser] = lines.here_of(optimiser)
        if self.built[optimiser] is not None:
            self.seen.lines.setdefault("optimiser", self.built[optimiser])  # type: ignore[arg-type]
        original(optimiser, *arguments, **options)
        self._add_optimiser(optimiser)

    def _add_optimiser(self, optimiser: torch.optim.Optimizer) -> None:
        self.optimised |= {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}

    # Forward

    def _measure(self, on: bool) -> None:
        """Begin or end to observe each module."""
        if on and not self._hooks:
            self._hooks = [register_module_forward_pre_hook(self._enters), register_module_forward_hook(self._leaves)]
        elif not on:
            for hook in self._hooks:
                hook.remove()
            self._hooks = []
            if self.own is not None:
                self.own.close()
                self.own = None
        self.measuring = on

    def _enters(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if self.foreign:
            return
        if not self.stack and any(True for _ in module.parameters()) and not isinstance(module, nn.modules.loss._Loss):
            self._network(module, arguments)
        self.stack.append((module, [], 0))
        grads = torch.is_grad_enabled()
        if isinstance(module, NORMS + DROPOUTS) and grads != module.training:
            kept = self.seen.evaluating if grads else self.seen.training
            kept.setdefault(self._name(module), self.built.get(module))
        if not grads:
            return
        if isinstance(module, NORMS) and module.running_mean is not None:
            name = self._name(module)
            _, means = self.seen.statistics.setdefault(name, (self.built.get(module), []))
            means.append(float(module.running_mean.double().sum()))
        if isinstance(module, DROPOUTS) and module.training:
            self.seen.dropouts[self._name(module)] = module.p, self.built.get(module)
        weight = getattr(module, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.dim() > 1:
            self.synapse = weight
        shape = self.shapes.get(module)
        if shape is not None and module not in self.layers and holds_a_state(module, arguments, shape):
            self._layer(module, module).kept = True

    def _network(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        """A call of a module that no other module calls."""
        if not torch.is_grad_enabled():
            return
        self._here("network")
        self.top_calls += 1
        if module in self.roots:
            return
        self.roots.append(module)
        if self.input is None:
            self.input = first_tensor(arguments)
        if type(module).__name__ not in self.seen.networks:
            self.seen.networks.append(type(module).__name__)
        self._parts(module)
        if any(is_own(part) for part in module.modules()):
            self.own = OwnLayers(module)

    def _parts(self, module: nn.Module) -> None:
        """The names of a network's modules, and its parameters."""
        owners: dict[int, str] = {}
        for name, part in module.named_modules(remove_duplicate=False):
            self.names.setdefault(part, name.removeprefix("module.") or type(part).__name__)
            for own, parameter in part.named_parameters(recurse=False):
                full = f"{name}.{own}".removeprefix("module.").lstrip(".")
                if id(parameter) in owners and owners[id(parameter)] != full:
                    pair = (owners[id(parameter)], full)
                    if pair not in self.seen.shared:
                        self.seen.shared.append(pair)
                owners.setdefault(id(parameter), full)
                if id(parameter) not in self.seen.parameters:
                    equal = parameter.dim() > 1 and bool((parameter == parameter.reshape(-1)[0]).all())
                    self.seen.parameters[id(parameter)] = Parameters(
                        full, self.built.get(part), parameter.numel(), not parameter.requires_grad, equal=equal
                    )

    def _leaves(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if self.foreign or not self.stack or self.stack[-1][0] is not module:
            return
        _, applied, inner = self.stack.pop()
        if not torch.is_grad_enabled():
            return
        spikes, current = first_tensor(output), first_tensor(arguments)
        if self.own is not None and is_own(module):
            found = 1
        elif spikes is None or (is_library_neuron(module) and not is_binary(spikes)):  # such as an integrator without spikes
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
        if is_library_neuron(module) or (is_binary(spikes) and spikes.shape[-1:] == applied[-1][1].shape[-1:]):
            single = spikes.shape == applied[-1][1].shape
            chosen = applied[-1:] if single else [call for call in applied if call[1].shape == spikes.shape[1:]] or applied[-1:]
            self.shapes[module] = applied[-1][1].shape
            for call in chosen:
                self._observe(self._layer(module, module, self.built.get(module)), *call, threshold_of(module))
            return 1
        keys = set()
        for x, out, (fire, line) in applied:
            key = (module, line)
            keys.add(key)
            self._observe(self._layer(key, module, line), x, out, (fire, line), threshold_of(module))
        return len(keys)

    def _layer(self, key: Any, module: nn.Module, where: Line | None = None) -> Neurons:
        """The layer of a key in this step."""
        if key not in self.layers:
            name = self._name(module)
            if key is not module:
                name = f"{name}, line {where.line}" if where else name
            self.layers[key] = Neurons(name, where or self.built.get(module), self.synapse)
        return self.layers[key]

    def _name(self, module: nn.Module) -> str:
        return self.names.get(module) or type(module).__name__

    def applied(self, function: Any, arguments: tuple[Any, ...], out: Any) -> None:
        """A call of a function with a gradient of its own, inside the innermost module; spikes are kept until the module returns."""
        if self.foreign or not self.stack or not torch.is_grad_enabled():
            return
        x = arguments[0] if arguments else None
        if not (isinstance(x, Tensor) and isinstance(out, Tensor) and x.shape == out.shape and is_binary(out)):
            return
        if self.own is not None and function.__module__.startswith("lsgcli."):  # seen by its own watchers
            return
        if is_binary(x):  # for example a straight-through rounding of spikes
            return
        rest = arguments[1:]
        self.stack[-1][1].append((x, out, (lambda v: function.apply(v, *rest), lines.here(3))))

    def _observe(self, layer: Neurons, x: Tensor, out: Tensor, how: Any, threshold: float) -> None:
        """Add a call of the neurons, and observe its gradients."""
        fire, _ = how
        call, layer.calls, layer.threshold = layer.calls, layer.calls + 1, threshold
        layer.fired(out)
        layer.detached |= x.requires_grad and not out.requires_grad
        values = sampled(x)
        fired = sampled(out) > 0
        if fired.any() and float(values[fired].min()) > 0.05 * threshold:  # given u rather than u - v_th
            values = values - values[fired].min()
        self.inside = True
        try:
            height = height_of(fire)
            if math.isnan(layer.width):
                layer.width = float(equivalent_width(height))
            layer.potentials(values, height(values, values.new_ones(())).detach())
        except Exception:  # a surrogate that takes tensors of one shape only
            layer.potentials(values, None)
        finally:
            self.inside = False
        if x.requires_grad:
            x.register_hook(functools.partial(_gradient, layer, call))
        if out.requires_grad:
            out.register_hook(functools.partial(_arrives, layer, call))

    # Losses

    def _loss(self, name: str, original: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        value = original(*arguments, **options)
        if not self.foreign and len(arguments) > 1 and all(isinstance(part, Tensor) for part in arguments[:2]):
            self._compared(name, arguments[0].detach(), arguments[1].detach())
        return value

    def _compared(self, name: str, outputs: Tensor, labels: Tensor) -> None:
        """Outputs and labels that a loss function compares; those of a step are added up, such as those of timesteps."""
        self._here("loss")
        if outputs.dim() < 2:
            return
        grads = torch.is_grad_enabled()
        before = self.logits if grads else None
        if before is not None and before.values.shape == outputs.shape:
            self.logits = Outputs(name, before.where, before.values + outputs, labels, before.calls + 1)
        else:
            now = Outputs(name, self.seen.lines.get("loss"), outputs, labels)
            if grads:
                self.logits = now
            else:
                self._score(now, self.seen.evaluated)

    def _score(self, found: Outputs, scores: list[tuple[int, float, int]]) -> None:
        """Add the accuracy of outputs (B, classes), if labels are classes or have the shape of the outputs."""
        values, labels = found.values, found.labels
        if labels is None or values.dim() != 2 or values.shape[1] < 2:
            return
        if labels.shape == values.shape:
            labels = labels.argmax(1)
        if labels.dim() != 1 or len(labels) != len(values) or labels.is_floating_point():
            return
        self.seen.classes = max(self.seen.classes, values.shape[1])
        self.seen.batch = max(self.seen.batch, len(values))
        if scores is self.seen.accuracy:
            self.seen.labels.update(labels.tolist())
        scores.append((self.seen.steps, float((values.argmax(1) == labels).float().mean()), len(labels)))

    # Backward and steps

    def _backward(self, original: Callable[..., None], tensors: Any, *arguments: Any, **options: Any) -> None:
        if self.foreign:
            original(tensors, *arguments, **options)
            return
        self._here("backward")
        loss = first_tensor(tensors)
        if self.backwards == 0 and self.seen.steps and self.measuring:
            left = [p.grad for root in self.roots for p in root.parameters() if p.grad is not None]
            self.seen.accumulated += any(bool(grad.any()) for grad in left)
        original(tensors, *arguments, **options)
        self.backwards += 1
        self.steppers.clear()
        if loss is not None and loss.numel() == 1:
            if self.backwards == 1:
                self.seen.losses.append(loss.detach())
            if self.logits is not None:
                self._score(self.logits, self.seen.accuracy)
        if self.measuring:
            self.after_backward = norm_of(self._gradients())
            self.seen.outputs = self.logits or self.seen.outputs
            if self.input is not None and self.input.numel() and self.input.is_floating_point():
                self.seen.input = moments(self.input, self.seen.batch)
            self.input = None

    def _gradients(self) -> list[Tensor]:
        return [p.grad for root in self.roots for p in root.parameters() if p.grad is not None]

    def _before_step(self, optimiser: torch.optim.Optimizer, arguments: Any, options: Any) -> None:
        if self.foreign:
            return
        self._here("step")
        self._add_optimiser(optimiser)
        self.seen.optimiser = type(optimiser).__name__
        names = ("lr", "momentum", "weight_decay")
        self.seen.groups = [{name: float(group[name]) for name in names if name in group} for group in optimiser.param_groups]
        if not self.backwards and (not self.steppers or id(optimiser) in self.steppers):
            self.seen.without_backward += 1
        if self.measuring and self.backwards and not self.weights:
            self._end_measurement()

    def _end_measurement(self) -> None:
        """Keep what was measured in this step, before parameters change."""
        seen = self.seen
        if self.after_backward > 0:
            seen.clipped.append(norm_of(self._gradients()) / self.after_backward)
        for root in self.roots:
            for parameter in root.parameters():
                known = seen.parameters[id(parameter)]
                known.frozen = not parameter.requires_grad
                known.optimised = id(parameter) in self.optimised
                known.gradients.append(None if parameter.grad is None else norm_of([parameter.grad]))
                fingerprint = float(parameter.detach().double().sum()) + norm_of([parameter])
                if not math.isnan(known.fingerprint):
                    known.changed.append(fingerprint != known.fingerprint)
                known.fingerprint = fingerprint
                self.weights[id(parameter)] = parameter.detach().clone()
        if self.own is not None:
            self.layers |= self.own.layers(self._name, self.built)
        if not self.layers:
            return
        seen.layers = self.layers
        seen.first_layers = seen.first_layers or self.layers
        seen.timesteps = max(max(layer.calls for layer in self.layers.values()), self.top_calls)
        seen.records = [finite(record) for record in self._records()]

    def _records(self) -> list[dict[str, Any]]:
        """Records of the layers, in the order of their first calls."""
        layers = list(self.layers.values())
        if len(layers) > 1 and not layers[-1].arriving and any(layer.arriving for layer in layers):
            layers.pop()  # it is read from its potentials, not from its spikes
        norms = [
            math.nan if layer.weight is None or layer.weight.grad is None else norm_of([layer.weight.grad]) for layer in layers
        ]
        return [layer.record(norm, norms[-1]) for layer, norm in zip(layers, norms, strict=True)]

    def _after_step(self, optimiser: torch.optim.Optimizer, arguments: Any, options: Any) -> None:
        if self.foreign:
            return
        another = bool(self.steppers) and id(optimiser) not in self.steppers and not self.backwards
        self.steppers.add(id(optimiser))
        if another:  # after the same backward pass
            return
        for root in self.roots if self.weights else ():
            for parameter in root.parameters():
                before = self.weights.get(id(parameter))
                if before is not None and (size := norm_of([before])) > 0:
                    self.seen.parameters[id(parameter)].update = norm_of([parameter.detach() - before]) / size
        self.weights = {}
        self.seen.steps += 1
        self._measure(False)
        self._start()
        if self.limit is not None and self.seen.steps >= self.limit:
            raise Enough
        last = self.seen.losses[-1] if self.seen.losses else None
        diverges = last is not None and last.device.type == "cpu" and not bool(torch.isfinite(last))
        if is_due(self.seen.steps, self.every) or (diverges and len(self.seen.records) == 0):
            self._measure(True)


def _applied(original: Callable[..., Any], cls: Any, *arguments: Any, **options: Any) -> Any:
    out = original(cls, *arguments, **options)
    watch = Watch.active
    if watch is not None and watch.measuring:
        watch.applied(cls, arguments, out)
    return out


def _arrives(layer: Neurons, call: int, grad: Tensor) -> None:
    layer.arriving[call] = float(grad.double().square().sum())


def _gradient(layer: Neurons, call: int, grad: Tensor) -> None:
    layer.du[call] = float(grad.double().square().sum())
    layer.zeros += int((grad == 0).sum())
    layer.entries += grad.numel()
    layer.not_finite |= not math.isfinite(layer.du[call]) and math.isfinite(layer.arriving.get(call, math.nan))
