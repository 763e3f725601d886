"""Control groups of the process, which limit its CPUs and its memory. Imports nothing heavy."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class ControlGroup(NamedTuple):
    """A control group: its folder, and whether it is of version 1."""

    folder: Path
    first: bool

    def read(self, file: str) -> str:
        """The text of one of its files; empty if there is none."""
        try:
            return (self.folder / file).read_text().strip()
        except OSError:
            return ""


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[ControlGroup]:
    """The groups of the process, of versions 1 and 2, and their parent groups.

    Args:
        controller: ``cpu`` or ``memory``.
        root: folder that contains ``proc`` and ``sys``.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        folder = root / "sys/fs/cgroup" / (controller if controllers else "")
        # In a container, its own group may appear as the root; groups that do not exist set no limit.
        names = [name for name in path.split("/") if name not in ("", "..")]
        yield from (ControlGroup(folder.joinpath(*names[:depth]), bool(controllers)) for depth in range(len(names) + 1))
