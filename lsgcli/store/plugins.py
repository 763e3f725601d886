"""Python files that ``--plugin`` names: runs remember them, and a file is only executed if a command on this machine has named it."""

import contextlib
import hashlib
from pathlib import Path

from lsgcli import registry
from lsgcli.errors import ConfigError, LsgError, log
from lsgcli.store import rundir
from lsgcli.system import files


def named(file: Path) -> None:
    """Import a file that the command line names, and remember on this machine that it did.

    Raises:
        ConfigError: it cannot be imported.
    """
    registry.import_file(file)
    mark = _mark(file)
    with contextlib.suppress(LsgError, OSError):  # without it, the file must be named again
        files.make_private(mark.parent)
        mark.touch()


def of_run(run: Path, facts: rundir.Facts | None = None) -> None:
    """Import the files that a run was trained with, unless the command line has named files of their names.

    Args:
        run: its directory.
        facts: the content of its ``config.json``, read unless given.

    Raises:
        ConfigError: one is gone, cannot be imported, or has not been named on this machine: the run may be of somebody else.
    """
    imported = {Path(file).name for file in registry.files}
    for place, digest in ((facts or rundir.read_facts(run)).get("plugins") or {}).items():
        file = Path(place)
        if file.name in imported:
            continue
        what = f"{run}: was trained with --plugin {place}"
        if not file.is_file():
            raise ConfigError(f"{what}: found no such file", f"Add --plugin and its current place: --plugin .../{file.name}")
        if not _is_known(file):
            hint = f"It is executed only if you name it. If you trust it, add --plugin {file}"
            raise ConfigError(f"{what}, which no command on this machine has named", hint)
        registry.import_file(file)
        if registry.files[str(file)] != digest:
            log.warning("%s: differs from the file that %s was trained with", file, run)


def _mark(file: Path) -> Path:
    """The file whose existence says that a command has named ``file``."""
    place = str(file.absolute()).encode(errors="surrogateescape")
    return files.user_cache() / "plugins" / hashlib.sha256(place).hexdigest()


def _is_known(file: Path) -> bool:
    mark = _mark(file)
    if not mark.is_file():
        return False
    files.make_private(mark.parent)  # nobody else could have put it there
    return True
