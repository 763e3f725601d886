"""Rows of coloured cells with names and numbers: confusion matrices, and measures by layer and timestep."""

from collections.abc import Sequence
from typing import NamedTuple

from lsgcli.report.colours import ink_on
from lsgcli.report.drawing import ADVANCE, Mark, box, group, shortened, text

NAMES, SIZE = 130, 11  # maximum width of names, and size of text, pixels
HEAD, ROW = 48, 22  # heights of what is above the rows, and of a row, pixels


class Cell(NamedTuple):
    """A cell: its colour, what it says, and its tooltip."""

    colour: str
    words: str
    tip: str = ""


def grid(
    names: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[Cell]], width: float, *, layers: bool = False
) -> tuple[list[Mark], float]:
    """Rows of cells below the names of the columns and beside their own; returns the marks, and the left edge of the cells.

    Args:
        columns: names of the columns; an empty one is left out.
        width: of a cell, pixels.
        layers: whether the rows are layers, which a page highlights in all pictures.
    """
    names = [shortened(name, NAMES, SIZE) for name in names]
    left = 10 + ADVANCE * SIZE * max(map(len, ["label", *names]))
    marks = []
    for column, name in enumerate(columns):
        if name:
            marks.append(text((left + (column + 0.5) * width, HEAD - 5), name, "ink", SIZE, "middle"))
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        own = [text((left - 6, ROW - 7), name, "ink", SIZE, "end")]
        for column, cell in enumerate(row):
            drawn = [box((0, 0), width - 1, ROW - 1, cell.colour)]
            if cell.words:
                drawn.append(text(((width - 1) / 2, ROW - 7), cell.words, ink_on(cell.colour), SIZE, "middle"))
            own.append(group(drawn, cell.tip, at=(left + column * width, 0)))
        marks.append(group(own, layer=number + 1 if layers else None, at=(0, HEAD + number * ROW)))
    return marks, left
