"""Facts about recordings: counts, durations, event rates, sensor, formats, release."""

import functools
import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lsgcli.config import RunConfig
from lsgcli.data import manifest, parallel, readers
from lsgcli.data.datasets.base import Dataset, EventDataset, ImageDataset, Listing, Sample
from lsgcli.data.datasets.cifar_dvs import NAME, RELEASES
from lsgcli.data.events import Events
from lsgcli.data.folders import walk
from lsgcli.data.simulation.folder import NOTE
from lsgcli.errors import DataError

log = logging.getLogger("lsg")
Progress = Callable[[int, int], None]


class Recordings(EventDataset):
    """The recordings in a folder and its subfolders, or a single recording, of any format.

    A recording is a file with a suffix supported by a reader; its class is the name of its folder.
    """

    def __init__(self, path: Path):
        super().__init__(RunConfig(dataset="event-folder", data_dir=str(path)))

    def find(self, splits: tuple[str, ...]) -> Listing:
        """All recordings, independent of splits; may be empty."""
        found = recordings(self.root) if self.root.is_dir() else [("", "")]
        classes = sorted({kind for _, kind in found})
        samples = [Sample(name or self.root.name, classes.index(kind), "all", str(self.root / name)) for name, kind in found]
        return Listing(tuple(classes), tuple(samples))

    def read(self, path: Path) -> Events:
        """The events of a recording as they are stored."""
        return readers.read(path)

    def load(self, sample: Sample) -> np.ndarray:
        """Read the recording, to check that it can be read."""
        self.events(sample)
        return np.empty(0)


@dataclass(frozen=True)
class Fact:
    """Facts about one recording.

    Attributes:
        name: path relative to the folder, or key in a data set.
        kind: class; empty for a single file.
        form: name of the reader, ``simulated``, or the data set that reads the recordings itself.
        size: file size in bytes.
        events, on: number of events, and of ON events.
        duration: time from the first to the last event, in microseconds.
        sensor: (width, height) in pixels, or the extent of the events if the file does not state it.
        stated: whether the file states the sensor.
        problem: why it cannot be read; all numbers are then 0.
    """

    name: str
    kind: str
    form: str = ""
    size: int = 0
    events: int = 0
    on: int = 0
    duration: int = 0
    sensor: tuple[int, int] = (0, 0)
    stated: bool = False
    problem: str | None = None


