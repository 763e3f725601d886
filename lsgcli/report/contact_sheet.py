"""A contact sheet: the frames of a few samples, a row each, to see orientation and slicing with one's eyes."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lsgcli.errors import ConfigError
from lsgcli.files import replacing

# Complementary, so that a pixel with as many ON as OFF events is white; told apart under every common colour blindness.
ON, OFF = (255, 142, 0), (0, 113, 255)
GROUND, TILE, INK, PALE = (27, 29, 34), (0, 0, 0), (236, 237, 240), (158, 163, 173)
LABEL = 216  # pixels of the column of labels
LEGEND = 350  # pixels of what the colours mean
GAP, MARGIN = 6, 18
TARGET = 144  # pixels that a tile should at least have, and half of that where there are many
LIMIT = 30_000  # pixels of a sheet's side
GAMMA = 0.55  # below 1: single events stay visible beside pixels with many
BIG, TEXT, SMALL = 18, 14, 12  # sizes of text, pixels
ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}  # in the words of SVG and of Pillow; on the base line
ADVANCE = 0.54  # mean width of a character, as a share of its size


@dataclass(frozen=True)
class Row:
    """One sample.

    Attributes:
        label: its class.
        key: its name.
        facts: further lines under the name.
        tiles: (H, W, 3) uint8 each, one per timestep: see :func:`event_tiles` and :func:`image_tile`.
        notes: lines under each tile.
    """

    label: str
    key: str
    facts: Sequence[str]
    tiles: Sequence[np.ndarray]
    notes: Sequence[Sequence[str]]


def event_tiles(frames: np.ndarray) -> list[np.ndarray]:
    """Frames (T, 2, H, W), ON and OFF (or (T, 1, H, W), drawn as ON), as T pictures (H, W, 3) uint8.

    Brightness is the count, as a share of what all but the brightest hundredth of the sample's active pixels have.
    """
    values = np.zeros((len(frames), 2, *frames.shape[2:]), np.float32)
    values[:, : frames.shape[1]] = frames
    active = values[values > 0]
    top = max(float(np.quantile(active, 0.99)), 1e-6) if len(active) else 1.0
    light = np.clip(values / top, 0, 1) ** GAMMA
    colours = np.array([ON, OFF], np.float32)
    pictures = np.einsum("tchw,ck->thwk", light, colours)
    return list(np.clip(np.rint(pictures), 0, 255).astype(np.uint8))


def image_tile(image: np.ndarray) -> np.ndarray:
    """An image (C, H, W) uint8 of 1 or 3 channels as a picture (H, W, 3)."""
    return np.ascontiguousarray(np.broadcast_to(np.moveaxis(image, 0, -1), (*image.shape[1:], 3)))


class Item(Protocol):
    """Something on a sheet, that both kinds of file can show."""

    def paint(self, canvas: Any, pen: Any) -> None:
        """Put it on a Pillow image, with its ImageDraw."""

    def svg(self) -> str:
        """As an SVG element."""


@dataclass(frozen=True)
class Text:
    """A line of text; ``anchor`` is start, middle or end, ``y`` its base line."""

    x: float
    y: float
    text: str
    size: int = TEXT
    colour: tuple[int, int, int] = INK
    anchor: str = "start"

    def paint(self, canvas: Any, pen: Any) -> None:
        """Put it on a Pillow image."""
        from PIL import ImageFont

        font = ImageFont.load_default(size=self.size)
        pen.text((self.x, self.y), self.text, fill=self.colour, font=font, anchor=ANCHORS[self.anchor])

    def svg(self) -> str:
        """As an SVG element."""
        place = f'x="{self.x:g}" y="{self.y:g}" font-size="{self.size}" fill="{_hex(self.colour)}" text-anchor="{self.anchor}"'
        return f"<text {place}>{escape(self.text)}</text>"


@dataclass(frozen=True)
class Box:
    """A filled rectangle."""

    x: int
    y: int
    width: int
    height: int
    colour: tuple[int, int, int]

    def paint(self, canvas: Any, pen: Any) -> None:
        """Put it on a Pillow image."""
        pen.rectangle((self.x, self.y, self.x + self.width - 1, self.y + self.height - 1), fill=self.colour)

    def svg(self) -> str:
        """As an SVG element."""
        place = f'x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}"'
        return f'<rect {place} fill="{_hex(self.colour)}"/>'


@dataclass(frozen=True)
class Picture:
    """Pixels (H, W, 3) uint8, enlarged to width x height without smoothing."""

    x: int
    y: int
    width: int
    height: int
    pixels: np.ndarray

    def paint(self, canvas: Any, pen: Any) -> None:
        """Put it on a Pillow image."""
        from PIL import Image

        enlarged = Image.fromarray(self.pixels).resize((self.width, self.height), Image.Resampling.NEAREST)
        canvas.paste(enlarged, (self.x, self.y))

    def svg(self) -> str:
        """As an SVG element."""
        from PIL import Image

        content = io.BytesIO()
        Image.fromarray(self.pixels).save(content, "PNG", optimize=True)
        source = base64.b64encode(content.getvalue()).decode()
        place = f'x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}"'
        return f'<image {place} preserveAspectRatio="none" href="data:image/png;base64,{source}"/>'


@dataclass(frozen=True)
class Sheet:
    """What is where, in pixels."""

    width: int
    height: int
    items: tuple[Item, ...]


def layout(title: str, subtitle: str, rows: Sequence[Row], *, events: bool = True) -> Sheet:
    """Put samples on a sheet.

    Args:
        events: whether the tiles are frames of events, whose colours need a legend.

    Raises:
        ConfigError: the sheet would be too large to look at.
    """
    height, width = (max(tile.shape[axis] for row in rows for tile in row.tiles) for axis in (0, 1))
    columns = max(len(row.tiles) for row in rows)
    scale = max(1, -(-(TARGET if columns <= 12 else TARGET // 2) // max(height, width)))
    wide, high = width * scale, max(height * scale, 24)
    lines = max(len(notes) for row in rows for notes in row.notes)
    step = max(high, SMALL + 4 * TEXT) + 6 + lines * (SMALL + 3) + 2 * GAP
    top = MARGIN + BIG + 2 * TEXT + 26
    total = (2 * MARGIN + LABEL + columns * (wide + GAP) - GAP, top + len(rows) * step + MARGIN)
    heading = math.ceil(min(len(subtitle), 100) * ADVANCE * TEXT) + (LEGEND if events else 0)
    total = (max(total[0], 2 * MARGIN + max(640, heading)), total[1])
    if max(total) > LIMIT:
        raise ConfigError(
            f"found a sheet of {total[0]} x {total[1]} pixels, expected at most {LIMIT} on a side",
            hint="Give fewer --samples, fewer timesteps (-T) or a smaller --size.",
        )
    items: list[Item] = [Box(0, 0, *total, GROUND), *_heading(title, subtitle, events, total[0])]
    left = MARGIN + LABEL
    if events:
        items += [
            Text(left + k * (wide + GAP) + wide / 2, top - 8, f"t = {k + 1}", SMALL, PALE, "middle") for k in range(columns)
        ]
    for number, row in enumerate(rows):
        y = top + number * step
        items += _labels(row, y)
        for k, (tile, notes) in enumerate(zip(row.tiles, row.notes, strict=True)):
            x = left + k * (wide + GAP)
            shown = (tile.shape[1] * scale, max(tile.shape[0] * scale, 24 if tile.shape[0] == 1 else 1))
            items += [Box(x, y, wide, high, TILE), Picture(x, y, *shown, tile)]
            items += [
                Text(x + wide / 2, y + high + (i + 1) * (SMALL + 3), note, SMALL, PALE, "middle")
                for i, note in enumerate(notes)
            ]
    return Sheet(*total, tuple(items))


def _heading(title: str, subtitle: str, events: bool, width: int) -> list[Item]:
    y = MARGIN + BIG
    items: list[Item] = [Text(MARGIN, y, _short(title, width - 2 * MARGIN, BIG), BIG)]
    items += [Text(MARGIN, y + TEXT + 7, _short(subtitle, width - 2 * MARGIN - (LEGEND if events else 0), TEXT), TEXT, PALE)]
    if events:
        x = width - MARGIN - 338
        for name, colour, room in (
            ("ON, brighter", ON, 114),
            ("OFF, darker", OFF, 108),
            ("as many of both", (255, 255, 255), 0),
        ):
            items += [Box(x, y + 9, 12, 12, colour), Text(x + 17, y + TEXT + 7, name, SMALL + 1)]
            x += room
    return items


def _labels(row: Row, y: int) -> list[Item]:
    items: list[Item] = [Text(MARGIN, y + BIG, _short(row.label, LABEL - 12, BIG), BIG)]
    y += BIG
    for line in (*_wrapped(row.key, LABEL - 12, SMALL), *row.facts):
        y += SMALL + 4
        items.append(Text(MARGIN, y, line, SMALL, PALE))
    return items


def _room(width: float, size: int) -> int:
    """Characters that fit into a width."""
    return max(4, int(width / (ADVANCE * size)))


def _short(text: str, width: float, size: int) -> str:
    room = _room(width, size)
    return text if len(text) <= room else text[: room - 3] + "..."


def _wrapped(text: str, width: float, size: int, lines: int = 3) -> list[str]:
    """A path on a few lines, broken after a separator; of one that is too long, the end is what tells samples apart."""
    room = _room(width, size)
    found = []
    while len(text) > room:
        cut = max(text.rfind(mark, room // 2, room) for mark in "/_- ") + 1 or room
        found.append(text[:cut])
        text = text[cut:]
    found.append(text)
    return found if len(found) <= lines else ["...", *found[1 - lines :]]


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _png(sheet: Sheet) -> bytes:
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (sheet.width, sheet.height), GROUND)
    pen = ImageDraw.Draw(canvas)
    for item in sheet.items:
        item.paint(canvas, pen)
    content = io.BytesIO()
    canvas.save(content, "PNG", optimize=True)
    return content.getvalue()


def _svg(sheet: Sheet) -> bytes:
    size = f'viewBox="0 0 {sheet.width} {sheet.height}" width="{sheet.width}" height="{sheet.height}"'
    style = "text{font-family:system-ui,sans-serif}image{image-rendering:pixelated}"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{style}</style>', *(item.svg() for item in sheet.items)]
    return ("\n".join(parts) + "\n</svg>\n").encode("utf-8", "backslashreplace")


FORMATS: dict[str, Callable[[Sheet], bytes]] = {".png": _png, ".svg": _svg}


def write(path: Path, sheet: Sheet) -> None:
    """Write a sheet as PNG or SVG, as the name says: its ending is one of :data:`FORMATS`.

    Raises:
        StorageError: it cannot be written.
    """
    content = FORMATS[path.suffix.lower()](sheet)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
