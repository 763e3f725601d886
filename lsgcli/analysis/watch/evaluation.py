"""What a watched script is evaluated by: its blocks without gradients, what it counts as correct there, and what the network itself decides."""

import math
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli.analysis.watch import lines
from lsgcli.analysis.watch.tensors import axis_of, tensors

if TYPE_CHECKING:
    from lsgcli.analysis.watch.watch import Watch

LABELS = 100_000  # that are kept
BLOCKS = 3  # without gradients that are observed; later ones where the number of steps has grown by half
INTEGERS = (torch.int64, torch.int32, torch.uint8)
Values = np.ndarray[Any, Any]
METRICS = (  # functions of scikit-learn that its scores call with the true values and the predicted ones
    ("sklearn.metrics._classification", "_check_targets"),
    ("sklearn.metrics._regression", "_check_reg_targets"),
    ("sklearn.metrics._ranking", "_average_binary_score"),
)


class Judged(NamedTuple):
    """A comparison of predictions with labels in evaluation.

    Attributes:
        step: of the optimiser.
        samples: their number.
        accuracy: share of the samples that the script counts as correct.
        balanced: mean of that share over the classes.
        own: share that is correct by the network's own decisions, NaN if these are not known; of the labels that the samples were delivered with, if
            these are others.
        restored: whether the network had other weights than after its last step.
    """

    step: int
    samples: int
    accuracy: float
    balanced: float
    own: float
    restored: bool


class Readout:
    """The network's own decisions, however a script reads classes from its outputs.

    The class of the largest output, or where that is not what it was trained to, the class whose outputs in training are most like the network's outputs.

    Attributes:
        kind: type, axes and size of the output that is read, the last of a step.
        calls: outputs of each kind since the last backward pass, or of this batch of an evaluation.
        decided: classes of the samples of an evaluation.
    """

    def __init__(self) -> None:
        self.kind: tuple[Any, ...] = ()
        self.axis = -1
        self.steps = 1
        self.plain = False  # whether the largest output is that of the class
        self.calls: dict[tuple[Any, ...], list[Tensor]] = {}
        self.means: dict[int, Tensor] = {}  # of the outputs of each class, in the last batch with samples of it
        self.decided: list[int] = []

    def add(self, module: nn.Module, output: Tensor | None) -> None:
        """An output of a module that no other module has called, if it has parameters: others may be a part of the loss."""
        if output is None or not 1 < output.dim() < 4 or next(module.parameters(), None) is None:
            return
        kind = type(module), output.dim(), output.shape[-1]
        if torch.is_grad_enabled() or kind == self.kind:
            self.calls[kind] = [*self.calls.pop(kind, []), output.detach()]  # the last of a step is the last of its kinds
        if not torch.is_grad_enabled() and len(self.calls.get(self.kind, ())) >= self.steps:
            self._decide()

    def learn(self, labels: Tensor) -> None:
        """The last outputs of a step of training are those of samples with these labels (B,)."""
        calls = self.calls
        self.calls = {}
        self.decided = []
        if not calls or labels.dim() != 1 or labels.is_floating_point():
            return
        kind, outputs = calls.popitem()
        axis = axis_of(outputs[-1], len(labels))
        if axis < 0 or any(output.shape != outputs[0].shape for output in outputs):
            return
        if kind != self.kind:
            self.means = {}
        self.kind, self.axis, self.steps = kind, axis, len(outputs)
        features = self._features(outputs)
        self.plain = bool((features.argmax(1) == labels).float().mean() > 0.5)
        for label in labels.unique().tolist():
            self.means[label] = features[labels == label].mean(0)

    def _features(self, outputs: list[Tensor]) -> Tensor:
        """Outputs (B, classes), a mean over timesteps, in which what all classes share is left out."""
        rows = torch.stack(outputs).float().mean(0).movedim(self.axis, 0)
        rows = rows.mean(1) if rows.dim() > 2 else rows
        return rows - rows.mean(1, keepdim=True) if rows.shape[1] > 2 else rows

    def _decide(self) -> None:
        outputs = self.calls.pop(self.kind, [])
        if not (self.means and outputs):
            return
        features = self._features(outputs)
        if self.plain:
            self.decided += features.argmax(1).tolist()
            return
        classes = list(self.means)
        means = torch.stack(list(self.means.values()))
        middle = means.mean(0)
        likeness = (features - middle) @ F.normalize(means - middle, dim=1).T
        self.decided += [classes[nearest] for nearest in likeness.argmax(1).tolist()]

    def last(self, samples: int) -> list[int]:
        """The decisions on the last samples; empty if they are not known."""
        self._decide()
        return self.decided[-samples:] if len(self.decided) >= samples else []


