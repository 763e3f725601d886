"""Evaluation of a network on a split of the data."""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from itertools import chain
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli.analysis.energy import SynapticOperations
from lsgcli.analysis.rates import FiringRates
from lsgcli.data.batches import batches
from lsgcli.data.bundle import DataBundle, Split
from lsgcli.errors import ConfigError, DivergedError
from lsgcli.models.base import SpikingNet
from lsgcli.models.integer import deployed
from lsgcli.store.names import canonical
from lsgcli.system.device import Compute, full_precision
from lsgcli.system.schema import Record

MANY = 20  # classes, from which on the top-5 accuracy is stated


@dataclass(frozen=True)
class Evaluation:
    """The result of :func:`evaluate`.

    Attributes:
        confusion: (classes, classes) counts; rows are labels, columns predictions.
        answers: (N, 3) per sample, in the order of the split: prediction, its probability, and the number of classes that are more probable
            than the label; of equally probable ones, those before it.
        loss: cross-entropy of the mean logits, averaged over samples.
        firing_rate: mean of o per layer of neurons; empty if not requested.
        synops: synaptic operations and energy, see :meth:`lsgcli.analysis.energy.SynapticOperations.close`; None if not requested.
        seconds: elapsed time, including data loading.
        by_timestep: (T,) number of samples classified correctly by the sum of the logits up to each timestep; None if not known.
    """

    confusion: Tensor
    answers: Tensor
    loss: float
    firing_rate: dict[str, float]
    seconds: float
    synops: Record | None = None
    by_timestep: Tensor | None = None

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Fraction of samples classified correctly."""
        return int(self.confusion.diagonal().sum()) / max(1, self.samples)

    @property
    def accuracy_by_timestep(self) -> list[float]:
        """Accuracy of the prediction after each timestep; empty if not known."""
        counts = [] if self.by_timestep is None else self.by_timestep.tolist()
        return [count / max(1, self.samples) for count in counts]

    def scores(self) -> dict[str, list[float | None]]:
        """Precision, recall and F1 of each class: 0 where a denominator is 0, None for a class without samples and predictions."""
        right = self.confusion.diagonal()
        labels = self.confusion.sum(1)
        predictions = self.confusion.sum(0)
        both = labels + predictions
        scores = {}
        for name, total in {"precision": predictions, "recall": labels, "f1": both / 2}.items():
            values = (right / total.clamp(min=1)).tolist()
            scores[name] = [value if n else None for value, n in zip(values, both.tolist(), strict=True)]
        return scores

    def averages(self) -> dict[str, float]:
        """Macro averages of :meth:`scores`, and from 20 classes on the top-5 accuracy."""
        averages = {}
        for name, scores in self.scores().items():
            known = [score for score in scores if score is not None]
            averages[name] = sum(known) / max(1, len(known))
        if len(self.confusion) >= MANY:
            averages["top5_accuracy"] = int((self.answers[:, 2] < 5).sum()) / max(1, self.samples)
        return averages

    def checked(self) -> Self:
        """This result; raises a DivergedError if logits are NaN or infinite, as then is the loss."""
        if not math.isfinite(self.loss):
            raise DivergedError(f"logits: found NaN or infinity (loss {self.loss:g}), expected finite numbers")
        return self

    def gathered(self, gather: Callable[[Tensor], Tensor]) -> "Evaluation":
        """The result of all processes, of which process r of n evaluated samples r, r + n, ...; ``gather`` returns the tensors of all of them."""
        confusion = gather(self.confusion).sum(0)
        samples = int(confusion.sum())
        loss = gather(torch.tensor(self.loss * self.samples, dtype=torch.float64)).sum().item() / max(1, samples)
        count = int(gather(torch.tensor(len(self.answers))).max())
        every = gather(F.pad(self.answers, (0, 0, 0, count - len(self.answers))))
        answers = every.transpose(0, 1).flatten(0, 1)[:samples]
        return replace(self, confusion=confusion, answers=answers, loss=loss, by_timestep=None)

    def record(self, classes: tuple[str, ...]) -> Record:
        """The result in JSON types. The accuracy of a class without samples is None."""
        recall = zip(classes, self.confusion.diagonal().tolist(), self.confusion.sum(1).tolist(), strict=True)
        found = {
            "accuracy": self.accuracy,
            "accuracy_by_timestep": self.accuracy_by_timestep,
            "loss": self.loss,
            "samples": self.samples,
            "per_class": {name: right / total if total else None for name, right, total in recall},
            "scores": {name: dict(zip(classes, own, strict=True)) for name, own in self.scores().items()},
            **self.averages(),
            "confusion": self.confusion.tolist(),
            "firing_rate": self.firing_rate,
            "samples_per_s": self.samples / self.seconds,
            **({} if self.synops is None else {"synops": self.synops}),
        }
        return canonical(found, "eval")


@torch.inference_mode()
def evaluate(
    model: SpikingNet,
    split: Split,
    bundle: DataBundle,
    compute: Compute,
    *,
    batch_size: int,
    workers: int = 0,
    also: Collection[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Accuracy, loss and confusion matrix of ``model`` on ``split``, computed with a copy of the model for inference.

    Args:
        model: built for the bundle's channels and size.
        split: its samples are evaluated in order, without augmentation.
        bundle: provides classes and normalisation.
        compute: device and precision.
        batch_size: samples per batch.
        workers: batches prepared ahead.
        also: further results: ``firing_rate`` per layer, and ``synops``, which takes additional time.
        progress: called with (batches done, total batches).
    """
    if "synops" in also and compute.precision == "int8":
        raise ConfigError("precision: found int8 with synaptic operations, expected another: in int8, layers receive bytes")
    model = deployed(model, compute.precision)
    operations = SynapticOperations(model, events=not bundle.static) if "synops" in also else None
    hooks = FiringRates(model) if "firing_rate" in also else None

    def logits(x: Tensor) -> Tensor:
        with compute.context():
            return full_precision(model(compute.move(x)))

    result = measure(logits, split, bundle, batch_size=batch_size, workers=workers, progress=progress)
    synops = operations.close(len(split)) if operations else None
    return replace(result, firing_rate=hooks.close() if hooks else {}, synops=synops)


