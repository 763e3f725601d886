"""Changes to what trains a network: losses, gradients and optimisers."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data.dataloader import _BaseDataLoaderIter

from lsgcli.analysis.experiments.base import Intervention, OfModules, Values, replace_calls
from lsgcli.analysis.experiments.network import Rectified
from lsgcli.analysis.rules.data_flow import CLEAR
from lsgcli.analysis.watch.guard import Guard
from lsgcli.analysis.watch.modules import is_plain, own_parameters, weight_of
from lsgcli.analysis.watch.seen import Seen
from lsgcli.analysis.watch.tensors import explained
from lsgcli.analysis.watch.watch import ELEMENTWISE, LOSSES
from lsgcli.registry import register

TINY = 1e-12
TOLERANCE = 0.01  # of the logarithm of a sum of probabilities


@register("intervention", "logits")
class Logits(
    Intervention,
    rules=("softmax-before-loss",),
    remedy="Remove the softmax or sigmoid before the loss, which has its own.",
    at="loss",
):
    """the loss is given logits instead of probabilities"""

    def is_possible(self, seen: Seen) -> bool:
        outputs = seen.outputs
        if outputs is None or outputs.loss not in ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits"):
            return False
        values = outputs.values / outputs.calls
        if outputs.loss == "nll_loss":
            return bool(values.logsumexp(1).abs().max() > TOLERANCE)
        return float(values.min()) >= 0 and float(values.max()) <= 1

    def begin(self, guard: Guard, values: Values) -> None:
        def of_classes(original: Any, outputs: Tensor, *arguments: Any, **options: Any) -> Any:
            return original(outputs.clamp_min(TINY).log(), *arguments, **options)

        def of_log(original: Any, outputs: Tensor, *arguments: Any, **options: Any) -> Any:
            return original(outputs.log_softmax(min(1, outputs.dim() - 1)), *arguments, **options)

        def of_each(original: Any, outputs: Tensor, *arguments: Any, **options: Any) -> Any:
            return original(torch.logit(outputs, 1e-6), *arguments, **options)

        replace_calls(guard, torch._C._nn, ["cross_entropy_loss"], of_classes)  # type: ignore[attr-defined]
        replace_calls(guard, torch._C._nn, ["nll_loss_nd"], of_log)  # type: ignore[attr-defined]
        replace_calls(guard, torch, ["binary_cross_entropy_with_logits"], of_each)


@register("intervention", "equal-shapes")
class EqualShapes(
    Intervention,
    rules=("broadcast",),
    remedy="Give the loss equal shapes: loss(outputs, targets.view_as(outputs)).",
    at="loss",
):
    """outputs and targets of the loss have equal shapes"""

    def is_possible(self, seen: Seen) -> bool:
        return seen.shapes is not None

    def begin(self, guard: Guard, values: Values) -> None:
        def elementwise(original: Any, outputs: Tensor, targets: Tensor, *arguments: Any, **options: Any) -> Any:
            fits = is_plain(targets) and is_plain(outputs) and targets.numel() == outputs.numel()
            return original(outputs, targets.reshape(outputs.shape) if fits else targets, *arguments, **options)

        # The functions of torch.nn.functional repeat values before they call an operator.
        replace_calls(guard, F, ELEMENTWISE, elementwise)


@register("intervention", "other-sign")
class OtherSign(
    Intervention,
    rules=("wrong-sign",),
    remedy="Give backward() the loss with the other sign.",
    at="backward",
):
    """the loss has the other sign"""

    def is_possible(self, seen: Seen) -> bool:
        return seen.maximises or seen.progress < -0.2 or any(pull > 0 for pull in seen.pull)

    def begin(self, guard: Guard, values: Values) -> None:
        def backward(original: Any, tensors: Any, *arguments: Any, **options: Any) -> None:
            original(-tensors if isinstance(tensors, Tensor) else [-one for one in tensors], *arguments, **options)

        replace_calls(guard, torch.autograd, ["backward"], backward)


@register("intervention", "fresh-gradients")
class FreshGradients(
    Intervention,
    rules=("gradients-accumulate",),
    remedy="Call optimizer.zero_grad() before each backward().",
    at="backward",
):
    """gradients are set to zero after each step"""

    def is_possible(self, seen: Seen) -> bool:
        return seen.accumulated > 0

    def begin(self, guard: Guard, values: Values) -> None:
        def clear(optimiser: torch.optim.Optimizer, *arguments: Any) -> None:
            optimiser.zero_grad()

        guard.enter(register_optimizer_step_post_hook(clear))


@register("intervention", "no-clipping")
class NoClipping(
    Intervention,
    rules=("clipped",),
    remedy="Clip gradients at a larger norm, or not at all.",
    at="backward",
):
    """gradients are not clipped"""

    def is_possible(self, seen: Seen) -> bool:
        return any(share < 0.5 for share in seen.clipped)

    def begin(self, guard: Guard, values: Values) -> None:
        def clipped(original: Any, *arguments: Any, **options: Any) -> Tensor:
            return torch.zeros(())

        replace_calls(guard, nn.utils, ("clip_grad_norm_", "clip_grad_value_"), clipped)


class OfGroups(Intervention):
    """A change to a setting of optimisers, during their steps."""

    setting = "lr"
    factor = 1.0

    def is_possible(self, seen: Seen) -> bool:
        return seen.steps > 0 and bool(seen.settings.get(self.setting))

    def begin(self, guard: Guard, values: Values) -> None:
        self.before: list[Any] = []
        guard.enter(register_optimizer_step_pre_hook(self._change))
        guard.enter(register_optimizer_step_post_hook(self._restore))

    def _change(self, optimiser: torch.optim.Optimizer, *arguments: Any) -> None:
        self.before = [group.get(self.setting) for group in optimiser.param_groups]
        for group in optimiser.param_groups:
            group[self.setting] = group[self.setting] * self.factor

    def _restore(self, optimiser: torch.optim.Optimizer, *arguments: Any) -> None:
        for group, value in zip(optimiser.param_groups, self.before, strict=True):
            group[self.setting] = value


@register("intervention", "no-weight-decay")
class NoWeightDecay(OfGroups, rules=("weight-decay",), remedy="Decrease weight_decay to 5e-4 or less.", at="optimiser"):
    """weights do not decay"""

    setting = "weight_decay"
    factor = 0.0


@register("intervention", "larger-rate")
class LargerRate(
    OfGroups,
    rules=("steps-too-small", "learning-rate"),
    general=True,
    remedy="Multiply the learning rate by 10.",
    at="optimiser",
):
    """the learning rate is 10 times as large"""

    factor = 10.0


@register("intervention", "smaller-rate")
class SmallerRate(
    OfGroups,
    rules=("steps-too-large", "learning-rate"),
    general=True,
    remedy="Divide the learning rate by 10.",
    at="optimiser",
):
    """the learning rate is a tenth"""

    factor = 0.1


class OfParameters(OfModules):
    """A change to the parameters of the modules that train."""

    def begin(self, guard: Guard, values: Values) -> None:
        super().begin(guard, values)
        self.parameters: dict[int, nn.Parameter] = {}

    def given(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            for parameter in own_parameters(module).values():
                if id(parameter) not in self.parameters and parameter.is_floating_point():
                    parameter.requires_grad_()
                    self.parameters[id(parameter)] = parameter
        return arguments


@register("intervention", "all-parameters")
class AllParameters(
    OfParameters,
    rules=("not-optimised", "frozen", "empty-optimiser"),
    remedy="Give the optimiser all parameters, of the network that trains, with requires_grad.",
    at="optimiser",
):
    """the optimiser has all parameters of the network, and none is frozen"""

    def is_possible(self, seen: Seen) -> bool:
        return any(known.frozen or not known.optimised for known in seen.parameters.values())

    def begin(self, guard: Guard, values: Values) -> None:
        super().begin(guard, values)
        guard.enter(register_optimizer_step_pre_hook(self._add))

    def _add(self, optimiser: torch.optim.Optimizer, *arguments: Any) -> None:
        known = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
        missing = [parameter for key, parameter in self.parameters.items() if key not in known]
        optimiser.param_groups[0]["params"].extend(missing)


@register("intervention", "adam")
class Adam(
    OfParameters,
    rules=("learning-rate", "no-step", "steps-too-small", "steps-too-large", "not-optimised", "frozen", "weight-decay"),
    general=True,
    remedy="Train all parameters with Adam and a learning rate of 1e-3, with one step after each backward().",
    at="optimiser",
):
    """all parameters are trained by Adam with a rate of 1e-3"""

    def is_possible(self, seen: Seen) -> bool:
        return seen.backwards > 0

    def values(self, seen: Seen) -> Values:
        return {"steps": seen.steps > 0}

    def begin(self, guard: Guard, values: Values) -> None:
        super().begin(guard, values)
        self.own: torch.optim.Adam | None = None
        self.before: dict[int, Tensor] = {}
        if values["steps"]:
            guard.enter(register_optimizer_step_pre_hook(self._keep))
            guard.enter(register_optimizer_step_post_hook(self._instead))
        else:
            replace_calls(guard, torch.autograd, ["backward"], self._backward)

    def _keep(self, optimiser: torch.optim.Optimizer, *arguments: Any) -> None:
        if optimiser is not self.own:
            self.before = {key: parameter.detach().clone() for key, parameter in self.parameters.items()}

    def _instead(self, optimiser: torch.optim.Optimizer, *arguments: Any) -> None:
        if optimiser is self.own or not self.before:
            return
        with torch.no_grad():
            for key, value in self.before.items():
                self.parameters[key].copy_(value)
        self._step()

    def _backward(self, original: Any, *arguments: Any, **options: Any) -> None:
        original(*arguments, **options)
        if self.parameters:
            self._step()
            for parameter in self.parameters.values():
                parameter.grad = None

    def _step(self) -> None:
        if self.own is None:
            self.own = torch.optim.Adam(self.parameters.values(), lr=1e-3)
        self.own.step()


@register("intervention", "read-out")
class ReadOut(
    OfModules,
    rules=("coarse-outputs", "equal-outputs", "saturated-outputs", "target-scale", "penalty", "labels", "no-graph"),
    general=True,
    remedy="Give cross-entropy the mean over timesteps of what the last layer with weights puts out, without the neurons behind it.",
    at="loss",
):
    """the loss is the cross-entropy of the mean of what the last neurons receive, or its squared error in a regression"""

    def is_possible(self, seen: Seen) -> bool:
        return seen.classes > 1 or (seen.outputs is not None and seen.outputs.targets is not None)

    def begin(self, guard: Guard, values: Values) -> None:
        super().begin(guard, values)
        self.outputs: list[tuple[nn.Module, Tensor]] = []  # of modules with weights, since the last backward pass
        self.labels: Tensor | None = None
        for name, (owner, _) in LOSSES.items():
            replace_calls(guard, owner, [name], self._compared)
        replace_calls(guard, torch.autograd, ["backward"], self._backward)

    def returned(self, module: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
        if torch.is_grad_enabled() and weight_of(module) is not None and is_plain(output):
            self.outputs.append((module, output))
        return output

    def _compared(self, original: Any, outputs: Tensor, labels: Tensor, *arguments: Any, **options: Any) -> Any:
        if torch.is_grad_enabled() and is_plain(labels):
            one_hot = labels.dim() > 1 and labels.is_floating_point() and labels.shape[-1] > 1
            self.labels = labels.argmax(-1) if one_hot else labels
        return original(outputs, labels, *arguments, **options)

    def _backward(self, original: Any, tensors: Any, *arguments: Any, **options: Any) -> None:
        loss = self._loss()
        self.outputs = []
        original(tensors if loss is None else loss, *(() if loss is not None else arguments), **options)

    def _loss(self) -> Tensor | None:
        labels = self.labels
        if not self.outputs or labels is None or not labels.dim():
            return None
        last = self.outputs[-1][0]
        calls = [output for module, output in self.outputs if module is last]
        if any(output.shape != calls[0].shape for output in calls):
            return None
        outputs = torch.stack(calls).mean(0)
        axis = next((axis for axis, size in enumerate(outputs.shape[:-1]) if size == len(labels)), -1)
        others = [other for other in range(outputs.dim() - 1) if other != axis]
        outputs = outputs.mean(others) if axis >= 0 and others else outputs
        if outputs.dim() != 2 or len(outputs) != len(labels):
            return None
        if labels.is_floating_point():
            return self._squared_error(outputs, labels)
        if labels.dim() != 1 or int(labels.max()) >= outputs.shape[1]:
            return None
        right = (outputs.argmax(1) == labels).float().mean()
        self.scores.append((len(self.scores), float(right), len(labels)))
        return F.cross_entropy(outputs, labels.long())

    def _squared_error(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        if targets.numel() != outputs.numel():
            return None
        targets = targets.reshape(outputs.shape)
        share = explained(outputs.detach(), targets)
        self.scores.append((len(self.scores), share, len(targets)))
        return F.mse_loss(outputs, targets)


@register("intervention", "one-batch")
class OneBatch(Intervention, general=True, at="loss"):
    """it is trained with the same batch again and again"""

    def is_possible(self, seen: Seen) -> bool:
        return seen.drawn

    def begin(self, guard: Guard, values: Values) -> None:
        self.batch: Any = None

        def draw(original: Any, iterator: Any) -> Any:
            batch = original(iterator)
            if self.batch is None:
                self.batch = batch
            return self.batch if torch.is_grad_enabled() else batch

        replace_calls(guard, _BaseDataLoaderIter, ["__next__"], draw)


@register("intervention", "ordinary")
class Ordinary(Intervention, general=True, at="network"):
    """neurons are a ReLU of their current, and cross-entropy of the last outputs is trained by Adam"""

    def is_possible(self, seen: Seen) -> bool:
        # Where neighbours in the input share labels, it is not the data.
        clear = seen.separable("input", "first") > CLEAR
        return not clear and all(part.is_possible(seen) for part in (Rectified(), ReadOut(), Adam()))

    def values(self, seen: Seen) -> Values:
        return Adam().values(seen) | Rectified().values(seen)

    def begin(self, guard: Guard, values: Values) -> None:
        read_out = ReadOut()
        for part in (Rectified(), read_out, Adam()):
            part.begin(guard, values)
        self.scores = read_out.scores
