"""What a watched script is evaluated by: its blocks without gradients, what it counts as correct there, and what the network itself decides."""

import math
from collections import deque
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli.analysis.watch.guard import Guard, frame_outside
from lsgcli.analysis.watch.modules import is_plain, parameters_of, tensors
from lsgcli.analysis.watch.tensors import axis_of

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

    def add(self, module: nn.Module, output: Tensor | None, grads: bool) -> None:
        """An output of a module that no other module has called, if it has parameters: others may be a part of the loss."""
        if output is None or not 1 < output.dim() < 4 or not parameters_of(module):
            return
        kind = type(module), output.dim(), output.shape[-1]
        if grads or kind == self.kind:
            self.calls[kind] = [*self.calls.pop(kind, []), output.detach()]  # the last of a step is the last of its kinds
        if not grads and len(self.calls.get(self.kind, ())) >= self.steps:
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


class Watching(Protocol):
    """What an evaluation is a part of, :class:`lsgcli.analysis.watch.watch.Watch`."""

    seen: Any
    forward: Any
    guard: Guard
    labels: Tensor | None

    def measure(self, on: bool) -> None:
        """Begin or end to observe each module."""

    def other_weights(self) -> bool:
        """Whether the weights are no longer those after the last step."""


class Evaluation:
    """Observes what runs without gradients, and what is compared there.

    A *block* lasts until gradients are enabled, or a loss is differentiated.

    Attributes:
        in_block: whether a block is observed.
        blocks: number of those that were.
        delivered: the last labels of data loaders.
    """

    def __init__(self, watch: Watching):
        self.watch = watch
        self.in_block = False
        self.blocks = 0
        self.due = 0.0  # steps after which a block is observed again
        self.delivered: deque[int] = deque(maxlen=LABELS)

    def draw(self, batch: Any, iterator: Any) -> None:
        """A batch of a data loader."""
        self.watch.forward.ended = True
        self.watch.seen.drawn = True
        labels = [part for part in tensors(batch) if part.dtype in INTEGERS and part.dim() == 1]
        if labels:
            self.delivered.extend(labels[-1].tolist())

    @property
    def waits(self) -> bool:
        """Whether no block is observed now: the first ones are, and later ones where the number of steps has grown by half."""
        return self.blocks >= BLOCKS and self.watch.seen.steps < self.due

    def begin(self) -> None:
        """Begin to observe a block."""
        watch = self.watch
        watch.seen.restored = watch.other_weights()
        self.in_block = True
        self.due = 1.5 * watch.seen.steps
        watch.forward.begin_evaluation()
        watch.measure(True)

    def end(self) -> None:
        """A block ends, if one is observed."""
        if self.in_block:
            self.in_block = False
            self.blocks += 1
            self.watch.measure(False)

    def compare(self, value: Any, *pair: Any) -> None:
        """Labels that the user compares with predictions, outside training: in a block without gradients, or after one, before the next step."""
        watch = self.watch
        training = watch.guard.grads and not watch.forward.readout.decided
        if training or not is_plain(value) or value.dim() != 1 or len(value) < 2:
            return
        if not all(is_plain(part) and part.dtype in INTEGERS and part.shape == value.shape for part in pair):
            return
        if watch.labels is not None and any(torch.equal(part, watch.labels) for part in pair):
            return
        caller = frame_outside()
        if caller.f_globals.get("__name__") == "snntorch.functional.acc":  # which has labels on the left
            pair = pair[::-1]
        self._judge(*(part.cpu().numpy() for part in pair))

    def score(self, value: Any, *arguments: Any) -> None:
        """A score of scikit-learn."""
        seen = self.watch.seen
        if callable(arguments[0]):  # a score of two classes
            seen.ranked = float(value) if "roc_auc" in str(arguments[0]) else seen.ranked
            return
        given = [one.detach().cpu().numpy() if is_plain(one) else one for one in arguments[:2]]
        if not all(isinstance(one, np.ndarray | list) for one in given):
            return
        targets, values = map(np.asarray, given)
        if targets.size == values.size and targets.dtype.kind == "f":
            seen.fits(torch.as_tensor(values).flatten(), torch.as_tensor(targets).flatten())
        elif targets.shape == values.shape == (targets.size,):
            self._judge(values, targets)

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
