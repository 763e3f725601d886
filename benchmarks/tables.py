"""Tables of results, for terminals and as Markdown for the documentation."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

Cell = str | float | int


@dataclass
class Table:
    """A title, the columns' heads, and rows of cells; a row's first cell says what it is about.

    Numbers are written with four significant digits.
    """

    title: str
    head: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)

    def markdown(self, titled: bool = True) -> str:
        """As a table in Markdown, below its title."""
        lines = [f"**{self.title}**", ""] if titled and self.title else []
        lines += [_line(self.head), "|" + "---|" * len(self.head)]
        lines += [_line([written(cell) for cell in row]) for row in self.rows]
        return "\n".join(lines)

    def rich(self) -> RichTable:
        """For a terminal."""
        table = RichTable(title=Text(self.title) if self.title else None, title_justify="left", header_style="bold")
        for index, name in enumerate(self.head):
            table.add_column(Text(name), justify="left" if index == 0 else "right")
        for row in self.rows:
            table.add_row(*(Text(written(cell)) for cell in row))
        return table


def show(tables: Iterable[Table]) -> None:
    """Print tables to stdout."""
    console = Console()
    if not console.is_terminal:  # no line breaks in a file
        console = Console(width=160)
    for table in tables:
        console.print(table.rich())


def written(cell: Cell) -> str:
    """A cell as text."""
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else f"{float(f'{cell:.4g}'):g}"


def megabytes(count: float) -> str:
    """Bytes as whole megabytes of 1e6."""
    return f"{count / 1e6:,.0f}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
