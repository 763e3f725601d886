"""What recordings are there: counts, durations, event rates, sensor, formats, release."""

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
    """The recordings of a folder and the folders in it, or a single one, of any format.

    A recording is a file whose name ends as some reader expects; its class is the name of the folder that it is in.
    """

    def __init__(self, path: Path):
        super().__init__(RunConfig(dataset="event-folder", data_dir=str(path)))

    def find(self, splits: tuple[str, ...]) -> Listing:
        """All recordings, whatever the splits; none is no error."""
        found = recordings(self.root) if self.root.is_dir() else [("", "")]
        classes = sorted({kind for _, kind in found})
        samples = [Sample(name or self.root.name, classes.index(kind), "all", str(self.root / name)) for name, kind in found]
        return Listing(tuple(classes), tuple(samples))

    def read(self, path: Path) -> Events:
        """The events of a recording as they are stored."""
        return readers.read(path)

    def load(self, sample: Sample) -> np.ndarray:
        """Nothing, if the recording can be read."""
        self.events(sample)
        return np.empty(0)


@dataclass(frozen=True)
class Fact:
    """What is known of one recording.

    Attributes:
        name: its path from the folder that was looked at, or its key in a data set.
        kind: its class; empty for a single file.
        form: name of the reader, ``simulated``, or the data set that reads them itself.
        size: bytes of the file.
        events, on: how many, and how many of them are ON.
        duration: from the first to the last event, microseconds.
        sensor: (width, height) in pixels; as far as the events reach where the file does not state it.
        stated: whether it does.
        problem: why it cannot be read; the other numbers are then 0.
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
        JSON types: see :func:`summary`. Recordings that cannot be read are listed and otherwise left out.

    Raises:
        DataError: no such path, a file that cannot be read, or a folder without one that can.
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
        JSON types: for recordings those of :func:`summary`, for images how many there are and their size.

    Raises:
        DataError: nothing in it can be read.
    """
    parts = Counter(sample.split for sample in dataset.samples)
    head = {"dataset": dataset.config.dataset, "data_dir": dataset.config.data_dir, "parts": dict(parts)}
    if isinstance(dataset, ImageDataset):
        return {**head, **_images(dataset), **dataset.info}
    assert isinstance(dataset, EventDataset)
    facts = _all(dataset, workers, progress)
    return {**head, **summary(facts, where=f"data set {dataset.config.dataset}"), **dataset.info, "sensor_stated": True}


def recordings(folder: Path) -> list[tuple[str, str]]:
    """(Path from ``folder``, class) of each recording in and below it, sorted; hidden files and folders are left out."""
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
            f"{where}: none of the {len(bad)} recordings can be read. The first: {bad[0].problem}"
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
    """Which CIFAR10-DVS it is, where the files' names say so."""
    matches = (NAME.fullmatch(Path(fact.name).name) for fact in facts)
    found = sorted({match[3] for match in matches if match is not None})
    return {key: "; ".join(RELEASES[suffix][key] for suffix in found) or None for key in ("release", "orientation")}


def _digest(facts: Sequence[Fact]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for fact in sorted(facts, key=lambda fact: fact.name):
        digest.update(f"{fact.name}\0{fact.size}\0{fact.events}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _simulated(folder: Path) -> dict[str, Any]:
    """What `lsg data simulate` noted, if it made the folder."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        told = {"seed": note["seed"], "per_class": note["per_class"], "complete": (folder / manifest.NAME).exists()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if not told["complete"]:
        log.warning("%s: the simulation that made it has not finished; give the same command again", folder)
    return {"simulated": told}
