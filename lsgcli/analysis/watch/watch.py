"""Watch a training: what builds, runs, loses, steps and evaluates is observed, and nothing is changed."""

import math
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules_of_torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data.dataloader import _BaseDataLoaderIter

from lsgcli.analysis.watch import lines
from lsgcli.analysis.watch.evaluation import METRICS, Evaluation
from lsgcli.analysis.watch.forward import DROPOUTS, Forward, alive
from lsgcli.analysis.watch.guard import Function, Guard, callback_of_compiler, leave_out_frames
from lsgcli.analysis.watch.modules import attributes, first_tensor, is_plain, number, own_parameters, tensors
from lsgcli.analysis.watch.seen import Failure, Outputs, Scores, Seen
from lsgcli.analysis.watch.tensors import (
    agreement,
    all_equal,
    axis_of,
    explained,
    flat,
    is_binary,
    layouts,
    leaves,
    moments,
    norm_of,
    softmax_before,
)
from lsgcli.system.files import finite

MANY = 5  # backward passes without a step
MAX_STEPS_FACTOR = 5  # times the steps that are watched, while no neurons were seen: another network may follow; or no evaluation of a network that learns
EVALUATION_TIMEOUT = 30.0  # seconds until that evaluation
FIRST = 3  # steps that are measured, before later ones
MEASURED = (*range(FIRST), 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
# Losses by the operators that functions of torch.nn.functional call, after they have warned at the line of the user.
LOSSES = {
    "cross_entropy_loss": (torch._C._nn, "cross_entropy"),  # type: ignore[attr-defined]
    "nll_loss_nd": (torch._C._nn, "nll_loss"),  # type: ignore[attr-defined]
    "mse_loss": (torch._C._nn, "mse_loss"),  # type: ignore[attr-defined]
    "binary_cross_entropy": (torch._C._nn, "binary_cross_entropy"),  # type: ignore[attr-defined]
    "binary_cross_entropy_with_logits": (torch, "binary_cross_entropy_with_logits"),
    "l1_loss": (torch._C._nn, "l1_loss"),  # type: ignore[attr-defined]
    "smooth_l1_loss": (torch._C._nn, "smooth_l1_loss"),  # type: ignore[attr-defined]
    "huber_loss": (torch._C._nn, "huber_loss"),  # type: ignore[attr-defined]
    "multi_margin_loss": (torch._C._nn, "multi_margin_loss"),  # type: ignore[attr-defined]
    "multilabel_margin_loss": (torch._C._nn, "multilabel_margin_loss"),  # type: ignore[attr-defined]
    "kl_div": (torch, "kl_div"),
}
ENTRIES = 64  # of the last matrix, by which its values after a step are known again
OVERFLOW = 1e18  # norms whose squares are no float32: clipping makes such gradients 0
ELEMENTWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
DROPOUT_OPERATORS = ("dropout", "dropout_", "feature_dropout", "feature_dropout_")
COMPARISONS = ("__gt__", "__ge__", "__lt__", "__le__", "gt", "ge")
EQUALITIES = ("__eq__", "eq")


class StopWatching(BaseException):
    """Ends a script after the last step that is watched."""


def is_due(step: int, every: int | None = None) -> bool:
    """Whether a step is measured: the first three, then 10, 30, 100, 300, ... and every so many if given."""
    return step in MEASURED or bool(every and step % every == 0)


class Watch:
    """While the block runs, observe all that trains in this process.

    Measures of layers are taken at some steps; losses, accuracies and modes at each. A *step* lasts until an optimiser has stepped. Values, gradients
    and random numbers of the training stay as they are.

    Args:
        steps: number of steps after which :class:`StopWatching` is raised; None to watch until the end.
        every: steps between further measurements.
        network, optimizer: that exist already.
        patience: seconds after the last step in which an evaluation of a network that learns is waited for.

    Attributes:
        seen: what was seen, which the rules read.
        guard: calls the observing methods of this class where they do no harm.
        forward: observes modules, in steps that are measured.
        evaluation: observes what runs without gradients.
        measuring: whether this step is measured, or an evaluation is observed.
        optimised: ids of the parameters that an optimiser has.
        backwards: backward passes of this step.
        logits: outputs and labels of the loss of this step.
    """

    active: "Watch | None" = None

    def __init__(
        self,
        steps: int | None = None,
        every: int | None = None,
        network: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        patience: float = EVALUATION_TIMEOUT,
    ):
        self.limit = steps
        self.every = every
        self.optimised: set[int] = set()
        self.stepped: set[int] = set()  # optimisers
        self.until = math.inf  # time at which an evaluation is no longer waited for
        self.patience = patience
        self.measuring = False
        self.guard = Guard()
        self.evaluation = Evaluation(self)
        self.compiled_before = _compiled_graphs()
        self._begin()
        if network is not None:
            self.guard.observe("network", self.forward.parts, network)
        if optimizer is not None:
            self.guard.observe("optimizer", self._add_optimiser, optimizer)

    def _begin(self) -> None:
        """Begin with nothing seen."""
        self.seen = Seen()
        self.forward = Forward(self.seen, self.guard)
        self.labels: Tensor | None = None  # of the last loss in training
        self.before: tuple[Tensor, Tensor] | None = None  # input and labels of the measured step before
        self.carried: set[int] = set()  # parameters that have a gradient before the first backward pass of a step
        self.sums: list[float] = []  # of parameters, before the first step
        self.stepping = False  # whether an optimiser is in its step
        self.stepper = 0  # the optimiser that ended the last step
        self.weights: dict[int, Tensor] = {}  # before a measured step, of the parameters whose optimiser has not stepped since
        # What has the last matrix of the optimiser that has stepped last, and its name there.
        self.trained: tuple[Callable[[], Any], str] = (lambda: None, "")
        self.fingerprint = torch.zeros(0)  # of that matrix, after the step
        self._start()

    def _begin_again(self, optimiser: torch.optim.Optimizer) -> None:
        """Forget a training without spikes, such as that of a teacher, before that of another optimiser."""
        built = self.forward.built
        self.measure(False)
        self._begin()
        self.forward.built = built
        self.seen.note("optimiser", built.get(optimiser))
        self.seen.has_optimiser = True
        self.measure(True)

    def _start(self) -> None:
        """Begin a step."""
        self.forward.start()
        self.backwards = 0
        self.after_backward = 0.0
        self.logits: Outputs | None = None
        self.parts: list[Tensor] = []  # values of the loss function

    def __enter__(self) -> Self:
        if Watch.active is not None:
            raise RuntimeError("watch: found another watch that is active, expected one at a time")
        patch = self.guard.patch
        for operator, (owner, name) in LOSSES.items():
            patch(owner, operator, after=partial(self._loss, name))
        for name in DROPOUT_OPERATORS:
            patch(torch._VF, name, after=self._dropped)
        for name in COMPARISONS:
            patch(Tensor, name, after=partial(self._without_gradient, name))
        for name in EQUALITIES:
            patch(Tensor, name, after=self.evaluation.compare)
        patch(torch.autograd.Function, "apply", after=self._applied, counts=True)
        patch(torch.autograd, "backward", before=self._before_backward, after=self._after_backward)
        patch(torch.optim.Optimizer, "__init__", before=self._builds_optimiser, after=self._optimiser_built)
        patch(_BaseDataLoaderIter, "__next__", after=self.evaluation.draw)
        self._patch_modules()
        for register in (
            modules_of_torch.register_module_parameter_registration_hook,
            modules_of_torch.register_module_buffer_registration_hook,
            modules_of_torch.register_module_module_registration_hook,
        ):
            self.guard.enter(register(self._registers))
        self.guard.enter(register_optimizer_step_pre_hook(self._hook("step", self._before_step)))
        self.guard.enter(register_optimizer_step_post_hook(self._hook("step", self._after_step)))
        Watch.active = self
        self.measure(True)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.guard.close()
        Watch.active = None
        self.guard.observe("end", self._end, error)
        self.seen.failed = self.guard.failed

    def _end(self, error: BaseException | None) -> None:
        layers = self.forward.layers
        self.measure(False)
        self.seen.ended = error is None
        self.seen.compiled = _compiled_graphs() > self.compiled_before
        if error is not None and not isinstance(error, StopWatching | SystemExit):
            self.seen.layers = layers or self.seen.layers
            self.seen.error = Failure(type(error).__name__, str(error))
            line, self.seen.operands = lines.of_error(error)
            self.seen.note("error", line)

    def _hook(self, what: str, function: Function) -> Function:
        """A hook of torch that calls an observing method."""

        def observe(*arguments: Any) -> None:
            # Compilers read this line alone.
            if not torch.compiler.is_compiling() and self.guard.is_open():
                self.guard.observe(what, function, *arguments)

        return observe

    def _patch_modules(self) -> None:
        """Observe the calls of modules. Global hooks of torch would make compilers warn, and compile again where they change."""
        original = nn.Module._call_impl  # type: ignore[attr-defined]

        def _call_impl(module: nn.Module, *arguments: Any, **options: Any) -> Any:
            if torch.compiler.is_compiling() or callback_of_compiler() is not None:
                return original(module, *arguments, **options)
            forward = self.forward
            depth = len(forward.stack)
            observed = self._wants_modules() and self.guard.is_open() and not isinstance(module, torch.jit.ScriptModule)
            given = (*arguments, *options.values()) if observed else ()
            try:
                if observed:
                    self.guard.observe("modules", self._enters, module, *given)
                entered = observed and forward is self.forward and len(forward.stack) > depth
                output = original(module, *arguments, **options)
                if entered and forward is self.forward and len(forward.stack) == depth + 1:
                    self.guard.observe("modules", forward.leaves, output, module, *given)
                return output
            except BaseException as error:
                leave_out_frames(error)
                raise
            finally:
                if observed:
                    del forward.stack[depth:]

        self.guard.replace(nn.Module, "_call_impl", original, _call_impl)

    def _wants_modules(self) -> bool:
        return self.measuring or not (torch.is_grad_enabled() or self.evaluation.waits)

    def _enters(self, module: nn.Module, *arguments: Any) -> None:
        """A module is called."""
        if self.guard.grads:
            self.evaluation.end()
        elif not self.measuring and not self.forward.stack:
            self.evaluation.begin()
        if self.measuring:
            self.forward.enters(module, *arguments)

    def _here(self, what: str) -> None:
        """Keep the user's line that did something first."""
        self.seen.note(what, lines.here())

    @property
    def observes(self) -> bool:
        """Whether a call belongs to the training, in a step that is measured."""
        return self.measuring and self.guard.grads

    def other_weights(self) -> bool:
        """Whether the weights are no longer those after the last step."""
        reference, name = self.trained
        owner = reference()
        if owner is None:
            return False
        matrix = own_parameters(owner).get(name) if isinstance(owner, nn.Module) else _last_matrix(owner)
        return matrix is not None and not torch.equal(_fingerprint(matrix), self.fingerprint)

    # What is built

    def _registers(self, module: nn.Module, name: str, part: Any) -> None:
        """A module is given a parameter, a buffer or a module: both are built at the user's line, if it is the first time."""
        if torch.compiler.is_compiling() or not self.guard.is_open():
            return
        for built in (module, part):
            if isinstance(built, nn.Module) and built not in self.forward.built:
                self.guard.observe("built", self._built, built)

    def _built(self, module: nn.Module) -> None:
        self.forward.built[module] = lines.here(module)

    def _builds_optimiser(self, optimiser: Any, *arguments: Any) -> None:
        line = self.forward.built[optimiser] = lines.here(optimiser)
        self.seen.note("optimiser", line)
        self.seen.has_optimiser = True

    def _optimiser_built(self, value: None, optimiser: Any, *arguments: Any) -> None:
        self._add_optimiser(optimiser)

    def _add_optimiser(self, optimiser: torch.optim.Optimizer) -> None:
        self.optimised |= {id(parameter) for parameter in _parameters_of(optimiser)}
        self.seen.settings = {name: value for name, value in _groups_of(optimiser)[0].items() if name != "params"}

    def measure(self, on: bool) -> None:
        """Begin or end to observe each module."""
        if not on:
            self.forward.release()
        self.measuring = on

    # Losses

    def _loss(self, name: str, value: Any, *arguments: Any) -> None:
        pair = arguments[:2]
        if len(pair) < 2 or not all(map(is_plain, (value, *pair))):
            return
        seen = self.seen
        outputs, labels = map(_unexpanded, pair) if name in ELEMENTWISE else pair
        trains = self.measuring and outputs.dim() > 0 and outputs.grad_fn is not None
        if trains and name in ("cross_entropy", "nll_loss") and not seen.softmax:
            seen.softmax = softmax_before(outputs)
        if name == "cross_entropy":
            seen.smoothing = max(seen.smoothing, *(number(given) for given in arguments[5:6]), 0.0)
        self._compared(name, outputs.detach(), labels.detach())
        if self.logits is not None and self.logits.loss == name:
            self.parts.append(value.detach())
        if trains and outputs.dim() == 2 and self.logits is not None:
            hook = self.guard.hook("logits", self._record_logit_gradient, self.logits.labels, outputs.output_nr)
            outputs.grad_fn.register_prehook(hook)  # type: ignore[union-attr]

    def _record_logit_gradient(self, labels: Tensor, output: int, grads: tuple[Tensor | None, ...]) -> None:
        """The gradient at the outputs (B, classes) of labels (B)."""
        grad = first_tensor(grads[output])
        if grad is None or grad.dim() != 2 or labels.shape != grad.shape[:1] or labels.is_floating_point():
            return
        size = float(grad.abs().mean())
        if 0 < size < math.inf and bool(((labels >= 0) & (labels < grad.shape[1])).all()):
            own = grad.gather(1, labels.long()[:, None])
            self.seen.pull.append(float((own - grad.mean(1, keepdim=True)).mean()) / size)

    def _compared(self, name: str, outputs: Tensor, labels: Tensor) -> None:
        """Outputs and labels that a loss function compares; outputs of a step with the same labels are added up, such as those of timesteps."""
        seen = self.seen
        self._here("loss")
        shapes = outputs.shape, labels.shape
        if name in ELEMENTWISE and torch.broadcast_shapes(*shapes) not in shapes:
            seen.shapes = shapes
        if name.startswith("binary"):
            for target in labels[(labels < 0) | (labels > 1)][:1]:
                seen.outside = float(target)
        same = outputs.shape == labels.shape
        if outputs.dim() == 1 and same:
            outputs = outputs[:, None]
            labels = labels[:, None]
        if outputs.dim() < 2 or not len(outputs):
            return
        targets = labels if name in ELEMENTWISE and same else None
        if same and (name in ("cross_entropy", "kl_div") or _is_one_hot(labels)):
            labels = labels.argmax(1)
        elif same and labels.shape[1] > 2 and _is_one_hot(-labels):
            labels = labels.argmin(1)  # of targets with the wrong sign
        if not self.guard.grads:
            self._score(Outputs(name, outputs, labels, targets=targets), seen.evaluated)
            return
        before = self.logits
        if before is not None and labels.is_floating_point() > before.labels.is_floating_point():
            return  # a penalty, or an auxiliary loss, beside that of the classes
        if before is not None and before.values.shape == outputs.shape and torch.equal(before.labels, labels):
            self.logits = Outputs(name, before.values + outputs, labels, before.calls + 1)
            return
        previous = self.labels
        if self.measuring and before is None and previous is not None and previous.dtype == labels.dtype:
            seen.repeated += torch.equal(labels, previous)
        self.logits = Outputs(name, outputs, labels, targets=targets)
        self.labels = labels

    def _score(self, found: Outputs, scores: Scores) -> None:
        """Add the accuracy of outputs (B, classes), if labels are classes, or how well they explain targets."""
        seen = self.seen
        values = found.values
        labels = found.labels
        if found.loss.startswith("binary") and values.shape[1:] == (1,) and bool(((labels == 0) | (labels == 1)).all()):
            above = values - (0.5 if found.loss == "binary_cross_entropy" else 0.0)
            values = torch.cat([-above, above], 1)
            labels = labels.flatten().long()
        seen.batch = max(seen.batch, len(values))
        if labels.is_floating_point():
            if found.targets is not None and scores is seen.evaluated:
                seen.fits(values, found.targets)
            elif found.targets is not None:
                share = explained(values / found.calls, found.targets)
                seen.explained += [] if math.isnan(share) else [(seen.steps, max(-1.0, share), len(values))]
        elif values.dim() == 2 and values.shape[1] > 1 and labels.shape == values.shape[:1]:
            seen.classes = max(seen.classes, values.shape[1])
            if scores is seen.accuracy and found.loss != "kl_div":  # whose targets are those of a teacher
                counts = Counter(labels.tolist())
                seen.labels.update(counts)
                seen.largest_class.append(max(counts.values()) / len(labels))
            scores.append((seen.steps, float((values.argmax(1) == labels).float().mean()), len(labels)))

    def _without_gradient(self, name: str, spikes: Any, x: Any, *others: Any) -> None:
        """Comparisons in the user's code of values that have a gradient."""
        if not (self.observes and is_plain(x) and x.requires_grad and is_plain(spikes)):
            return
        line = lines.calling()
        if line is not None:
            self.seen.note("comparison", line)
            if others and name.strip("_") in ("gt", "ge"):
                self.forward.compared(x, others[0], spikes, line)

    def _dropped(self, value: Any, x: Any, p: float, training: bool) -> None:
        """A call of dropout, by a module of torch or another library, or by the user."""
        if not (self.measuring and training):
            return
        module = self.forward.innermost
        by_module = isinstance(module, DROPOUTS) or "p" in attributes(module)
        where = self.forward.built.get(module) if by_module else lines.here()
        if self.guard.grads:
            self.seen.dropouts.add((p, where))
        elif not by_module:
            self.seen.training.setdefault("dropout", where)

    def _applied(self, out: Any, function: Any, *arguments: Any) -> None:
        """A function with a gradient of its own is called."""
        if self.measuring:
            self.forward.applied(out, function, *arguments)

    # Backward and steps

    def _before_backward(self, tensors: Any = None, *arguments: Any) -> None:
        seen = self.seen
        forward = self.forward
        self.evaluation.end()
        self._here("backward")
        loss = first_tensor(tensors)
        by_hand = self._is_by_hand()
        if loss is not None and not seen.backwards:
            seen.flat = flat(loss)
            if by_hand and not forward.parameters():
                forward.loose = leaves(loss)
        if by_hand or (self.measuring and not self.backwards):
            self.carried = {id(p) for p in forward.parameters() if is_plain(p.grad) and bool(p.grad.any())}
            seen.accumulated += bool(by_hand and seen.moved and self.carried)
        if not self.backwards:
            self.weights = {}  # of optimisers that have not stepped after the backward pass before

    def _is_by_hand(self) -> bool:
        """Whether parameters are updated by the script itself, or not at all, as far as is seen."""
        return not (self.seen.steps or self.seen.has_optimiser)

    def _after_backward(self, value: None, tensors: Any = None, *arguments: Any) -> None:
        seen = self.seen
        loss = first_tensor(tensors)
        self.backwards += 1
        seen.backwards += 1
        if not seen.steps:
            self._without_steps()
        if loss is not None:
            self._descends(loss)
        if self.measuring:
            self.after_backward = norm_of(self.forward.gradients())
            seen.outputs = self.logits or seen.outputs
            self._look_at_samples()
            if self.stepping and not self.weights:  # by a closure
                self._end_measurement()

    def _descends(self, loss: Tensor) -> None:
        """A loss, after its backward pass, and the accuracy of the outputs that it was computed from."""
        seen = self.seen
        seen.leaves += loss.grad_fn is None
        if loss.numel() == 1:
            if self.backwards == 1:
                seen.losses.append(loss.detach())
                seen.parts += [torch.stack(self.parts).mean()] if self.parts else []
            if self.logits is not None:
                self._score(self.logits, seen.accuracy)

    def _look_at_samples(self) -> None:
        """What has entered the network, and how its samples' neighbours, and those of the outputs, share their labels."""
        seen = self.seen
        stages = {stage: calls for stage, (_, calls) in self.forward.entries.items() if calls}
        self.forward.entries = {}
        entered = stages.get("input", [])
        first = stages.get("first", [])
        mean = torch.stack(entered).mean(0) if entered else None
        if mean is not None:
            seen.input = moments(mean, axis_of(mean, seen.batch))
            del seen.input["rows"]
            repeated = all_equal(entered) and is_binary(entered[0])
            one_of_many = all_equal(first) and entered[0].numel() == len(first) * first[0].numel()  # the same timestep
            seen.input["repeated"] = max(seen.input["repeated"], float(repeated or one_of_many))
        if first:
            self._look_at_first(torch.stack(first))
        logits = self.logits
        if logits is None or logits.labels.dim() < 1 or len(logits.labels) < 2 or not logits.labels.numel():
            return
        self.forward.readout.learn(logits.labels)
        labels = logits.labels.reshape(len(logits.labels), -1)
        labels = labels[:, int(labels.float().var(0).argmax())]  # of targets with several values, the one of largest variance
        stages["outputs"] = [logits.values]
        if seen.steps < FIRST:
            stages["begin"] = stages["outputs"]  # before training may have made them equal
        for stage, calls in stages.items():
            for layout, features in layouts(calls, len(labels)):
                seen.agreements[stage, layout] = seen.agreements.get((stage, layout), 0) + agreement(features, labels)
        if mean is not None:
            before = self.before
            self.before = mean, labels
            if before is not None and not torch.equal(before[1], labels):
                seen.same_input += torch.equal(before[0], mean)

    def _look_at_first(self, x: Tensor) -> None:
        """What the first module with weights was given, at each of its calls, (calls, ...)."""
        if is_binary(x):
            self.seen.arriving = float((x != 0).float().mean())
        if len(x) > 1 and x.dim() > 2:
            half = len(x) // 2
            means = torch.stack([x[:half].float().mean(0), x[half:].float().mean(0)])
            centred = means - means.mean(1, keepdim=True)  # over the samples
            self.seen.repetition = float(torch.corrcoef(centred.flatten(1))[0, 1])

    def _without_steps(self) -> None:
        """After a backward pass before the first step: parameters that move all the same are updated by hand, as those outside of modules may be."""
        seen = self.seen
        if seen.backwards <= MANY:
            sums = [float(parameter.detach().double().sum()) for parameter in self.forward.parameters()]
            seen.moved |= seen.backwards > 1 and (not sums or sums != self.sums)
            self.sums = sums
        elif seen.backwards > 4 * MANY:
            self.measure(False)
        if self.limit is not None and seen.backwards >= 4 * self.limit:
            raise StopWatching

    def _before_step(self, optimiser: torch.optim.Optimizer, *arguments: Any) -> None:
        self.evaluation.end()
        if self.seen.steps > FIRST and not self.seen.layers and id(optimiser) not in self.stepped:
            self._begin_again(optimiser)
            self.backwards = 1
        seen = self.seen
        own = _parameters_of(optimiser)
        self.stepped.add(id(optimiser))
        self._here("step")
        self._add_optimiser(optimiser)
        self._rates(optimiser)
        if not seen.networks and not self.forward.loose:
            self.forward.loose = own
            for index, parameter in enumerate(own):
                seen.add(f"parameter {index}", parameter, self.forward.built.get(optimiser))
        if seen.losses and seen.broken is None and _not_finite(seen.losses[-1]):
            broken = {id(parameter) for parameter in own if not bool(torch.isfinite(parameter).all())}
            seen.broken = broken if len(broken) < len(own) else set()
        seen.overwritten += self.other_weights()
        self.stepping = True
        if self.measuring and self.backwards and not self.weights:  # not in the step of an optimiser around this one
            seen.accumulated += seen.steps > 0 and not self.carried.isdisjoint(map(id, own))
            self._end_measurement()
        for module, name in METRICS:
            if seen.steps == 0 and hasattr(sys.modules.get(module), name):  # once the script has imported it
                self.guard.patch(sys.modules[module], name, after=self.evaluation.score)

    def _rates(self, optimiser: torch.optim.Optimizer) -> None:
        """The learning rate and the weight decay of a step."""
        seen = self.seen
        groups = _groups_of(optimiser)
        before = seen.rate
        seen.rate = max(number(group.get("lr"), math.nan) for group in groups)
        given = number(groups[0].get("initial_lr"))  # of a schedule, after a long first epoch
        seen.highest_rate = max(seen.highest_rate, seen.rate, given)
        seen.low += seen.rate <= before and seen.rate < 0.01 * seen.highest_rate  # and does not rise
        seen.weight_decay = max(number(group.get("weight_decay")) for group in groups)
        if "AdamW" in type(optimiser).__name__ or not seen.adaptive:  # weights shrink by it whatever the size of the gradients
            fresh = max(0.01, 1 - number(groups[0].get("momentum")))
            seen.shrink = max(seen.shrink, seen.rate * seen.weight_decay / fresh)

    def _end_measurement(self) -> None:
        """Keep what was measured in this step, before parameters change."""
        seen = self.seen
        forward = self.forward
        if 0 < self.after_backward < OVERFLOW:
            seen.clipped.append(norm_of(forward.gradients()) / self.after_backward)
        for root in alive(forward.roots):
            forward.parts(root)  # also parameters that its first call has made
        for parameter in forward.parameters():
            known = seen.parameters.get(id(parameter))
            if known is None:
                continue
            known.frozen = not parameter.requires_grad
            known.optimised = id(parameter) in self.optimised
            known.gradients.append(norm_of([parameter.grad]) if is_plain(parameter.grad) else None)
            self.weights[id(parameter)] = parameter.detach().clone()
        forward.add_own()
        if not forward.layers:
            return
        seen.layers = forward.layers
        forward.per_batch = forward.calls
        seen.timesteps = max(forward.calls, *(layer.calls for layer in forward.layers.values()))
        for layer in forward.layers.values():
            layer.measure(self.backwards > 0)
        seen.records = [finite(record) for record in forward.records()]
        seen.negative |= dict.fromkeys(layer.name for layer in forward.layers.values() if layer.falls)
        if not seen.first:
            seen.first = {record["name"]: record for record in seen.records}
            seen.spreads = {layer.name: layer.spread for layer in seen.layers.values()}

    def _after_step(self, optimiser: torch.optim.Optimizer, *arguments: Any) -> None:
        seen = self.seen
        self.stepping = False
        own = _parameters_of(optimiser)
        self._measure_updates(own)
        if seen.steps and not self.backwards and id(optimiser) != self.stepper:  # after the same backward pass
            return
        self.stepper = id(optimiser)
        seen.without_backward += not self.backwards and not any(bool(grad.any()) for p in own for grad in tensors(p.grad))
        matrix = _last_matrix(optimiser)
        if matrix is not None:
            # A module outlives its optimiser, which a function that trains may have built.
            self.trained = self.forward.owners.get(id(matrix), (weakref.ref(optimiser), ""))
            self.fingerprint = _fingerprint(matrix)
        seen.steps += 1
        self.measure(False)
        self._start()
        if self._has_seen_enough():
            raise StopWatching
        diverges = bool(seen.losses) and _not_finite(seen.losses[-1])
        if is_due(seen.steps, self.every) or (diverges and not seen.records):
            self.measure(True)

    def _measure_updates(self, own: list[Tensor]) -> None:
        """The relative sizes of the updates of an optimiser's parameters, after a measured step."""
        seen = self.seen
        for parameter in own:
            before = self.weights.pop(id(parameter), None)
            if before is None:
                continue
            size = norm_of([before])
            if size > 0:
                update = norm_of([parameter.detach() - before]) / size
                updates = seen.parameters[id(parameter)].updates
                updates.append(update)
                if len(updates) > 1 and parameter.dim() > 1:
                    seen.largest_update = max(seen.largest_update, update)

    def _has_seen_enough(self) -> bool:
        """After a step: whether it is the last that is to be watched, and there is nothing to wait for."""
        seen = self.seen
        if self.limit is None or seen.steps < self.limit:
            return False
        # What training shows is known; faults of evaluation show in a network that learns.
        if seen.layers and math.isinf(self.until):
            self.until = time.monotonic() + self.patience if seen.progresses else 0.0
        waited = bool(seen.evaluated_input) or time.monotonic() > self.until
        return seen.steps >= MAX_STEPS_FACTOR * self.limit or (bool(seen.layers) and waited)


def _groups_of(optimiser: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return attributes(optimiser)["param_groups"]  # type: ignore[no-any-return]


def _parameters_of(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in _groups_of(optimiser) for parameter in group["params"] if is_plain(parameter)]


def _unexpanded(x: Tensor) -> Tensor:
    """A tensor before it was expanded to the shape of another, as the functions of elementwise losses do."""
    for axis, stride in enumerate(x.stride()):
        x = x.narrow(axis, 0, 1) if stride == 0 and x.shape[axis] > 1 else x
    return x


def _last_matrix(optimiser: torch.optim.Optimizer) -> Tensor | None:
    """The last matrix of an optimiser; None if it has none."""
    return next((parameter for parameter in reversed(_parameters_of(optimiser)) if parameter.dim() > 1), None)


def _fingerprint(matrix: Tensor) -> Tensor:
    """The first values of a matrix, in which NaN equals NaN."""
    return matrix.detach().reshape(-1)[:ENTRIES].nan_to_num()


def _compiled_graphs() -> int:
    """How many graphs torch.compile has compiled."""
    utilities = sys.modules.get("torch._dynamo.utils")
    return 0 if utilities is None else int(utilities.counters["stats"]["unique_graphs"])


def _is_one_hot(labels: Tensor) -> bool:
    """Whether targets (B, classes) have one value for the class and another for the others."""
    if labels.shape[1] < 2:
        return False
    ordered = labels.sort(1).values
    return bool((ordered[:, :-1] == ordered[:, :1]).all()) and bool((ordered[:, -1] > ordered[:, -2]).all())


def _not_finite(loss: Tensor) -> bool:
    """Whether a loss is not finite, where that is known without waiting for a device."""
    return loss.device.type == "cpu" and not bool(torch.isfinite(loss))