class Evaluation:
    """Observes blocks without gradients, and what is compared in them.

    Attributes:
        block: that is observed; None if it has ended.
        blocks: number of those that were.
        delivered: the last labels of data loaders.
    """

    def __init__(self, watch: "Watch"):
        self.watch = watch
        self.block: Any = None
        self.blocks = 0
        self.due = 0.0  # steps after which a block is observed again
        self.delivered: deque[int] = deque(maxlen=LABELS)

    def draws(self, original: Callable[..., Any], iterator: Any) -> Any:
        """A batch of a data loader."""
        batch = original(iterator)
        self.watch.forward.ended = True
        labels = [part for part in tensors(batch) if part.dtype in INTEGERS and part.dim() == 1]
        if labels:
            self.delivered.extend(labels[-1].tolist())
        return batch

    def begins(self, original: Callable[..., Any], context: Any) -> Any:
        """Observe the user's first blocks without gradients."""
        value = original(context)
        watch = self.watch
        caller = sys._getframe(2)
        if caller.f_code.co_name == "decorate_context" and caller.f_back is not None:  # of a function
            caller = caller.f_back
        if not lines.of_user(caller.f_code.co_filename):
            return value
        watch.seen.restored = watch.other_weights()
        if not watch.measuring and (self.blocks < BLOCKS or watch.seen.steps >= self.due):
            self.block = context
            self.due = 1.5 * watch.seen.steps
            watch.forward.begin_evaluation()
            watch.measure(True)
        return value

    def ends(self, original: Callable[..., Any], context: Any, *error: Any) -> Any:
        """A block ends."""
        if self.block is context:
            self.block = None
            self.blocks += bool(self.watch.forward.called)  # nothing is, as in an update of averaged weights
            self.watch.measure(False)
        return original(context, *error)

    def equal(self, original: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Labels that the user compares with predictions, outside training: in a block without gradients, or after one, before the next step."""
        value = original(*arguments, **options)
        watch = self.watch
        training = torch.is_grad_enabled() and not watch.forward.readout.decided
        if training or watch.forward.foreign or not isinstance(value, Tensor) or value.dim() != 1 or len(value) < 2:
            return value
        pair = arguments[:2]
        if not all(isinstance(part, Tensor) and part.dtype in INTEGERS and part.shape == value.shape for part in pair):
            return value
        if watch.labels is not None and any(torch.equal(part, watch.labels) for part in pair):
            return value
        if sys._getframe(2).f_globals.get("__name__") == "snntorch.functional.acc":  # which has labels on the left
            pair = pair[::-1]
        self._judge(*(part.cpu().numpy() for part in pair))
        return value

    def metric(self, original: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """A score of scikit-learn."""
        value = original(*arguments, **options)
        seen = self.watch.seen
        try:
            if callable(arguments[0]):  # a score of two classes
                seen.ranked = float(value) if "roc_auc" in str(arguments[0]) else seen.ranked
                return value
            targets, values = (np.asarray(given) for given in arguments[:2])
            if targets.size == values.size and targets.dtype.kind == "f":
                seen.fits(torch.as_tensor(values).flatten(), torch.as_tensor(targets).flatten())
            elif targets.shape == values.shape == (targets.size,):
                self._judge(values, targets)
        except Exception:  # as of tensors on a device, or of labels that cannot be compared: scikit-learn says so
            pass
        return value

    def _judge(self, predicted: Values, labels: Values) -> None:
        """Predictions that the user compares with labels, (n,) each."""
        watch = self.watch
        seen = self.watch.seen
        count = len(labels)
        watch.forward.ended = True
        known = list(self.delivered)[-count:]
        decided = watch.forward.readout.last(count)
        if predicted.tolist() == known or labels.tolist() == decided:  # labels on the left
            predicted, labels = labels, predicted
        right = predicted == labels
        accuracy = float(right.mean())
        balanced = float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))
        own = math.nan
        if decided:
            references = [labels.tolist(), known] if len(known) == count else [labels.tolist()]
            own = max(float(np.mean(np.array(decided) == reference)) for reference in references)
        seen.restored = watch.other_weights()  # which the same block may have changed
        seen.evaluated.append((seen.steps, accuracy, count))
        seen.decisions.append(Judged(seen.steps, count, accuracy, balanced, own, seen.restored))
