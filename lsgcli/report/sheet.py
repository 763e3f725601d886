"""Contact sheets: frames of a few samples, one row each, to check orientation and slicing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lsgcli.config.data import DataConfig
from lsgcli.data import random, summary
from lsgcli.data.datasets.base import Dataset, EventDataset
from lsgcli.data.datasets.cifar_dvs import NAME, CifarDvs
from lsgcli.data.events import Events, sensor_of, turned, turned_sensor
from lsgcli.data.frames import edges_of, frames, saturated, warn_saturated
from lsgcli.data.readers import base as readers
from lsgcli.errors import ConfigError, DataError
from lsgcli.report.drawing import ADVANCE, shortened
from lsgcli.system.files import replacing

# Complementary colours, so that equal numbers of ON and OFF events give white; distinct for common colour blindness.
ON, OFF = (255, 142, 0), (0, 113, 255)
GROUND, TILE, INK, PALE = (27, 29, 34), (0, 0, 0), (236, 237, 240), (158, 163, 173)
COLOURS = "ON (brighter) is orange, OFF (darker) is blue, equal numbers are white"
LABEL = 216  # pixels of the column of labels
GAP, MARGIN = 6, 18
TARGET = 144  # minimum size of a tile in pixels, halved for many tiles
LIMIT = 30_000  # pixels of a sheet's side
GAMMA = 0.55  # below 1: single events stay visible beside pixels with many
TEXT, LINE = 12, 16  # pixels of text, and from line to line
THIN = 24  # pixels of a tile with a single row


@dataclass(frozen=True)
class Row:
    """A row of a contact sheet, for one sample.

    Attributes:
        label: its class.
        key: its name.
        facts: further lines under the name.
        tiles: (H, W, 3) uint8 each, one per timestep: see :func:`event_tiles` and :func:`image_tile`.
        notes: lines under each tile.
        saturated: number of values of the frames that saturate, and of all.
    """

    label: str
    key: str
    facts: Sequence[str]
    tiles: Sequence[np.ndarray]
    notes: Sequence[Sequence[str]]
    saturated: tuple[int, int] = (0, 0)


def of_dataset(dataset: Dataset, count: int) -> list[Row]:
    """Rows of ``count`` samples, evenly over the classes, prepared as for training.

    Raises:
        DataError: a sample is damaged.
    """
    rows = []
    for sample in (dataset.samples[i] for i in spread([sample.label for sample in dataset.samples], count)):
        label = dataset.classes[sample.label]
        if isinstance(dataset, EventDataset):
            events = dataset.events(sample)
            rows.append(_row(label, sample.key, events, dataset.frames(events, sample), dataset.config))
        else:
            rows.append(Row(label, sample.key, (), (image_tile(dataset.load(sample)),), ((),)))
    return rows


def of_paths(paths: Sequence[Path], config: DataConfig, count: int) -> list[Row]:
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
        found = summary.recordings(path)
        if not found:
            raise DataError(
                f"{path}: found no recordings, expected files ending in {', '.join(readers.suffixes())}",
                hint="Give a recording, or a folder of recordings.",
            )
        kinds = sorted({kind for _, kind in found})
        chosen = (found[i] for i in spread([kinds.index(kind) for _, kind in found], count))
        rows += [_file_row(path / name, kind, name, config) for name, kind in chosen]
    return rows


def warn_about(name: str, rows: Sequence[Row]) -> None:
    """Warn about frames that saturate, as the preparation for training does."""
    if full := [row for row in rows if row.saturated[0]]:
        values = sum(row.saturated[0] for row in full), sum(row.saturated[1] for row in rows)
        warn_saturated(name, values, (len(full), len(rows)))


def spread(labels: Sequence[int], count: int) -> list[int]:
    """Indices of up to ``count`` samples, spread over the labels and, within a label, over its samples; in label order."""
    members = {label: [i for i, other in enumerate(labels) if other == label] for label in sorted(set(labels))}
    order = list(members)
    if count < len(order):
        order = [order[k * len(order) // count] for k in range(count)]
    turns = sorted((turn, label) for label in order for turn in range(len(members[label])))[:count]
    wanted = Counter(label for _, label in turns)
    return [members[label][k * len(members[label]) // n] for label, n in sorted(wanted.items()) for k in range(n)]


def _file_row(path: Path, kind: str, key: str, config: DataConfig) -> Row:
    asked = sensor_of(config.sensor) if config.sensor else None
    events = readers.read(path, asked)
    if match := NAME.fullmatch(path.name):
        kind = match[1]
        events = CifarDvs(config).upright(events, readers.identify(path))
    sensor = asked or events.sensor or events.extent
    upright = turned(events, sensor, config.orientation)
    made = frames(upright, turned_sensor(sensor, config.orientation), config, name=str(path), draw=random.window(key))
    return _row(kind, key, events, made, config)


def _row(label: str, key: str, events: Events, made: np.ndarray, config: DataConfig) -> Row:
    """A row of frames (T, C, H, W) made from events."""
    start = int(events.t[0])
    units = {"count": "events", "binary": "(binary)", "log1p": "log(1+n)"}
    unit = units[config.value] if config.normalise == "none" else "(normalised)"
    about = (
        f"{len(events):,} events in {(int(events.t[-1]) - start) / 1e3:,.1f} ms",
        f"maximum per pixel: {float(made.max()):.3g} {unit}",
    )
    full = saturated(made), made.size
    if made.shape[2] == 1:  # a sensor with one row: all timesteps in one image
        return Row(label, key, about, [summary_tile(made)], (("vertical: sensor pixels; horizontal: timesteps",),), full)
    edges = edges_of(events.t, config, random.window(key))
    return Row(label, key, about, event_tiles(made), [_note(events.t, a, b, start) for a, b in pairwise(edges)], full)


def _note(t: np.ndarray, a: int, b: int, start: int) -> tuple[str, str]:
    if a == b:
        return "-", "0 events"
    return f"{(int(t[a]) - start) / 1e3:,.1f} - {(int(t[b - 1]) - start) / 1e3:,.1f} ms", f"{b - a:,} events"


def preparation(config: DataConfig, static: bool) -> str:
    """The preparation in one line."""
    if static:
        return f"{config.size} x {config.size} pixels"
    window = f" of {config.window_us:,} us, {config.window_start}" if config.slicing == "window" else ""
    parts = (
        f"T = {config.T}, slicing {config.slicing}{window}, {config.size} x {config.size} pixels, {config.resize}",
        f"values {config.value}" if config.value != "count" else "",
        f"normalised by {config.normalise}" if config.normalise != "none" else "",
        f"turned: {config.orientation}" if config.orientation != "upright" else "",
    )
    return ", ".join(filter(None, parts))


def event_tiles(frames: np.ndarray) -> list[np.ndarray]:
    """Frames (T, 2, H, W), ON and OFF (or (T, 1, H, W), drawn as ON), as T pictures (H, W, 3) uint8.

    Brightness is the count relative to the 99th percentile of the sample's active pixels.
    """
    values = frames.astype(np.float32)
    active = values[values > 0]
    top = max(float(np.quantile(active, 0.99)), 1e-6) if len(active) else 1.0
    light = np.clip(values / top, 0, 1) ** GAMMA
    colours = np.array([ON, OFF], np.float32)[: frames.shape[1]]
    pictures = np.einsum("tchw,ck->thwk", light, colours)
    return list(np.clip(np.rint(pictures), 0, 255).astype(np.uint8))


def summary_tile(frames: np.ndarray) -> np.ndarray:
    """Frames (T, C, H, W) of a sample in one picture: their sum, (H, W, 3), or of a sensor with one row all timesteps, (W, T, 3)."""
    if frames.shape[2] == 1:
        return event_tiles(np.moveaxis(frames[:, :, 0], 0, 2)[None])[0]
    return event_tiles(frames.sum(0, keepdims=True, dtype=np.float32))[0]


def image_tile(image: np.ndarray) -> np.ndarray:
    """An image (C, H, W) uint8 of 1 or 3 channels as a picture (H, W, 3)."""
    return np.ascontiguousarray(np.broadcast_to(np.moveaxis(image, 0, -1), (*image.shape[1:], 3)))


def draw(title: str, subtitle: str, rows: Sequence[Row], *, events: bool = True) -> Image.Image:
    """Draw samples on a sheet with a title.

    Args:
        events: whether tiles are frames of events, whose colours and timesteps are stated.

    Raises:
        ConfigError: the sheet would be too large.
    """
    height, width = (max(tile.shape[axis] for row in rows for tile in row.tiles) for axis in (0, 1))
    columns = max(len(row.tiles) for row in rows)
    notes = max(len(lines) for row in rows for lines in row.notes)
    scale = max(1, -(-(TARGET if columns <= 12 else TARGET // 2) // max(height, width)))
    wide, high = width * scale + GAP, max(height * scale, THIN) + GAP
    step = max(high + notes * LINE, 6 * LINE) + GAP
    heading = [title, subtitle, COLOURS] if events else [title, subtitle]
    top = MARGIN + (len(heading) + 1) * LINE + GAP
    letters = max(map(len, heading))
    size = (2 * MARGIN + max(round(letters * ADVANCE * TEXT), LABEL + columns * wide), top + len(rows) * step + MARGIN)
    if max(size) > LIMIT:
        raise ConfigError(
            f"found a sheet of {size[0]} x {size[1]} pixels, expected at most {LIMIT} on a side",
            hint="Give fewer --samples, fewer timesteps (-T) or a smaller --size.",
        )
    image = Image.new("RGB", size, GROUND)
    pen = ImageDraw.Draw(image)
    _write(pen, MARGIN, MARGIN, heading, INK)
    for k in range(columns if events else 0):
        _write(pen, MARGIN + LABEL + k * wide, top - LINE, [f"t = {k + 1}"], PALE)
    for number, row in enumerate(rows):
        y = top + number * step
        _write(pen, MARGIN, y, [shortened(row.label, LABEL - GAP, TEXT)], INK)
        _write(pen, MARGIN, y + LINE, [shortened(row.key, LABEL - GAP, TEXT), *row.facts], PALE)
        for k, (tile, lines) in enumerate(zip(row.tiles, row.notes, strict=True)):
            x = MARGIN + LABEL + k * wide
            shown = (tile.shape[1] * scale, THIN if len(tile) == 1 else len(tile) * scale)
            pen.rectangle((x, y, x + wide - GAP - 1, y + high - GAP - 1), fill=TILE)
            image.paste(Image.fromarray(tile).resize(shown, Image.Resampling.NEAREST), (x, y))
            _write(pen, x, y + high - GAP, lines, PALE)
    return image


def _write(pen: ImageDraw.ImageDraw, x: int, y: int, lines: Sequence[str], colour: tuple[int, ...]) -> None:
    """Lines of text below one another."""
    for number, line in enumerate(lines):
        pen.text((x, y + number * LINE), line, fill=colour, font=ImageFont.load_default(TEXT))


def write(path: Path, sheet: Image.Image) -> None:
    """Write a sheet as PNG.

    Raises:
        StorageError: it cannot be written.
    """
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG", optimize=True)
