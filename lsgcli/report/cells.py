"""Display of cells while launchers run them."""

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.text import Text

from lsgcli.report.terminal import Table, console
from lsgcli.sweeps.jobs import CellState, name_of
from lsgcli.sweeps.plan import Cell
from lsgcli.system.text import clean


class CellsDisplay(AbstractContextManager["CellsDisplay"]):
    """States of the cells on stderr: a live table of labels and seeds on a terminal, otherwise a line for each change.

    Args:
        quiet: whether to display nothing.
    """

    def __init__(self, quiet: bool):
        self.shown: dict[Cell, str] = {}
        self.out = console(sys.stderr)
        self.out.quiet = quiet
        self.live = Live(console=self.out, auto_refresh=False) if self.out.is_terminal and not quiet else None

    def __enter__(self) -> "CellsDisplay":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    def __call__(self, states: Mapping[Cell, CellState]) -> None:
        """Show the states."""
        if self.live:
            self.live.update(self._table(states), refresh=True)
            return
        for cell, state in states.items():
            if state.text != self.shown.get(cell, "not started"):
                self.out.print(clean(f"{name_of(cell.path)}: {state.text}"), soft_wrap=True, markup=False)
            self.shown[cell] = state.text

    def _table(self, states: Mapping[Cell, CellState]) -> Group:
        by_place = {(cell.label, f"seed {cell.config.seed}"): state for cell, state in states.items()}
        rows, columns = (dict.fromkeys(names) for names in zip(*by_place, strict=True)) if by_place else ({}, {})
        table = Table("", *columns, box=None)
        for row in rows:
            table.add_row(row, *(_short(by_place[row, column]) for column in columns))
        failures = [
            Text(clean(f"{name_of(cell.path)}: {state.text}")) for cell, state in states.items() if state.kind == "failed"
        ]
        return Group(table, *failures)


def _short(state: CellState) -> str:
    accuracy = "" if state.accuracy is None else f"{state.accuracy:.4f}"
    if state.kind == "done":
        return accuracy or "diverged"
    if state.kind == "stopped":
        return state.text
    return f"{state.epochs}/{state.of} {accuracy}".strip() if state.kind == "running" and state.of else state.kind
