"""Watch a training: hooks on modules, surrogates, losses and optimisers, which observe and change nothing."""

import math
import operator
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data.dataloader import _BaseDataLoaderIter

from lsgcli.analysis.watch import lines
from lsgcli.analysis.watch.evaluation import METRICS, Evaluation
from lsgcli.analysis.watch.forward import Forward
from lsgcli.analysis.watch.graph import flat, leaves, softmax_before
from lsgcli.analysis.watch.neighbours import agreement, layouts
from lsgcli.analysis.watch.seen import Outputs, Scores, Seen, axis_of, first_tensor, is_binary, moments, norm_of
from lsgcli.system.files import finite

Function = Callable[..., Any]
MANY = 5  # backward passes without a step
LONGER = 5  # times the steps that are watched, while no neurons were seen: another network may follow; or no evaluation of a network that learns
PATIENCE = 30  # seconds until that evaluation
FIRST = 3  # steps that are measured, before those at 10, 30, 100, ...
LOSSES = (
    *("cross_entropy", "nll_loss", "mse_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "l1_loss"),
    *("smooth_l1_loss", "huber_loss", "multi_margin_loss", "multilabel_margin_loss", "kl_div"),
)
ENTRIES = 64  # of the last matrix, by which its values after a step are known again
OVERFLOW = 1e18  # norms whose squares are no float32: clipping makes such gradients 0
ELEMENTWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d")
COMPARISONS = ("__gt__", "__ge__", "__lt__", "__le__", "gt", "ge", "heaviside")
EQUALITIES = ("__eq__", "eq")
IN_PLACE = (
    "__iadd__",
    "__isub__",
    "__imul__",
    "__itruediv__",
    "__setitem__",
    "add_",
    "sub_",
    "mul_",
    "div_",
    "copy_",
    "zero_",
    "fill_",
    "clamp_",
    "masked_fill_",
)


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
        self.limit, self.every = steps, every
        self.optimised: set[int] = set()
        self.stepped: set[int] = set()  # optimisers
        self.until = math.inf  # time at which an evaluation is no longer waited for
        self.measuring = False
        self.evaluation = Evaluation(self)
        self._undo: list[Callable[[], object]] = []
        self._hooks: list[Any] = []
        self._begin()
        for network in networks:
            self.forward.parts(network)
        for optimizer in optimizers:
            self._add_optimiser(optimizer)

    def _begin(self) -> None:
        """Begin with nothing seen."""
        self.seen = Seen()
        self.forward = Forward(self.seen)
        self.labels: Tensor | None = None  # of the last loss in training
        self.before: tuple[list[Tensor], Tensor] | None = None  # inputs and labels of the measured step before
        self.sums: list[float] = []  # of parameters, before the first step
        self.stale: set[int] = set()  # parameters whose gradients a step has used
        self.steppers: set[int] = set()  # optimisers that have stepped since the last backward pass
        self.weights: dict[int, Tensor] = {}  # before a measured step
        self.trained: list[tuple[Tensor, Tensor]] = []  # a parameter, with some of its values after the last step
        self._start()

    def _begin_again(self, optimiser: torch.optim.Optimizer) -> None:
        """Forget a training without spikes, such as that of a teacher, before that of another optimiser."""
        built = self.forward.built
        self.measure(False)
        self._begin()
        self.forward.built = built
        self.seen.note("optimiser", built.get(optimiser))
        self.seen.optimisers[optimiser] = 1
        self.measure(True)

    def _start(self) -> None:
        """Begin a step."""
        self.forward.start()
        self.backwards = 0
        self.after_backward = 0.0
        self.stepping = False  # whether an optimiser is at work
        self.logits: Outputs | None = None
        self.parts: list[Tensor] = []  # values of the loss function

    def __enter__(self) -> Self:
        if Watch.active is not None:
            raise RuntimeError("watch: found another watch that is active, expected one at a time")
        patches: list[tuple[Any, tuple[str, ...], Function]] = [
            (torch.autograd, ("backward",), self._backward),
            (F, LOSSES, self._loss),
            (F, DROPOUTS, self._dropped),
            (Tensor, COMPARISONS, self._without_gradient),  # methods only: torch.jit looks functions of torch up by themselves
            (Tensor, EQUALITIES, self.evaluation.equal),
            (Tensor, IN_PLACE, self._changes),
            (nn.Module, ("__init__",), self._built),
            (torch.optim.Optimizer, ("__init__",), self._optimiser_built),
            (_BaseDataLoaderIter, ("__next__",), self._draws),
            (lr_scheduler.LRScheduler, ("step",), partial(self._noted, "schedule")),
            (nn.Module, ("load_state_dict",), partial(self._noted, "loaded")),
        ]
        for context in (torch.no_grad, torch.inference_mode):
            patches += [(context, ("__enter__",), self.evaluation.begins), (context, ("__exit__",), self.evaluation.ends)]
        for owner, names, around in patches:
            for name in names:
                self._patch(owner, name, around)
        apply = torch.autograd.Function.__dict__["apply"]
        torch.autograd.Function.apply = classmethod(partial(_applied, apply))  # type: ignore[assignment]
        self._undo.append(lambda: setattr(torch.autograd.Function, "apply", apply))
        for handle in (
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ):
            self._undo.append(handle.remove)
        Watch.active = self
        self.measure(True)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.measure(False)
        for undo in reversed(self._undo):
            undo()
        Watch.active = None
        self.seen.ended = error is None
        if error is not None and not isinstance(error, Enough | SystemExit):
            self.seen.layers = self.forward.layers or self.seen.layers
            self.seen.error = error
            line, self.seen.operands = lines.of_error(error)
            self.seen.note("error", line)

    def _patch(self, owner: Any, name: str, around: Function) -> None:
        """Replace a function by ``around``, which is called with the function first."""
        original = getattr(owner, name)

        @wraps(original)
        def patched(*arguments: Any, **options: Any) -> Any:
            return around(original, *arguments, **options)

        setattr(owner, name, patched)
        self._undo.append(lambda: setattr(owner, name, original))

    def _here(self, what: str) -> None:
        """Keep the user's line that did something first."""
        self.seen.note(what, lines.here(3))

    def other_weights(self) -> bool:
        """Whether the weights are no longer those after the last step."""
        return any(not torch.allclose(_begin_of(p), values, 0, 0, equal_nan=True) for p, values in self.trained)

    # What is built

    def _built(self, original: Function, module: nn.Module, *arguments: Any, **options: Any) -> None:
        original(module, *arguments, **options)
        self.forward.built[module] = lines.here_of(module)

    def _optimiser_built(self, original: Function, optimiser: Any, *arguments: Any, **options: Any) -> None:
        self.forward.built[optimiser] = lines.here_of(optimiser)
        self.seen.note("optimiser", self.forward.built[optimiser])
        self.seen.optimisers[self.forward.built[optimiser], type(optimiser)] += 1
        original(optimiser, *arguments, **options)
        self._add_optimiser(optimiser)

    def _add_optimiser(self, optimiser: torch.optim.Optimizer) -> None:
        self.optimised |= {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
        self.seen.settings = optimiser.param_groups[0]

    def measure(self, on: bool) -> None:
        """Begin or end to observe each module."""
        if on and not self._hooks:
            self._hooks = [
                register_module_forward_pre_hook(self.forward.enters),
                register_module_forward_hook(self.forward.leaves),
            ]
        elif not on:
            for hook in self._hooks:
                hook.remove()
            self._hooks = []
            if self.forward.own is not None:
                self.forward.own.close()
                self.forward.own = None
        self.measuring = on

    # Losses

    def _loss(self, original: Function, *arguments: Any, **options: Any) -> Any:
        value = original(*arguments, **options)
        if not self.forward.foreign and len(arguments) > 1 and all(isinstance(part, Tensor) for part in arguments[:2]):
            outputs = arguments[0]
            if self.measuring and outputs.dim() > 0 and outputs.grad_fn is not None:
                self.seen.softmax = self.seen.softmax or softmax_before(outputs, original.__name__)
                self.seen.smoothing = max(self.seen.smoothing, float(options.get("label_smoothing", 0)))
                weights, positive = options.get("weight", arguments[2:3] and arguments[2]), options.get("pos_weight")
                if isinstance(weights, Tensor) and weights.dim() == 1:
                    self.seen.class_weights = weights.tolist()
                elif isinstance(positive, Tensor) and positive.numel() == 1:
                    self.seen.class_weights = [1.0, float(positive)]
            self._compared(original.__name__, outputs.detach(), arguments[1].detach())
            if self.logits is not None and self.logits.loss == original.__name__:
                self.parts.append(value.detach())
            if self.measuring and outputs.requires_grad and outputs.dim() == 2 and self.logits is not None:
                outputs.register_hook(partial(self._pulls, self.logits.labels))
        return value

    def _pulls(self, labels: Tensor, grad: Tensor) -> None:
        """The gradient at the outputs (B, classes) of labels (B)."""
        if (
            labels.shape == grad.shape[:1]
            and not labels.is_floating_point()
            and ((labels >= 0) & (labels < grad.shape[1])).all()
        ):
            own = grad.gather(1, labels.long()[:, None])
            size = float(grad.abs().mean())
            self.seen.pull += [float((own - grad.mean(1, keepdim=True)).mean()) / size] if 0 < size < math.inf else []

    def _compared(self, name: str, outputs: Tensor, labels: Tensor) -> None:
        """Outputs and labels that a loss function compares; outputs of a step with the same labels are added up, such as those of timesteps."""
        self._here("loss")
        shapes = outputs.shape, labels.shape
        if name in ELEMENTWISE and torch.broadcast_shapes(*shapes) not in shapes:
            self.seen.shapes = shapes
        for target in labels[(labels < 0) | (labels > 1)][:1] if name.startswith("binary") else ():
            self.seen.outside = float(target)
        if outputs.dim() == 1 and outputs.shape == labels.shape:
            outputs, labels = outputs[:, None], labels[:, None]
        if outputs.dim() < 2 or not len(outputs):
            return
        targets = labels if name in ELEMENTWISE and labels.shape == outputs.shape else None
        if labels.shape == outputs.shape and (name in ("cross_entropy", "kl_div") or _is_one_hot(labels)):
            labels = labels.argmax(1)
        elif labels.shape == outputs.shape and labels.shape[1] > 2 and _is_one_hot(-labels):
            labels = labels.argmin(1)  # of targets with the wrong sign
        grads = torch.is_grad_enabled()
        before = self.logits if grads else None
        if before is not None and labels.is_floating_point() > before.labels.is_floating_point():
            return  # a penalty, or an auxiliary loss, beside that of the classes
        if before is not None and before.values.shape == outputs.shape and torch.equal(before.labels, labels):
            self.logits = Outputs(name, before.where, before.values + outputs, labels, before.calls + 1)
        else:
            now = Outputs(name, self.seen.lines.get("loss"), outputs, labels, targets=targets)
            if grads:
                previous = self.labels if self.measuring and self.logits is None else None
                if previous is not None and previous.dtype == labels.dtype:
                    self.seen.repeated += torch.equal(labels, previous)
                self.logits, self.labels = now, labels
            else:
                self._score(now, self.seen.evaluated)

    def _score(self, found: Outputs, scores: Scores) -> None:
        """Add the accuracy of outputs (B, classes), if labels are classes."""
        seen = self.seen
        values, labels = found.values, found.labels
        if found.loss.startswith("binary") and values.shape[1:] == (1,) and bool(((labels == 0) | (labels == 1)).all()):
            above = values - (0.5 if found.loss == "binary_cross_entropy" else 0.0)
            values, labels = torch.cat([-above, above], 1), labels.flatten().long()
        seen.batch = max(seen.batch, len(values))
        if found.targets is not None and scores is seen.evaluated and labels.is_floating_point() and len(values) > 1:
            seen.fits(found.values.flatten(), found.targets.flatten())
        elif found.targets is not None and labels.is_floating_point():
            means = found.values / found.calls
            variance = float((found.targets - found.targets.mean(0)).square().mean())
            rest = float((means - found.targets).square().mean()) / variance if variance > 0 else math.nan
            if rest >= 0:
                seen.explained.append((seen.steps, max(-1.0, 1 - rest), len(values)))
        if values.dim() != 2 or values.shape[1] < 2 or labels.shape != values.shape[:1] or labels.is_floating_point():
            return
        seen.classes = max(seen.classes, values.shape[1])
        if scores is seen.accuracy and found.loss != "kl_div":  # whose targets are those of a teacher
            counts = Counter(labels.tolist())
            seen.labels.update(counts)
            seen.largest_class.append(max(counts.values()) / len(labels))
        scores.append((seen.steps, float((values.argmax(1) == labels).float().mean()), len(labels)))

    def _without_gradient(self, original: Function, *arguments: Any, **options: Any) -> Any:
        """Comparisons in the user's code of values that have a gradient."""
        if self.measuring and torch.is_grad_enabled() and not self.forward.foreign and arguments:
            caller = sys._getframe(2)
            if getattr(arguments[0], "requires_grad", False) and lines.of_user(caller.f_code.co_filename):
                line, spikes = lines.Line(caller.f_code.co_filename, caller.f_lineno), original(*arguments, **options)
                self.seen.note("comparison", line)
                if original.__name__.strip("_") in ("gt", "ge") and len(arguments) > 1:
                    self.forward.compared(arguments[0], arguments[1], spikes, line)
                return spikes
        return original(*arguments, **options)

    def _changes(self, original: Function, changed: Tensor, *arguments: Any, **options: Any) -> Any:
        """A tensor is changed in place."""
        if self.measuring and torch.is_grad_enabled() and not self.forward.foreign:
            self.seen.changed[str(list(changed.shape))] = lines.here(2)
        return original(changed, *arguments, **options)

    def _dropped(self, original: Function, x: Tensor, p: float = 0.5, training: bool = True, *rest: Any) -> Any:
        """A call of dropout, by a module of torch or another library, or by the user."""
        if self.measuring and training and not self.forward.foreign:
            module = self.forward.stack[-1][0] if self.forward.stack else None
            where = self.forward.built.get(module) if hasattr(module, "p") else lines.here(3)
            if torch.is_grad_enabled():
                self.seen.dropouts.add((p, where))
            elif not hasattr(module, "p"):
                self.seen.training.setdefault("dropout", where)
        return original(x, p, training, *rest)

    def _draws(self, original: Function, iterator: Any) -> Any:
        """A batch of a data loader is drawn."""
        batch, drawn = original(iterator), iterator._num_yielded
        self.evaluation.draws(batch)
        if torch.is_grad_enabled():
            self._here("batch")
            self.seen.passes += drawn == 1
            self.seen.drawn = max(self.seen.drawn, drawn)
            self.seen.batches = operator.length_hint(iterator._index_sampler)
        return batch

    def _noted(self, what: str, original: Function, *arguments: Any, **options: Any) -> Any:
        if self.seen.steps:
            self._here(what)
        return original(*arguments, **options)

    # Backward and steps

    def _backward(self, original: Function, tensors: Any, *arguments: Any, **options: Any) -> None:
        seen = self.seen
        if self.forward.foreign:
            original(tensors, *arguments, **options)
            return
        self._here("backward")
        loss = first_tensor(tensors)
        if loss is not None and not seen.backwards:
            seen.flat = flat(loss)
        by_hand = not (seen.steps or seen.optimisers)  # parameters are updated by the script, or not at all
        if by_hand and not seen.backwards and not self.forward.parameters() and loss is not None:
            self.forward.loose = leaves(loss)
        seen.accumulated += (
            by_hand and seen.moved and any(p.grad is not None and bool(p.grad.any()) for p in self.forward.parameters())
        )
        if self.measuring:
            self.stale -= {id(p) for p in self.forward.parameters() if p.grad is None or not bool(p.grad.any())}
        original(tensors, *arguments, **options)
        self.backwards += 1
        self.steppers.clear()
        seen.backwards += 1
        seen.leaves += loss is not None and loss.grad_fn is None
        if not seen.steps:
            self._without_steps()
        if loss is not None and loss.numel() == 1:
            if self.backwards == 1:
                seen.losses.append(loss.detach())
                seen.parts += [torch.stack(self.parts).mean()] if self.parts else []
            if self.logits is not None:
                self._score(self.logits, seen.accuracy)
        if self.measuring:
            self.after_backward = norm_of(self.forward.gradients())
            seen.outputs = self.logits or seen.outputs
            self._compare_neighbours()
            if self.stepping and not self.weights:  # by a closure
                self._end_measurement()

    def _compare_neighbours(self) -> None:
        """What has entered the network, and how its samples' neighbours, and those of the outputs, share their labels."""
        stages = {stage: calls for stage, (_, calls) in self.forward.entries.items()}
        self.forward.entries = {}
        entered = [call for call in stages.get("input", []) if call.shape == stages["input"][0].shape]
        first = stages.get("first", [])
        if entered:
            mean = torch.stack(entered).mean(0)
            self.seen.input = moments(mean, axis_of(mean, self.seen.batch))
            del self.seen.input["rows"]
            same = _all_equal(entered) and is_binary(entered[0])
            same |= _all_equal(first) and entered[0].numel() == len(first) * first[0].numel()  # one timestep of many
            self.seen.input["repeated"] = max(self.seen.input["repeated"], float(same))
        if first and all(is_binary(call) for call in first):
            self.seen.arriving = sum(float((call != 0).float().mean()) for call in first) / len(first)
        if len(first) > 1 and first[0].dim() > 1 and all(call.shape == first[0].shape for call in first):
            half = len(first) // 2
            means = [torch.stack(calls).float().mean(0) for calls in (first[:half], first[half:])]
            centred = torch.stack([(mean - mean.mean(0)).flatten() for mean in means])
            self.seen.repetition = float(torch.corrcoef(centred)[0, 1])
        if self.logits is None or self.logits.labels.dim() < 1 or len(self.logits.labels) < 2 or not self.logits.labels.numel():
            return
        self.forward.readout.learn(self.logits.labels)
        labels = self.logits.labels.flatten(1) if self.logits.labels.dim() > 1 else self.logits.labels[:, None]
        labels = labels[:, int(labels.float().var(0).argmax())]  # of targets with several values, the one of largest variance
        stages["outputs"] = [self.logits.values]
        if self.seen.steps < FIRST:
            stages["begin"] = stages["outputs"]  # before training may have made them equal
        for stage, calls in stages.items():
            for layout, features in layouts(calls, len(labels)) if calls else ():
                sums = self.seen.agreements.setdefault((stage, layout), [0.0, 0.0, 0.0])
                self.seen.agreements[stage, layout] = [a + b for a, b in zip(sums, agreement(features, labels), strict=True)]
        if self.before is not None and labels.shape == self.before[1].shape and not torch.equal(labels, self.before[1]):
            pairs = list(zip(entered, self.before[0], strict=False))
            self.seen.same_input += bool(pairs) and all(torch.equal(a, b) for a, b in pairs)
        self.before = entered, labels

    def _without_steps(self) -> None:
        """After a backward pass before the first step: parameters that move all the same are updated by hand, as those outside of modules may be."""
        if self.seen.backwards <= MANY:
            sums = [float(parameter.detach().double().sum()) for parameter in self.forward.parameters()]
            self.seen.moved |= self.seen.backwards > 1 and (not sums or sums != self.sums)
            self.sums = sums
        elif self.seen.backwards > 4 * MANY:
            self.measure(False)
        if self.limit is not None and self.seen.backwards >= 4 * self.limit:
            raise Enough

    def _before_step(self, optimiser: torch.optim.Optimizer, arguments: Any, options: Any) -> None:
        seen = self.seen
        if self.forward.foreign:
            return
        if seen.steps > FIRST and not seen.layers and id(optimiser) not in self.stepped:
            self._begin_again(optimiser)
            self.backwards, seen = 1, self.seen
        self.stepped.add(id(optimiser))
        self._here("step")
        self._add_optimiser(optimiser)
        groups = optimiser.param_groups
        before, seen.rates = seen.rates, [float(group["lr"]) for group in groups if "lr" in group]
        given = [float(group.get("initial_lr", 0)) for group in groups if "schedule" in seen.lines]  # after a long first epoch
        seen.highest_rate = max([seen.highest_rate, *seen.rates, *given])
        rate = max(seen.rates, default=0.0)
        seen.low += seen.rates <= before and rate < 0.01 * seen.highest_rate  # and does not rise
        seen.adaptive = any("betas" in group or "eps" in group for group in groups)
        seen.weight_decay = max(float(group.get("weight_decay") or 0) for group in groups)
        if "AdamW" in type(optimiser).__name__ or not seen.adaptive:  # weights shrink by it whatever the size of the gradients
            seen.shrink = max(seen.shrink, rate * seen.weight_decay / max(0.01, 1 - groups[0].get("momentum", 0.0)))
        seen.maximises |= any(group.get("maximize") is True for group in groups)
        own = [parameter for group in groups for parameter in group["params"]]
        if not seen.networks and not self.forward.loose:
            self.forward.loose = own
            for number, parameter in enumerate(own):
                seen.add(f"parameter {number}", parameter, self.forward.built.get(optimiser))
        if self.measuring and self.backwards:
            used = self.stale.intersection(map(id, own))
            seen.accumulated += any(id(p) in used and p.grad is not None and p.grad.any() for p in self.forward.parameters())
        self.stale.update(map(id, own))
        if seen.losses and seen.broken is None and _not_finite(seen.losses[-1]):
            broken = {id(parameter) for parameter in own if not bool(torch.isfinite(parameter).all())}
            seen.broken = broken if len(broken) < len(own) else set()
        self.stepping = True
        seen.overwritten += self.other_weights()
        if self.measuring and self.backwards and not self.weights:
            self._end_measurement()
        for module, name in METRICS:
            if self.seen.steps == 0 and hasattr(sys.modules.get(module), name):  # once the script has imported it
                self._patch(sys.modules[module], name, self.evaluation.metric)

    def _end_measurement(self) -> None:
        """Keep what was measured in this step, before parameters change."""
        seen, forward = self.seen, self.forward
        if 0 < self.after_backward < OVERFLOW:
            seen.clipped.append(norm_of(self.forward.gradients()) / self.after_backward)
        for root in forward.roots:
            forward.parts(root)  # also parameters that its first call has made
        for parameter in forward.parameters():
            known = seen.parameters[id(parameter)]
            known.frozen = not parameter.requires_grad
            known.optimised = id(parameter) in self.optimised
            known.gradients.append(None if parameter.grad is None else norm_of([parameter.grad]))
            fingerprint = float(parameter.detach().double().sum()) + norm_of([parameter])
            if not math.isnan(known.fingerprint):
                known.changed.append(fingerprint != known.fingerprint)
            known.fingerprint = fingerprint
            self.weights[id(parameter)] = parameter.detach().clone()
        if forward.own is not None:
            forward.layers |= forward.own.layers(forward.name, forward.built, forward.shapes)
        if not forward.layers:
            return
        seen.layers = forward.layers
        forward.per_batch = forward.calls
        seen.timesteps = max(max(layer.calls for layer in forward.layers.values()), forward.calls)
        seen.records = [finite(record) for record in forward.records()]
        seen.negative += [layer.name for layer in forward.layers.values() if layer.h < 0 and layer.name not in seen.negative]
        if not seen.first:
            seen.first = {record["name"]: record for record in seen.records}
            seen.spreads = {layer.name: layer.spread for layer in seen.layers.values()}

    def _after_step(self, optimiser: torch.optim.Optimizer, arguments: Any, options: Any) -> None:
        seen = self.seen
        if self.forward.foreign:
            return
        another = bool(self.steppers) and id(optimiser) not in self.steppers and not self.backwards
        self.steppers.add(id(optimiser))
        if another:  # after the same backward pass
            return
        self.stepping = False
        own = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        seen.without_backward += not self.backwards and not any(p.grad is not None and bool(p.grad.any()) for p in own)
        updates = []
        for parameter in self.forward.parameters() if self.weights else ():
            before = self.weights.get(id(parameter))
            if before is not None and (size := norm_of([before])) > 0:
                seen.parameters[id(parameter)].update = norm_of([parameter.detach() - before]) / size
                if parameter.dtype.itemsize < 4 and parameter.grad is not None:
                    kept = (parameter == before)[parameter.grad != 0]
                    seen.rounded = max(seen.rounded, float(kept.float().mean()))
                updates += [seen.parameters[id(parameter)].update] if parameter.dim() > 1 else []
        seen.largest_update = max([seen.largest_update, *updates]) if seen.steps else 0.0
        self.weights = {}
        self.trained = [(p, _begin_of(p)) for p in [p for p in own if p.dim() > 1][-1:]]
        seen.steps += 1
        self.measure(False)
        self._start()
        if self.limit is not None and seen.steps >= self.limit and (seen.steps >= LONGER * self.limit or self._is_enough()):
            raise Enough
        diverges = bool(seen.losses) and _not_finite(seen.losses[-1])
        if is_due(seen.steps, self.every) or (diverges and len(seen.records) == 0):
            self.measure(True)

    def _is_enough(self) -> bool:
        """After the last step that is to be watched: whether there is nothing to wait for."""
        seen = self.seen
        # What training shows is known; faults of evaluation show in a network that learns.
        if seen.layers and math.isinf(self.until):
            self.until = time.monotonic() + PATIENCE if seen.progresses else 0.0
        return bool(seen.layers) and (bool(seen.evaluated_input) or time.monotonic() > self.until)


def _begin_of(parameter: Tensor) -> Tensor:
    return parameter.detach().reshape(-1)[:ENTRIES].clone()


def _all_equal(calls: Sequence[Tensor]) -> bool:
    return len(calls) > 1 and all(torch.equal(call, calls[0]) for call in calls)


def _is_one_hot(labels: Tensor) -> bool:
    """Whether targets (B, classes) have one value for the class and another for the others."""
    if labels.shape[1] < 2:
        return False
    top, low = labels.amax(1, keepdim=True), labels.amin(1, keepdim=True)
    return bool((((labels == top).sum(1) == 1) & ((labels == top) | (labels == low)).all(1)).all())


def _not_finite(loss: Tensor) -> bool:
    """Whether a loss is not finite, where that is known without waiting for a device."""
    return loss.device.type == "cpu" and not bool(torch.isfinite(loss))


def _applied(original: Any, cls: Any, *arguments: Any, **options: Any) -> Any:
    out = original.__get__(None, cls)(*arguments, **options)
    watch = Watch.active
    if watch is not None and watch.measuring:
        watch.forward.applied(cls, arguments, out)
    return out
