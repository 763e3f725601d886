"""``lsg inspect-gradients --plot``: the figures of the page as files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lsgcli.report.charts import drawn_legend
from lsgcli.report.drawing import ADVANCE, Drawing, Mark, group, save, shortened, text
from lsgcli.report.pictures.base import Panel, View, labels, pictures

MARGIN, GAP = 14, 16
TITLE, SMALL = 16, 11
ACROSS = 880  # default width of a sheet, in pixels


def write(flows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Write each view of each picture with :func:`~lsgcli.report.drawing.save`.

    Args:
        flows: records as :func:`lsgcli.report.flow_page.page` takes them.
        folder: is made if it does not exist; other files in it stay.

    Returns:
        The files, in the order of the page.

    Raises:
        StorageError: they cannot be written.
    """
    return save(sheets(flows), folder)


def sheets(flows: Sequence[dict[str, Any]]) -> dict[str, Drawing]:
    """The figures by file name, each with title, legend and all panels."""
    names = labels(flows)
    found = {}
    for name, picture in pictures().items():
        for view in picture.views(flows, names):
            plain = view.name == name
            file = name if plain else f"{name}-{_file_name(view.name)}"
            found[file] = sheet(picture.title if plain else f"{picture.title}: {view.name}", view)
    return found


def sheet(title: str, view: View) -> Drawing:
    """The panels of a view in columns, below a title and a legend."""
    cells = [_cell(panel) for panel in view.panels]
    wide, high = max(cell.width for cell in cells), max(cell.height for cell in cells)
    columns = min(len(cells), view.columns or max(1, int((ACROSS + GAP) / (wide + GAP))))
    width = 2 * MARGIN + columns * (wide + GAP) - GAP
    marks, y = _heading(title, view, width)
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        marks.append(group(cell.marks, at=(MARGIN + column * (wide + GAP), y + row * (high + GAP))))
    rows = -(-len(cells) // columns)
    return Drawing(width, y + rows * (high + GAP) - GAP + MARGIN, marks, title)


def _heading(title: str, view: View, width: float) -> tuple[list[Mark], float]:
    """Title and legend, and the vertical position of the panels."""
    heading = text((MARGIN, MARGIN + TITLE), shortened(title, width - 2 * MARGIN, TITLE), "ink", TITLE)
    marks, height = drawn_legend(view.legend, width - 2 * MARGIN)
    y = MARGIN + TITLE + 14
    return [heading, group(marks, at=(MARGIN, y))], y + height + 6


def _cell(panel: Panel) -> Drawing:
    """A panel with its title above and its note below."""
    if panel.drawing is None:
        return Drawing(200, 60, [text((0, 14), panel.title, "ink", SMALL + 1), *_lines(panel.note, 200, 34)], panel.title)
    drawing, head = panel.drawing, 20 if panel.title else 0
    marks = [text((0, 13), shortened(panel.title, drawing.width, SMALL + 1), "ink", SMALL + 1)] if head else []
    notes = _lines(panel.note, drawing.width, head + drawing.height + SMALL + 2)
    height = head + drawing.height + len(notes) * (SMALL + 4)
    return replace(drawing, height=height, marks=[*marks, group(drawing.marks, at=(0, head)), *notes])


def _lines(words: str, width: float, y: float) -> list[Mark]:
    """Text wrapped into lines."""
    room, lines = width / (ADVANCE * SMALL), [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [text((0, y + i * (SMALL + 4)), line, "soft", SMALL) for i, line in enumerate(lines) if line]


def _file_name(text: str) -> str:
    """A name with each sequence of characters other than letters and digits replaced by a dash."""
    return "-".join("".join(c if c.isalnum() and c.isascii() else " " for c in text.lower()).split())
