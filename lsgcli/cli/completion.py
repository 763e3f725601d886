"""Shell completion of option values and arguments. Imports no torch.

typer keeps the candidates that begin with the incomplete word. Without candidates, or for an option without a completer, the shell completes file names.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from lsgcli import registry

Completer = Callable[..., list[str]]


def of(values: Iterable[str]) -> Completer:
    """Completer for a fixed list of values."""
    return lambda: list(values)


def names_of(kind: str) -> Completer:
    """Completer for the names of a kind, see :mod:`lsgcli.registry`; of ``tonic:NAME``, the part before the name."""
    return lambda: [name.removesuffix(registry.NAME) for name in registry.names(kind)]


def several_of(kind: str) -> Completer:
    """Completer for the last name of a comma-separated list; names already in the list are excluded."""

    def complete(incomplete: str) -> list[str]:
        before, comma, _ = incomplete.rpartition(",")
        names = [name for name in registry.names(kind) if name not in before.split(",")]
        return [before + comma + name for name in (names if comma else ["none", *names])]

    return complete


def runs() -> list[str]:
    """Run directories below ``runs/``, newest first."""
    return list(map(str, _runs()))


def checkpoints() -> list[str]:
    """The best checkpoint of each run below ``runs/``, or else its last, newest run first."""
    from lsgcli.store.rundir import BEST, LAST

    files = (next(filter(Path.exists, (run / BEST, run / LAST)), None) for run in _runs())
    return [str(file) for file in files if file]


def _runs() -> list[Path]:
    from lsgcli.config.run import CONFIG
    from lsgcli.store.rundir import RUNS
    from lsgcli.system.files import walk

    folders = [folder for folder, _, names in walk(RUNS) if CONFIG in names]
    return sorted(folders, key=lambda run: (run / CONFIG).stat().st_mtime, reverse=True)
