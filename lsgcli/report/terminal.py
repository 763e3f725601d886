"""Terminal output: consoles, tables and progress bars."""

import copy
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

from lsgcli.config.fields import Values
from lsgcli.errors import clean

COUNTED = ("preparing data", "reading", "hashing")  # samples or files; other progress is in bytes
UNBOUNDED = 1 << 16  # columns of a file or pipe, so that lines are not wrapped
GAP = 2  # spaces between columns


class Table(RichTable):
    """A table of plain text. If the terminal is too narrow, each row becomes a block with one line per cell.

    Title and caption have the width of the terminal, not that of the table.

    Attributes:
        wraps: whether lines of cells are broken instead.
        spare: heads of columns that are left out first, the least important first.
    """

    wraps = False
    spare: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines of the table, or the blocks."""
        yield from filter(None, [plain(self.title)])
        bare = copy.copy(self)
        bare.title = bare.caption = None
        wide = options.update(max_width=UNBOUNDED)
        for head in self.spare:
            if Measurement.get(console, wide, bare).maximum > options.max_width:
                bare.columns = [column for column in bare.columns if str(column.header) != head]
        if self.wraps or Measurement.get(console, wide, bare).maximum <= options.max_width:
            yield from RichTable.__rich_console__(bare, console, options)
        else:
            for first, *others in zip(*(column.cells for column in self.columns), strict=True):
                yield Text(str(first), overflow="fold")
                for column, cell in zip(self.columns[1:], others, strict=True):
                    yield Text(f"  {column.header}: {cell}", overflow="fold")
        yield from filter(None, [plain(self.caption)])


def table(
    heads: Iterable[str], rows: Iterable[Sequence[Any]], title: str | None = None, left: int = 1, wraps: bool = False
) -> Table:
    """A table whose first ``left`` columns are aligned at the left, the others at the right; see :func:`shown` for its cells.

    If it ``wraps``, lines of its cells are broken where a terminal is narrow, instead of making each row a block.
    """
    made = Table(title=title, box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    made.wraps = wraps
    for number, head in enumerate(heads):
        made.add_column(plain(head), justify="left" if number < left else "right")
    for row in rows:
        made.add_row(*[plain(shown(cell)) for cell in row])
    return made


def fitted(
    heads: Sequence[str], rows: Sequence[Sequence[Any]], width: int, order: Iterable[str], left: int = 1
) -> tuple[Table, list[str]]:
    """A table of the columns that fit into a width, and the heads of those that do not: the first of ``order`` are left out first."""
    columns = {head: [shown(cell) for cell in cells] for head, cells in zip(heads, zip(*rows, strict=True), strict=True)}
    left_out = []
    for head in order:
        if sum(GAP + max(len(name), *map(len, cells)) for name, cells in columns.items()) > width + GAP:
            del columns[head]
            left_out.append(head)
    return table(columns, zip(*columns.values(), strict=True), left=left), left_out


def facts(record: Values) -> str:
    """A line for each field of a record that has a value, with the values in a column."""
    lines = {
        name.replace("_", " "): shown(value, name) for name, value in record.items() if value not in (None, "", {}, [], ())
    }
    width = max(map(len, lines)) + 2
    return "\n".join(f"{name + ':':<{width}} {text}" for name, text in lines.items())


def shown(value: Any, name: str = "") -> str:
    """A value of JSON types in one line; bytes, by the name of their field, are in MiB."""
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(one, name)}" for key, one in value.items() if one is not None)
    if isinstance(value, list | tuple):
        return (" x " if all(isinstance(one, int) for one in value) else ", ").join(map(shown, value))
    if isinstance(value, str | bool):
        return str(value)
    if name.endswith("bytes"):
        return f"{value / 2**20:,.1f} MiB"
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"


def plain(text: Any) -> Text:
    """Text without markup and control characters."""
    return text if isinstance(text, Text) else Text(clean(str(text or "")))


def show(parts: Iterable[RenderableType], stream: IO[str] | None = None) -> None:
    """Print tables and lines, by default to stdout."""
    out = console(stream or sys.stdout)
    for part in parts:
        out.print(clean(part) if isinstance(part, str) else part, soft_wrap=isinstance(part, str), markup=False)


def console(stream: IO[str]) -> Console:
    """A console for stdout or stderr, with colours only on a terminal (and not with NO_COLOR), without markup.

    Its width is COLUMNS if set, else that of the terminal; a file or pipe has unlimited width.
    """
    width = None if stream.isatty() or "COLUMNS" in os.environ else UNBOUNDED
    return Console(file=stream, highlight=False, soft_wrap=False, width=width, emoji=False)


def progress_bar(quiet: bool) -> Progress:
    """A bar on stderr with elapsed and remaining time; only shown on a terminal, and not if quiet."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console(sys.stderr),
        disable=quiet or not sys.stderr.isatty(),
        transient=True,
        expand=True,
    )


class Preparation:
    """Progress of data preparation; call it with a description, the amount done, and the total."""

    def __init__(self, bar: Progress):
        self.bar = bar
        self.tasks: dict[str, TaskID] = {}  # by description

    def __call__(self, what: str, done: int, total: int) -> None:
        """Samples, or bytes of a file that is downloaded."""
        scale, unit = (1, "") if what in COUNTED else (1 << 20, "MiB")
        if what not in self.tasks:
            self.tasks[what] = self.bar.add_task(what, note=unit)
        self.bar.update(self.tasks[what], completed=done // scale, total=total // scale, visible=done < total)


@contextmanager
def preparing(quiet: bool) -> Iterator[Preparation]:
    """A progress callback for data preparation."""
    with progress_bar(quiet) as bar:
        yield Preparation(bar)
