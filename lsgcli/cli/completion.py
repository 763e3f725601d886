"""What the shell's completion offers as values of options and arguments. Nothing here imports torch.

Where nothing is offered, as for an option without such a function, the shell completes names of files.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lsgcli import registry

Completer = Callable[[str], list[str]]


def of(values: Iterable[str]) -> Completer:
    """Offers those of ``values`` that begin as what was typed."""
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


def things(kind: str) -> Completer:
    """Offers the names of a kind, see :mod:`lsgcli.registry`; of ``tonic:NAME``, what comes before the name."""
    return lambda incomplete: of(name.removesuffix(registry.NAME) for name in registry.names(kind))(incomplete)


def augmentations(incomplete: str) -> list[str]:
    """The last name of a comma-separated list, without those before it."""
    before, comma, last = incomplete.rpartition(",")
    names = [name for name in registry.names("augmentation") if name not in before.split(",")]
    return [before + comma + name for name in of(names if comma else ["none", *names])(last)]


def runs(incomplete: str) -> list[str]:
    """Directories of runs below ``runs/``, the newest first."""
    return of(map(str, _runs()))(incomplete)


def checkpoints(incomplete: str) -> list[str]:
    """The best checkpoint of each run below ``runs/``, or its last, the newest run first."""
    from lsgcli.rundir import BEST, LAST

    found = (next((run / name for name in (BEST, LAST) if (run / name).exists()), None) for run in _runs())
    return of(str(path) for path in found if path is not None)(incomplete)


def _runs() -> list[Path]:
    from lsgcli.rundir import CONFIG, RUNS

    return sorted(_below(RUNS, CONFIG), key=lambda run: (run / CONFIG).stat().st_mtime, reverse=True)


def _below(folder: Path, name: str) -> Iterator[Path]:
    for path, folders, names in os.walk(folder):
        if name in names:
            folders.clear()  # a run has none below it
            yield Path(path)