def of_path(path: Path, *, workers: int | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Facts about a recording, or about all of a folder and the folders in it.

    Returns:
        JSON types: see :func:`summary`. Unreadable recordings are listed but not included in the statistics.

    Raises:
        DataError: the path does not exist, or contains no readable recording.
    """
    dataset = Recordings(path).scan()
    if not dataset.samples:
        raise DataError(
            f"{path}: found no recordings, expected files ending in {', '.join(readers.suffixes())}",
            hint="Give a recording, or a folder of recordings.",
        )
    found = _all(dataset, workers, progress)
    if not path.is_dir() and found[0].problem:
        raise DataError(found[0].problem)
    return {"path": str(path), **_simulated(path), **summary(found, where=str(path))}


def of_dataset(dataset: Dataset, *, workers: int | None = None, progress: Progress | None = None) -> dict[str, Any]:
    """Facts about a data set, as lsg reads it.

    Returns:
        JSON types: for recordings as in :func:`summary`, for images their number and size.

    Raises:
        DataError: no sample can be read.
    """
    parts = Counter(sample.split for sample in dataset.samples)
    head = {"dataset": dataset.config.dataset, "data_dir": dataset.config.data_dir, "parts": dict(parts)}
    if isinstance(dataset, ImageDataset):
        return {**head, **_images(dataset), **dataset.info}
    assert isinstance(dataset, EventDataset)
    facts = _all(dataset, workers, progress)
    return {**head, **summary(facts, where=f"data set {dataset.config.dataset}"), **dataset.info, "sensor_stated": True}


def recordings(folder: Path) -> list[tuple[str, str]]:
    """(Path from ``folder``, class) of each recording in and below it, sorted, without hidden files and folders."""
    endings, found = readers.suffixes(), []
    for at, names in walk(folder):
        kind = os.path.basename(os.path.abspath(at))
        found += [(os.path.relpath(at / name, folder), kind) for name in names if name.lower().endswith(endings)]
    return sorted(found)


def summary(facts: Sequence[Fact], where: str = "") -> dict[str, Any]:
    """Facts about several recordings, in JSON types.

    ``recordings``, ``events``, ``classes`` (name: count), ``sensor`` [width, height] (the largest), ``sensor_stated``,
    ``format``, ``formats`` (name: count), ``duration_us`` and ``events_per_s`` ({min, median, max}), ``on_share`` (0..1),
    ``bytes``, ``release`` and ``orientation`` (where names tell CIFAR10-DVS, else None), ``digest`` (of names, sizes and
    event counts; the same on every machine), ``unreadable`` ([{"name", "problem"}]).

    Raises:
        DataError: none of them can be read.
    """
    good = [fact for fact in facts if fact.problem is None]
    bad = [fact for fact in facts if fact.problem is not None]
    if not good:
        raise DataError(
            f"{where}: found no readable recording among {len(bad)}. First problem: {bad[0].problem}"
            if bad
            else f"{where}: found no recordings"
        )
    forms = Counter(fact.form for fact in good)
    events = sum(fact.events for fact in good)
    return {
        "recordings": len(good),
        "events": events,
        "classes": dict(sorted(Counter(fact.kind for fact in good if fact.kind).items())),
        "sensor": [max(fact.sensor[axis] for fact in good) for axis in (0, 1)],
        "sensor_stated": all(fact.stated for fact in good),
        "sensors": dict(sorted(Counter(f"{fact.sensor[0]}x{fact.sensor[1]}" for fact in good if fact.stated).items())),
        "format": ", ".join(sorted(forms)),
        "formats": dict(sorted(forms.items())),
        "duration_us": _spread(fact.duration for fact in good),
        "events_per_recording": _spread(fact.events for fact in good),
        "events_per_s": _spread(round(fact.events / max(fact.duration, 1) * 1e6) for fact in good),
        "on_share": round(sum(fact.on for fact in good) / events, 6),
        "bytes": sum(fact.size for fact in good),
        **_release(good),
        "digest": _digest(good),
        "unreadable": [{"name": fact.name, "problem": fact.problem} for fact in bad],
    }


def _all(dataset: EventDataset, workers: int | None, progress: Progress | None) -> list[Fact]:
    facts: dict[int, Fact] = {}
    for i, fact in parallel.each(functools.partial(_fact, dataset), dataset.samples, workers):
        facts[i] = fact
        if progress:
            progress(len(facts), len(dataset.samples))
    return [facts[i] for i in sorted(facts)]


def _fact(dataset: EventDataset, sample: Sample) -> Fact:
    kind, source = dataset.classes[sample.label], sample.source
    try:
        form, size = ("simulated" if dataset.embedded else dataset.config.dataset), 0
        if isinstance(source, str):
            form, size = readers.identify(Path(source)), os.path.getsize(source)
        events = dataset.events(sample)
    except DataError as error:
        return Fact(sample.key, kind, problem=str(error))
    reach = (int(events.x.max(initial=0)) + 1, int(events.y.max(initial=0)) + 1)
    duration = int(events.t[-1]) - int(events.t[0]) if len(events) else 0
    on = int(np.count_nonzero(events.on))
    return Fact(sample.key, kind, form, size, len(events), on, duration, events.sensor or reach, events.sensor is not None)


def _images(dataset: ImageDataset) -> dict[str, Any]:
    height, width = dataset.pixels(dataset.samples[0]).shape[:2]
    counts = Counter(dataset.classes[sample.label] for sample in dataset.samples)
    return {
        "samples": len(dataset.samples),
        "classes": {name: counts[name] for name in dataset.classes},
        "size": [int(width), int(height)],
        "channels": dataset.channels,
    }


def _spread(values: Iterable[int]) -> dict[str, int]:
    ordered = sorted(values)
    return {"min": ordered[0], "median": ordered[len(ordered) // 2], "max": ordered[-1]}


def _release(facts: Sequence[Fact]) -> dict[str, Any]:
    """The release of CIFAR10-DVS, if file names indicate it."""
    matches = (NAME.fullmatch(Path(fact.name).name) for fact in facts)
    found = sorted({match[3] for match in matches if match is not None})
    return {key: "; ".join(RELEASES[suffix][key] for suffix in found) or None for key in ("release", "orientation")}


def _digest(facts: Sequence[Fact]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for fact in sorted(facts, key=lambda fact: fact.name):
        digest.update(f"{fact.name}\0{fact.size}\0{fact.events}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _simulated(folder: Path) -> dict[str, Any]:
    """The note of `lsg data simulate`, if it created the folder."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        simulation = {"seed": note["seed"], "per_class": note["per_class"], "complete": (folder / manifest.NAME).exists()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if not simulation["complete"]:
        log.warning("%s: incomplete simulation; repeat its command to finish it", folder)
    return {"simulated": simulation}
