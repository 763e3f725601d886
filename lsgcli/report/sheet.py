"""Contact sheets: frames of a few samples, one row each, to check orientation and slicing."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lsgcli.config.data import DataConfig
from lsgcli.data import summary
from lsgcli.data.datasets.base import Dataset
from lsgcli.errors import ConfigError
from lsgcli.report.drawing import shortened
from lsgcli.system.files import replacing

# Complementary colours, so that equal numbers of ON and OFF events give white; distinct for common colour blindness.
ON = (255, 142, 0)
OFF = (0, 113, 255)
GROUND = (27, 29, 34)
INK = (236, 237, 240)
COLOURS = "ON (brighter) is orange, OFF (darker) is blue, equal numbers are white"
# Pixels.
LABEL = 216  # column of labels
HEAD = 48  # title
GAP = 6  # between tiles
TEXT = 12
LINE = 16  # from line to line
TARGET = 144  # minimum size of a tile in pixels, halved for many tiles
LIMIT = 30_000  # pixels of a sheet's side
GAMMA = 0.55  # below 1: single events stay visible beside pixels with many


class Row(NamedTuple):
    """A row of a contact sheet, for one sample.

    Attributes:
        label: its class.
        key: its name.
        tiles: (H, W, 3) uint8 each, one per timestep: see :func:`event_tiles` and :func:`image_tile`.
    """

    label: str
    key: str
    tiles: Sequence[np.ndarray]


def of_dataset(dataset: Dataset, count: int) -> list[Row]:
    """Rows of ``count`` samples, evenly over the classes, prepared as for training.

    Raises:
        DataError: a sample is damaged.
    """
    rows = []
    for i in spread([sample.label for sample in dataset.samples], count):
        sample = dataset.samples[i]
        prepared = dataset.load(sample)
        tiles = [image_tile(prepared)] if dataset.static else event_tiles(prepared)
        rows.append(Row(dataset.classes[sample.label], sample.key, tiles))
    return rows


def of_paths(paths: Sequence[Path], config: DataConfig, count: int) -> list[Row]:
    """Rows of recordings as they are stored: all given files, and samples of each folder, evenly over its classes.

    Raises:
        DataError: a path does not exist or contains no recordings, or a recording is damaged.
    """
    return [row for path in paths for row in of_dataset(summary.found(path, config), count)]


def spread(labels: Sequence[int], count: int) -> list[int]:
    """Indices of up to ``count`` samples in label order: the first sample of each label, then the second ones, and so on."""
    seen = Counter[int]()
    turns = []
    for index, label in enumerate(labels):
        turns.append((seen[label], label, index))
        seen[label] += 1
    chosen = [index for _, _, index in sorted(turns)[:count]]
    return sorted(chosen, key=lambda index: (labels[index], index))


def event_tiles(frames: np.ndarray) -> list[np.ndarray]:
    """Frames (T, 2, H, W), ON and OFF (or (T, 1, H, W), drawn as ON), as T pictures (H, W, 3) uint8; of a sensor with one row, all timesteps are
    in one picture (W, T, 3).

    Brightness is the count relative to the 99th percentile of the sample's active pixels.
    """
    if frames.shape[2] == 1:
        frames = np.moveaxis(frames[:, :, 0], 0, 2)[None]
    values = frames.astype(np.float32)
    active = values[values > 0]
    top = max(float(np.quantile(active, 0.99)), 1e-6) if len(active) else 1.0
    light = np.clip(values / top, 0, 1) ** GAMMA
    colours = np.array([ON, OFF], np.float32)[: frames.shape[1]]
    pictures = np.einsum("tchw,ck->thwk", light, colours)
    return list(np.clip(np.rint(pictures), 0, 255).astype(np.uint8))


def image_tile(image: np.ndarray) -> np.ndarray:
    """An image (C, H, W) uint8 of 1 or 3 channels as a picture (H, W, 3)."""
    return np.ascontiguousarray(np.broadcast_to(np.moveaxis(image, 0, -1), (*image.shape[1:], 3)))


def draw(title: str, rows: Sequence[Row], *, events: bool = True) -> Image.Image:
    """Draw samples on a sheet with a title.

    Args:
        events: whether tiles are frames of events, whose colours are stated.

    Raises:
        ConfigError: the sheet would be too large.
    """
    height, width, _ = np.max([tile.shape for row in rows for tile in row.tiles], axis=0).tolist()
    columns = max(len(row.tiles) for row in rows)
    scale = math.ceil((TARGET if columns <= 12 else TARGET // 2) / max(height, width))
    wide = width * scale + GAP
    high = max(height * scale, 2 * LINE) + GAP
    size = (max(LABEL + columns * wide, 640), HEAD + len(rows) * high)
    if max(size) > LIMIT:
        raise ConfigError(
            f"found a sheet of {size[0]} x {size[1]} pixels, expected at most {LIMIT} on a side",
            "Give fewer --samples, fewer timesteps (-T) or a smaller --size.",
        )
    image = Image.new("RGB", size, GROUND)
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(TEXT)
    pen.text((GAP, GAP), f"{title}: timesteps from left to right; {COLOURS}" if events else title, INK, font)
    for number, row in enumerate(rows):
        y = HEAD + number * high
        for line, words in enumerate(dict.fromkeys((row.label, row.key))):  # equal in embedded data
            pen.text((GAP, y + line * LINE), shortened(words, LABEL - GAP, TEXT), INK, font)
        for k, tile in enumerate(row.tiles):
            enlarged = np.repeat(np.repeat(tile, scale, 0), scale, 1)
            image.paste(Image.fromarray(enlarged), (LABEL + k * wide, y))
    return image


def write(path: Path, sheet: Image.Image) -> None:
    """Write a sheet as PNG.

    Raises:
        StorageError: it cannot be written.
    """
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG", optimize=True)
