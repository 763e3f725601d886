"""Rows of a contact sheet: selection of samples, and their labels."""

import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from lsgcli.config import RunConfig
from lsgcli.data import facts, random, readers
from lsgcli.data.datasets.base import Dataset, EventDataset, Sample
from lsgcli.data.datasets.cifar_dvs import NAME, CifarDvs
from lsgcli.data.events import Events, turned, turned_sensor
from lsgcli.data.frames import FrameSettings, edges_of, frames
from lsgcli.errors import DataError
from lsgcli.report.contact_sheet import Row, event_tiles, image_tile

log = logging.getLogger("lsg")


def of_dataset(dataset: Dataset, count: int) -> list[Row]:
    """Rows of ``count`` samples, evenly over the classes, prepared as for training.

    Raises:
        DataError: a sample is damaged.
    """
    labels = [sample.label for sample in dataset.samples]
    chosen = [dataset.samples[i] for i in spread(labels, count)]
    if isinstance(dataset, EventDataset):
        return [_event_row(dataset, sample) for sample in chosen]
    return [Row(dataset.classes[sample.label], sample.key, (), (image_tile(dataset.load(sample)),), ((),)) for sample in chosen]


def of_paths(paths: Sequence[Path], config: RunConfig, count: int) -> list[Row]:
    """Rows of recordings: all given files, and samples of each folder, evenly over its classes.

    Files with names as in CIFAR10-DVS are read as in that data set.

    Raises:
        DataError: a path does not exist or contains no recordings, or a recording is damaged.
    """
    rows = []
    for path in paths:
        if not path.is_dir():
            rows.append(_file_row(path, path.parent.name, path.name, config))
            continue
        found = facts.recordings(path)
        if not found:
            raise DataError(
                f"{path}: found no recordings, expected files ending in {', '.join(readers.suffixes())}",
                hint="Give a recording, or a folder of recordings.",
            )
        kinds = sorted({kind for _, kind in found})
        for i in spread([kinds.index(kind) for _, kind in found], count):
            name, kind = found[i]
            rows.append(_file_row(path / name, kind, name, config))
    return rows


def spread(labels: Sequence[int], count: int) -> list[int]:
    """Indices of up to ``count`` samples, spread over the labels and, within a label, over its samples; in label order."""
    members = {label: [i for i, other in enumerate(labels) if other == label] for label in sorted(set(labels))}
    wanted = dict.fromkeys(members, 0)
    order = list(members)
    if count < len(order):
        order = [order[k * len(order) // count] for k in range(count)]
    left = min(count, sum(len(members[label]) for label in order))
    while left:
        for label in order:
            if left and wanted[label] < len(members[label]):
                wanted[label] += 1
                left -= 1
    return [members[label][k * len(members[label]) // n] for label, n in wanted.items() for k in range(n)]


def _event_row(dataset: EventDataset, sample: Sample) -> Row:
    events = dataset.events(sample)
    made = dataset.frames(events, sample)
    return _row(dataset.classes[sample.label], sample.key, events, made, dataset.settings)


def _file_row(path: Path, kind: str, key: str, config: RunConfig) -> Row:
    asked = None
    if config.sensor is not None:
        width, height = map(int, config.sensor.split("x"))
        asked = (width, height)
    events = readers.read(path, asked)
    match = NAME.fullmatch(path.name)
    if match:
        kind = match[1]
        events = CifarDvs(config).upright(events, readers.identify(path))
    sensor = asked or events.sensor or (int(events.x.max()) + 1, int(events.y.max()) + 1)
    upright = turned(events, sensor, config.orientation)
    settings = FrameSettings.of(config)
    made = frames(upright, turned_sensor(sensor, config.orientation), settings, name=str(path), draw=random.window(key))
    return _row(kind, key, events, made, settings)


def _row(label: str, key: str, events: Events, made: np.ndarray, settings: FrameSettings) -> Row:
    start = int(events.t[0])
    about = (f"{len(events):,} events in {(int(events.t[-1]) - start) / 1e3:,.1f} ms", _brightest(made, settings))
    if made.shape[2] == 1:  # a sensor with one row: all timesteps in one image
        tile = event_tiles(np.moveaxis(made[:, :, 0], 0, 2)[None])
        return Row(label, key, about, tile, (("vertical: sensor pixels; horizontal: timesteps",),))
    edges = edges_of(events.t, settings, random.window(key))
    return Row(label, key, about, event_tiles(made), [_note(events.t, a, b, start) for a, b in pairwise(edges)])


def _brightest(made: np.ndarray, settings: FrameSettings) -> str:
    units = {"count": "events", "binary": "(binary)", "log1p": "log(1+n)"}
    unit = units[settings.value] if settings.normalise == "none" else "(normalised)"
    return f"maximum per pixel: {float(made.max()):.3g} {unit}"


def _note(t: np.ndarray, a: int, b: int, start: int) -> tuple[str, str]:
    if a == b:
        return "-", "0 events"
    return f"{(int(t[a]) - start) / 1e3:,.1f} - {(int(t[b - 1]) - start) / 1e3:,.1f} ms", f"{b - a:,} events"


def preparation(config: RunConfig, static: bool) -> str:
    """The preparation in one line."""
    if static:
        return f"{config.size} x {config.size} pixels"
    window = f" of {config.window_us:,} us, {config.window_start}" if config.slicing == "window" else ""
    parts = [f"T = {config.T}", f"slicing {config.slicing}{window}", f"{config.size} x {config.size} pixels, {config.resize}"]
    parts += [f"values {config.value}"] if config.value != "count" else []
    parts += [f"normalised by {config.normalise}"] if config.normalise != "none" else []
    parts += [f"turned: {config.orientation}"] if config.orientation != "upright" else []
    return ", ".join(parts)
