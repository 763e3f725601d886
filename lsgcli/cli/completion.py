"""Shell completion of option values and arguments. Imports no torch.

Without candidates, or for an option without a completer, the shell completes file names.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from lsgcli import registry

Completer = Callable[[str], list[str]]


def of(values: Iterable[str]) -> Completer:
    """Completer for a fixed list of values."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def names_of(kind: str) -> Completer:
    """Completer for the names of a kind, see :mod:`lsgcli.registry`; of ``tonic:NAME``, the part before the name."""
    return lambda incomplete: of(name.removesuffix(registry.NAME) for name in registry.names(kind))(incomplete)


def several_of(kind: str) -> Completer:
    """Completer for the last name of a comma-separated list; names already in the list are excluded."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        names = [name for name in registry.names(kind) if name not in before.split(",")]
        return [before + comma + name for name in of(names if comma else ["none", *names])(last)]

    return complete


def runs(incomplete: str) -> list[str]:
    """Run directories below ``runs/``, newest first."""
    return of(map(str, _runs()))(incomplete)


def checkpoints(incomplete: str) -> list[str]:
    """The best checkpoint of each run below ``runs/``, or else its last, newest run first."""
    from lsgcli.store.rundir import BEST, LAST

    found = (next((run / name for name in (BEST, LAST) if (run / name).exists()), None) for run in _runs())
    return of(str(path) for path in found if path is not None)(incomplete)


def _runs() -> list[Path]:
    from lsgcli.config.run import CONFIG
    from lsgcli.store.rundir import RUNS

    found = [Path(folder) for folder, _, names in os.walk(RUNS) if CONFIG in names]
    return sorted(found, key=lambda run: (run / CONFIG).stat().st_mtime, reverse=True)