@torch.inference_mode()
def of_module(
    module: nn.Module,
    split: Split,
    bundle: DataBundle,
    *,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Like :func:`evaluate`, for any module, on its own device; without firing rates.

    Args:
        module: maps inputs of a batch to logits (T, B, classes) or (B, classes).

    Raises:
        ConfigError: it returns something else.
    """
    tensor = next(chain(module.parameters(), module.buffers()), torch.zeros(0))
    classes = len(bundle.classes)

    def logits(x: Tensor) -> Tensor:
        found = module(x.to(tensor.device))
        expected = (x.shape[0 if bundle.static else 1], classes)
        if not isinstance(found, Tensor) or found.ndim > 3 or found.shape[-2:] != expected:
            shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ConfigError(
                f"outputs of {type(module).__name__}: found {shown}, expected logits (T, B, {classes}) or (B, {classes})",
                "Evaluate a module around it that returns them.",
            )
        return full_precision(found.reshape(-1, *expected))

    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
        return measure(logits, split, bundle, batch_size=batch_size, progress=progress)
    finally:
        for part, mode in modes.items():
            part.training = mode


def measure(
    logits: Callable[[Tensor], Tensor],
    split: Split,
    bundle: DataBundle,
    *,
    batch_size: int,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Like :func:`evaluate`, for any function that returns logits (T, B, classes); without firing rates."""
    n_classes = len(bundle.classes)
    confusion = torch.zeros(n_classes, n_classes, dtype=torch.int64)
    answers = [torch.zeros(0, 3, dtype=torch.float64)]
    right = torch.zeros((), dtype=torch.int64)
    loss = 0.0
    begin = time.perf_counter()
    stream = batches(bundle, split, batch_size, workers=workers)
    for done, batch in enumerate(stream, start=1):
        each = logits(batch.x)
        mean = each.mean(0).cpu()
        loss += F.cross_entropy(mean, batch.y, reduction="sum").item()
        answers.append(_answers(mean, batch.y))
        predicted = answers[-1][:, 0].long()
        earlier = each[:-1].cumsum(0).argmax(2).cpu()
        right = right + (torch.cat([earlier, predicted[None]]) == batch.y).sum(1)
        confusion += torch.bincount(batch.y * n_classes + predicted, minlength=n_classes**2).view(n_classes, n_classes)
        if progress:
            progress(done, len(stream))
    seconds = time.perf_counter() - begin
    by_timestep = right if right.dim() else None
    return Evaluation(confusion, torch.cat(answers), loss / max(1, len(split)), {}, seconds, by_timestep=by_timestep)


def _answers(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits (B, classes) and labels (B,) -> (B, 3), see :class:`Evaluation`; of equal logits, the first class is the prediction."""
    own = logits.gather(1, labels[:, None])
    before = (logits > own) | ((logits == own) & (torch.arange(logits.shape[1]) < labels[:, None]))
    predicted = logits.argmax(1)
    probability = logits.double().softmax(1).gather(1, predicted[:, None])[:, 0]
    return torch.stack([predicted.double(), probability, before.sum(1).double()], 1)
