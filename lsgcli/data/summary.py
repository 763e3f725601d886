"""What data contain: counts, durations, sensor, formats; and whether they are what they should be: checksums, published counts."""

import functools
import os
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lsgcli.config.data import DataConfig
from lsgcli.data import manifest, parallel
from lsgcli.data.datasets.base import SPLITS, Dataset, EventDataset, ImageDataset, Listing, Sample, Splits
from lsgcli.data.events import Events, Sensor, sensor_of
from lsgcli.data.folders import walk
from lsgcli.data.guard import MissingLibrary
from lsgcli.data.parallel import Progress, silent
from lsgcli.data.readers import base as readers
from lsgcli.errors import DataError
from lsgcli.system.schema import Record

Result = TypeVar("Result")


class Recordings(EventDataset):
    """The recordings in a folder and its subfolders, or a single recording, of any format.

    A recording is a file with a suffix supported by a reader; its class is the name of its folder.
    """

    def __init__(self, path: Path, config: DataConfig | None = None):
        super().__init__(replace(config or DataConfig(dataset="event-folder"), data_dir=str(path)))

    def find(self, splits: Splits) -> Listing:
        """All recordings, independent of splits, without those in hidden folders; may be empty."""
        kinds = {self.root: ""}
        if self.root.is_dir():
            paths = [path for path in walk(self.root) if path.name.lower().endswith(readers.suffixes())]
            kinds = {path: os.path.basename(os.path.abspath(path.parent)) for path in paths}
        classes = sorted(set(kinds.values()))
        samples = []
        for path, kind in kinds.items():
            key = os.path.relpath(path, self.root) if self.root.is_dir() else path.name
            samples.append(Sample(key, classes.index(kind), "all", str(path)))
        return Listing(tuple(classes), tuple(sorted(samples, key=lambda sample: sample.key)))

    def read(self, path: Path) -> Events:
        """The events of a recording as they are stored."""
        return readers.read(path)

    def frames(self, events: Events, sample: Sample) -> np.ndarray:
        """Frames of the sensor that is given, or that the recording states or needs."""
        given = self.config.sensor
        self.info = {"sensor": sensor_of(given) if given else events.sensor or events.extent}
        return super().frames(events, sample)


def found(path: Path, config: DataConfig | None = None, *, sealed: bool = False) -> Recordings:
    """A recording, or those of a folder and the folders in it.

    Args:
        sealed: whether it has to be a folder, which may have a manifest instead of recordings.

    Raises:
        DataError: it does not exist, is a file that has to be a folder, or is a folder without recordings. A file is opened only when it is read.
    """
    if not path.exists():
        raise DataError(f"{path}: found no such file or folder, expected recordings", "Check the path.")
    if sealed and not path.is_dir():
        hint = "Give a folder; `lsg data info` also looks at a single recording."
        raise DataError(f"{path}: found a file, expected a folder of recordings", hint)
    dataset = Recordings(path, config).scan()
    if not dataset.samples and not (sealed and (path / manifest.NAME).exists()):
        raise DataError(
            f"{path}: found no recordings, expected files ending in {', '.join(readers.suffixes())}",
            "Give a recording, or a folder of recordings.",
        )
    return dataset


def of_dataset(dataset: Dataset, *, workers: int | None = None, progress: Progress = silent) -> Record:
    """Facts about a data set, as lsg reads it, or about the recordings of :func:`found`.

    Returns:
        JSON types: for recordings as in :func:`_summary`, for images their number and size. Unreadable recordings are listed but not
        included in the statistics.

    Raises:
        DataError: no sample can be read.
    """
    if isinstance(dataset, Recordings):
        return {"path": dataset.config.data_dir, **_summary(dataset, workers, progress)}
    parts = Counter(sample.split for sample in dataset.samples)
    head = {"dataset": dataset.config.dataset, "data_dir": dataset.config.data_dir, "parts": dict(parts)}
    if isinstance(dataset, EventDataset):
        return {**head, **_summary(dataset, workers, progress), **dataset.info, "sensor_stated": True}
    assert isinstance(dataset, ImageDataset)
    height, width = dataset.pixels(dataset.samples[0]).shape[:2]
    counts = Counter(dataset.classes[sample.label] for sample in dataset.samples)
    classes = {name: counts[name] for name in dataset.classes}
    facts = {"samples": len(dataset.samples), "classes": classes, "size": [int(width), int(height)]}
    return {**head, **facts, "channels": dataset.channels, **dataset.info}


class _Fact(NamedTuple):
    form: str  # name of the reader, or of the data set that reads or simulates the recordings itself
    events: int
    duration: int  # microseconds
    sensor: Sensor  # (width, height), or the extent of the events if the file does not state it
    stated: bool


