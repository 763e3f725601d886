"""Display of cells while launchers run them."""

import sys
from collections.abc import Callable

from lsgcli.report.terminal import console
from lsgcli.sweeps.jobs import name_of
from lsgcli.sweeps.plan import Cell
from lsgcli.sweeps.schedule import States
from lsgcli.system.text import clean


def display(quiet: bool) -> Callable[[States], None]:
    """A function that prints a line on stderr for each cell whose state has changed; nothing if ``quiet``."""
    out, shown = console(sys.stderr), dict[Cell, str]()
    out.quiet = quiet

    def print_changes(states: States) -> None:
        for cell, state in states.items():
            if state.text != shown.get(cell, "not started"):
                out.print(clean(f"{name_of(cell.path)}: {state.text}"), soft_wrap=True, markup=False)
            shown[cell] = state.text

    return print_changes
