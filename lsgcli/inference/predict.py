"""Classification of unlabelled recordings and images."""

import contextlib
import dataclasses
import functools
import itertools
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lsgcli.config.run import RunConfig, from_checkpoint
from lsgcli.data import parallel
from lsgcli.data.batches import Batches
from lsgcli.data.bundle import Split
from lsgcli.data.datasets.base import Dataset, Sample, dataset_of
from lsgcli.data.folders import walk
from lsgcli.data.frames import saturated, warn_saturated
from lsgcli.data.guard import MissingLibrary
from lsgcli.data.images import image_suffixes
from lsgcli.data.prepare import Found, check_expected, load_file
from lsgcli.data.readers import base as readers
from lsgcli.errors import DataError, DivergedError, LsgError
from lsgcli.export.base import open_exported
from lsgcli.export.runners import Runner
from lsgcli.models.base import SpikingNet
from lsgcli.models.integer import deployed
from lsgcli.store import checkpoint, hub
from lsgcli.system.caller import undisturbed
from lsgcli.system.device import Compute, full_precision, set_up
from lsgcli.system.schema import LONG, Record

OnError = Callable[[str, LsgError], None]
LARGEST = 1024  # maximum batch size that is taken from a checkpoint
# Advice if event counts saturate in a trained network.
SHORTER = "they are longer than the network counts: cut them to the length of the training recordings, or use --stream"
AHEAD = 2  # batches prepared while the network computes


@dataclass(frozen=True)
class Answer:
    """Class probabilities.

    Attributes:
        path: path of the file, as given or as found in a given folder.
        classes: names of the classes, in the order of the logits.
        logits: (T, classes) for a file, or (classes,) for a timestep of a stream.
        probabilities: (classes,), softmax of the mean of the logits over the timesteps so far.
    """

    path: str
    classes: tuple[str, ...]
    logits: Tensor
    probabilities: Tensor

    def top(self, n: int = 1) -> list[tuple[str, float]]:
        """The n most probable classes and their probabilities, most probable first; ties in label order, as in `lsg eval`."""
        values, indices = self.probabilities.sort(descending=True, stable=True)
        return [(self.classes[i], p) for i, p in zip(indices[:n].tolist(), values[:n].tolist(), strict=True)]


@dataclass(frozen=True)
class Prediction(Answer):
    """Prediction for a file.

    Attributes:
        by_step: (T, classes), probabilities after each timestep.
    """

    by_step: Tensor


@dataclass(frozen=True)
class Network:
    """A trained network and the preparation of its input.

    Attributes:
        logits: maps frames (T, B, C, H, W), or images (B, C, H, W), to logits (T, B, classes), float32, on the CPU.
        stored: configuration stored in the checkpoint or export.
        config: settings of the training and of the computation.
        compute: device and precision.
        source: the network, folded for inference, or the runner of an export.
    """

    logits: Callable[[Tensor], Tensor]
    stored: Record
    config: RunConfig
    compute: Compute
    source: SpikingNet | Runner

    @classmethod
    def open(cls, path: Path | str, **changes: Any) -> "Network":
        """Open a checkpoint, or an output of ``lsg export``, which runs on the CPU in float32.

        Args:
            changes: settings that override the settings of the training, such as ``device`` or ``batch_size``.

        Raises:
            CheckpointError: not a valid checkpoint or export of lsg.
            ConfigError: the device is not available, a package for the format is not installed, or predictions of the network depend on
                the batch.
        """
        path = hub.local(path)
        runner = open_exported(path)
        if runner is not None:
            config = from_checkpoint(path, runner.config, {**changes, "device": "cpu", "precision": "fp32"})
            compute = set_up(config)
            return cls(torch.inference_mode()(lambda x: runner.run(x).logits), runner.config, config, compute, runner)
        model, stored = checkpoint.load(path)
        checkpoint.check_described(stored, path)
        config = from_checkpoint(path, stored, changes)
        model.spec = dataclasses.replace(model.spec, T=config.T)
        compute = set_up(config)
        model = deployed(model.to(compute.device), compute.precision)

        def logits(x: Tensor) -> Tensor:
            with torch.inference_mode(), compute.context():
                return full_precision(model(compute.move(x))).cpu()

        return cls(logits, stored, config, compute, model)

    @property
    def exported(self) -> bool:
        """Whether the network is an export rather than a checkpoint."""
        return isinstance(self.source, Runner)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        return tuple(self.stored["classes"])

    def dataset(self, **changes: Any) -> Dataset:
        """The data set of the training, with some settings changed, to prepare other files in the same way."""
        return dataset_of(self.config.replace(**changes), expected=self.stored["data"])

    def batch(self, samples: Sequence[np.ndarray]) -> Tensor:
        """B prepared samples as network input: frames (T, B, C, H, W), or normalised images (B, C, H, W)."""
        n = len(samples)
        data = self.stored["data"]
        split = Split(np.stack(samples), np.zeros(n, np.int64), np.zeros(n, np.uint64), [""] * n)
        return Batches(split, n, static=data["static"], mean=data["mean"], std=data["std"]).batch(0).x

    def suffixes(self) -> tuple[str, ...]:
        """Suffixes of the files to process in a folder."""
        return image_suffixes() if self.stored["data"]["static"] else readers.suffixes()


