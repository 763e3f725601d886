"""Display of the cells of an ablation while launchers run them."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.text import Text

from lsgcli.report.terminal import Table, console
from lsgcli.sweeps.jobs import State, name_of
from lsgcli.sweeps.plan import Cell
from lsgcli.system.text import clean


class CellsDisplay(AbstractContextManager["CellsDisplay"]):
    """States of the cells on stderr: a live table of variants and seeds on a terminal, otherwise a line for each change.

    Args:
        cells: in the order in which :meth:`__call__` gets their states.
        quiet: whether to display nothing.
    """

    def __init__(self, cells: Sequence[Cell], quiet: bool):
        self.places = {name_of(cell.path): (cell.path.parent.name, cell.config.seed) for cell in cells}
        self.shown: dict[str, str] = {}
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

    def __call__(self, states: Mapping[str, State]) -> None:
        """Show the states, by name of the job."""
        texts = {name: state.text for name, state in states.items()}
        if self.live:
            self.live.update(self._table(states), refresh=True)
            return
        for name, text in texts.items():
            if text != self.shown.get(name, "not started"):
                self.out.print(clean(f"{name}: {text}"), soft_wrap=True, markup=False)
        self.shown = texts

    def _table(self, states: Mapping[str, State]) -> Group:
        variants = dict.fromkeys(variant for variant, _ in self.places.values())
        seeds = dict.fromkeys(seed for _, seed in self.places.values())
        by_place = {place: states[name] for name, place in self.places.items()}
        table = Table("", *(f"seed {seed}" for seed in seeds), box=None)
        for variant in variants:
            table.add_row(variant, *(_short(by_place[variant, seed]) for seed in seeds))
        failures = [Text(clean(f"{name}: {state.text}")) for name, state in states.items() if state.kind == "failed"]
        return Group(table, *failures)


def _short(state: State) -> str:
    accuracy = "" if state.accuracy is None else f"{state.accuracy:.4f}"
    if state.kind == "done":
        return accuracy or "diverged"
    if state.kind == "stopped":
        return state.text
    return f"{state.epochs}/{state.of} {accuracy}".strip() if state.kind == "running" and state.of else state.kind
