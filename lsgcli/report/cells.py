"""Display of cells while launchers run them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Group
from rich.live import Live
from rich.text import Text

from lsgcli.report.terminal import Table, console
from lsgcli.sweeps.jobs import CellState, name_of
from lsgcli.sweeps.plan import Cell
from lsgcli.sweeps.schedule import States
from lsgcli.system.text import clean


@contextmanager
def display(quiet: bool) -> Iterator[Callable[[States], None]]:
    """A function that shows the states of cells on stderr: a live table of labels and seeds on a terminal, otherwise a line for each change.

    Args:
        quiet: whether to display nothing.
    """
    out, shown = console(sys.stderr), dict[Cell, str]()
    out.quiet = quiet

    def print_changes(states: States) -> None:
        for cell, state in states.items():
            if state.text != shown.get(cell, "not started"):
                out.print(clean(f"{name_of(cell.path)}: {state.text}"), soft_wrap=True, markup=False)
            shown[cell] = state.text

    if quiet or not out.is_terminal:
        yield print_changes
    else:
        with Live(console=out, auto_refresh=False) as live:
            yield lambda states: live.update(_table(states), refresh=True)


def _table(states: States) -> Group:
    by_cell = {(cell.label, f"seed {cell.config.seed}"): state for cell, state in states.items()}
    rows, columns = (dict.fromkeys(names) for names in zip(*by_cell, strict=True)) if by_cell else ({}, {})
    table = Table("", *columns, box=None)
    for row in rows:
        table.add_row(row, *(_short(by_cell[row, column]) for column in columns))
    failures = [Text(clean(f"{name_of(cell.path)}: {state.text}")) for cell, state in states.items() if state.kind == "failed"]
    return Group(table, *failures)


def _short(state: CellState) -> str:
    accuracy = "" if state.accuracy is None else f"{state.accuracy:.4f}"
    if state.kind == "done":
        return accuracy or "diverged"
    if state.kind == "stopped":
        return state.text
    return f"{state.epochs}/{state.of} {accuracy}".strip() if state.kind == "running" and state.of else state.kind