@undisturbed
def predict(
    network: Network | Path | str,
    paths: Iterable[str | os.PathLike[str]],
    *,
    batch_size: int | None = None,
    on_error: OnError | None = None,
) -> Generator[Prediction]:
    """Classify recordings or images, prepared as in training. Yields predictions in order, as soon as each batch is ready.

    Samples are prepared in a thread while the network computes, or in several processes if that is faster.

    Args:
        network: a network from :meth:`Network.open`, or the path of a checkpoint or export.
        paths: files, or folders, whose files are processed in path order, without hidden files.
        batch_size: default: as in training, at most 1024.
        on_error: called with path and error of each file that cannot be read, instead of raising the error.

    Raises:
        DataError: a file cannot be read and ``on_error`` is not given, or ``paths`` is empty.
        DivergedError: logits are not finite.
        CheckpointError, ConfigError: as :meth:`Network.open`.
    """
    if not isinstance(network, Network):
        network = Network.open(network)
    batch_size = batch_size or min(network.config.batch_size, LARGEST)
    items = [item for path in paths for item in _files(os.fspath(path), network.suffixes())]
    if not items:
        raise DataError("found no paths, expected recordings, images or folders", "Give at least one PATH.")
    dataset = network.dataset()
    full = {}
    versions = dataset.versions([Sample(path, 0, "test", path) for path, _ in items])
    check_expected({"versions": versions}, network.stored["data"], network.config, strict=False)
    loaded = parallel.each(functools.partial(load_file, dataset), items, network.config.workers)
    with contextlib.closing(parallel.ahead(loaded, AHEAD * batch_size)) as samples:
        pairs = zip((path for path, _ in items), samples, strict=True)
        while group := list(itertools.islice(pairs, batch_size)):
            for path, sample in group:
                if isinstance(sample, LsgError):
                    if on_error is None or (isinstance(sample, MissingLibrary) and len(items) == 1):
                        raise sample
                    on_error(path, sample)
                elif not dataset.static and (values := saturated(sample)):
                    full[path] = values, sample.size
            if good := [(path, sample) for path, sample in group if not isinstance(sample, LsgError)]:
                yield from _answers(network, good)
    if full:
        values, total = (sum(numbers) for numbers in zip(*full.values(), strict=True))
        warn_saturated(next(iter(full)), (values, total), (len(full), len(items)), SHORTER)


def check_finite(logits: Tensor, path: str) -> None:
    """Raise a DivergedError if logits of a file are NaN or infinite."""
    if not logits.isfinite().all():
        raise DivergedError(f"{path:.{LONG}}: logits: found NaN or infinity, expected finite numbers")


def running_probabilities(logits: Tensor) -> Tensor:
    """Softmax of the running mean of logits (T, ..., classes) over timesteps, of the same shape, in float64."""
    steps = torch.arange(1, len(logits) + 1, dtype=torch.float64).reshape(-1, *(1,) * (logits.dim() - 1))
    return (logits.double().cumsum(0) / steps).softmax(-1)


def _answers(network: Network, batch: Sequence[tuple[str, np.ndarray]]) -> Iterator[Prediction]:
    logits = network.logits(network.batch([sample for _, sample in batch]))
    check_finite(logits, ", ".join(path for path, _ in batch))
    by_step = running_probabilities(logits)
    for i, (path, _) in enumerate(batch):
        yield Prediction(path, network.classes, logits[:, i], by_step[-1, i], by_step[:, i])


def _files(path: str, suffixes: tuple[str, ...]) -> list[Found]:
    """(path, None) of a file, or of each file in a folder; or (path, error)."""
    if not os.path.isdir(path):
        return [(path, None)]
    try:
        files = sorted(str(file) for file in walk(Path(path)) if file.name.lower().endswith(suffixes))
    except DataError as error:
        return [(path, error)]
    listed = ", ".join(suffixes)
    nothing = DataError(f"{path}: found no files to predict, expected names ending in {listed}")
    return [(name, None) for name in files] or [(path, nothing)]