def _summary(dataset: EventDataset, workers: int | None, progress: Progress) -> Record:
    """Facts about several recordings, in JSON types.

    ``recordings``, ``events``, ``classes`` (name: count), ``sensor`` [width, height] (the largest), ``sensor_stated``,
    ``formats`` (name: count), ``duration_us`` and ``events_per_recording`` ({min, median, max}),
    ``unreadable`` ([{"name", "problem"}]).

    Raises:
        DataError: none of them can be read.
    """
    facts = []
    kinds = Counter[str]()
    formats = Counter[str]()
    bad = []
    results = parallel.each(functools.partial(_attempt, _fact, dataset), dataset.samples, workers, progress)
    for sample, fact in zip(dataset.samples, results, strict=True):
        if isinstance(fact, str):
            bad.append({"name": sample.key, "problem": fact})
            continue
        facts.append(fact)
        kinds[dataset.classes[sample.label]] += 1
        formats[fact.form] += 1
    if not facts:
        raise DataError(f"{dataset.home}: found no readable recording among {len(bad)}: {bad[0]['problem']}")
    del kinds[""]  # of a single recording
    return {
        "recordings": len(facts),
        "events": sum(fact.events for fact in facts),
        "classes": dict(sorted(kinds.items())),
        "sensor": np.max([fact.sensor for fact in facts], axis=0).tolist(),
        "sensor_stated": all(fact.stated for fact in facts),
        "formats": dict(sorted(formats.items())),
        "duration_us": _spread([fact.duration for fact in facts]),
        "events_per_recording": _spread([fact.events for fact in facts]),
        "unreadable": bad,
    }


def _attempt(look: Callable[[Any, Sample], Result], dataset: Dataset, sample: Sample) -> Result | str:
    """What is seen of a sample, or why it cannot be read."""
    try:
        return look(dataset, sample)
    except (DataError, MissingLibrary) as error:
        return error.message


def _fact(dataset: EventDataset, sample: Sample) -> _Fact:
    """Facts about a recording."""
    events = dataset.events(sample)
    duration = int(events.t[-1]) - int(events.t[0])
    return _Fact(
        events.form or dataset.config.dataset, len(events), duration, events.sensor or events.extent, events.sensor is not None
    )


def _spread(values: list[int]) -> dict[str, int]:
    return {"min": min(values), "median": int(statistics.median(values) + 0.5), "max": max(values)}


def faults(verdict: Record) -> list[str]:
    """One line for each missing, changed or unreadable file of what :func:`verify` returns."""
    lines = [f"missing: {name}" for name in verdict["missing"]]
    lines += [f"changed: {name}" for name in verdict["changed"]]
    return lines + [f"unreadable: {problem}" for problem in verdict["unreadable"].values()]


def verify(
    dataset: Dataset,
    *,
    write: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
    hashing: Progress = silent,
) -> Record:
    """Verify a data set: its folder, if any, each sample, and the number of samples.

    Args:
        write: instead of comparing the manifest, write a new one, if all samples can be read.
        progress: called with (samples read, total samples).
        hashing: called with (files hashed, number of files).

    Returns:
        JSON types: ``ok``; ``path``, the folder or the name of a data set without one; ``manifest``, whether there is a ``SHA256SUMS``;
        ``missing``, ``changed`` and ``extra`` files, as in :class:`~lsgcli.data.manifest.Report`; ``samples``, their number;
        ``unreadable`` (name: problem); ``counts``, samples per part, ``all`` for a plain folder; ``warnings``, which are not faults.

    Raises:
        DataError: a manifest cannot be read, or cannot be written because there is no folder or a sample cannot be read.
        StorageError: the manifest cannot be written, or it is a symbolic link.
    """
    root = None if dataset.embedded else dataset.home
    if write and root is None:
        raise DataError(f"{dataset.config.dataset}: is embedded in lsg, expected a folder to write {manifest.NAME} to")
    unreadable = {}
    results = parallel.each(functools.partial(_attempt, _load, dataset), dataset.samples, workers, progress)
    for sample, problem in zip(dataset.samples, results, strict=True):
        if problem is not None:
            unreadable[sample.key] = problem
    report = manifest.Report()
    if root is not None and not write:
        report = manifest.check(root, hashing)
    elif root is not None and not unreadable:
        manifest.write(root, progress=hashing)
    elif unreadable:
        raise DataError(
            "\n".join(f"unreadable: {problem}" for problem in unreadable.values()),
            "Repair or remove these files first; no manifest was written.",
        )
    verdict = {
        "path": dataset.config.dataset if root is None else str(root),
        "manifest": root is not None and (root / manifest.NAME).exists(),
        **report._asdict(),
        "samples": len(dataset.samples),
        "unreadable": unreadable,
        "counts": dict(Counter(sample.split for sample in dataset.samples)),
        "warnings": dataset.deviations(SPLITS),
    }
    return {"ok": not faults(verdict), **verdict}


def _load(dataset: Dataset, sample: Sample) -> None:
    """Read a sample, to check that it can be read; of recordings without a data set, no frames are known."""
    if isinstance(dataset, Recordings):
        dataset.events(sample)
    else:
        dataset.load(sample)
