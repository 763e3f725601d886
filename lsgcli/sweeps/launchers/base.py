"""Launchers, which run the jobs of an ablation or a search: one file each.

A launcher is a subclass of :class:`Launcher`, registered by name. It submits jobs, looks at them, and cancels them. The state of
a job is read from files, see :mod:`lsgcli.sweeps.jobs`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lsgcli import registry
from lsgcli.errors import ConfigError, refuse, require
from lsgcli.sweeps.jobs import Job

Ids = Mapping[str, str]  # name of a job -> the launcher's identifier
CANCELLED = "cancelled"  # what a launcher says of a job that was cancelled with the scheduler's own command
Convert = Callable[[str], Any]  # raises a ValueError that states the expected form


class Launcher(ABC):
    """A way to run jobs.

    Attributes:
        extra: name of the extra in ``pyproject.toml`` that it requires, if any.
        packages: import names of the packages in the extra.
        options: function that converts the text of an option, by name of the option.
        pause: seconds between calls of :meth:`look`.
        lasting: whether its jobs outlive the command.
        slots: number of jobs that a search runs at a time; its further settings depend on their results.
    """

    extra = ""
    packages: tuple[str, ...] = ()
    options: Mapping[str, Convert] = {}
    pause = 0.5
    lasting: bool = True
    slots: int = 8

    def __init__(self, folder: Path, options: Mapping[str, Any]):
        """
        Args:
            folder: folder of the files of the jobs.
            options: converted values of the options.
        """
        self.folder = folder
        self.given = options

    @abstractmethod
    def submit(self, jobs: Sequence[Job]) -> Ids:
        """Submit jobs, or the first of them if there is no room for all; returns the identifiers of the submitted jobs.

        A job makes an :class:`~lsgcli.sweeps.jobs.Attempt`, and may be repeated by the launcher itself.

        Raises:
            ConfigError: an option is refused.
        """

    @abstractmethod
    def look(self, ids: Ids) -> Mapping[str, str]:
        """The jobs that are queued or running, by name; all of them if the scheduler does not answer.

        The value is the scheduler's reason why a job is still queued, or empty; or ``CANCELLED``.
        """

    @abstractmethod
    def cancel(self, ids: Ids) -> None:
        """Cancel jobs that are alive; those that are running save their state."""


def make(name: str, text: str, folder: Path) -> Launcher:
    """The launcher ``name`` with options such as ``partition=gpu,time=4:00:00``.

    Raises:
        ConfigError: an option is unknown or invalid, or a required package is not installed.
    """
    kind: type[Launcher] = registry.get("launcher", name)
    options = _parse(name, text, kind.options)
    require(kind.packages, f"--launcher {name}", kind.extra)
    return kind(folder, options)


def _parse(name: str, text: str, known: Mapping[str, Convert]) -> dict[str, Any]:
    """The values of ``KEY=VALUE,KEY=VALUE``; a part without ``=`` continues the value before it, as in ``nodelist=a,b``."""
    texts = {}
    for part in text.split(",") if text else []:
        key, equals, value = part.partition("=")
        if equals:
            texts[key.strip().replace("-", "_")] = value
        elif texts:
            texts[list(texts)[-1]] += f",{part}"
        else:
            raise ConfigError(f"--{name}: found {text!r}, expected KEY=VALUE,KEY=VALUE,...")
    options, problems = {}, []
    for key, value in texts.items():
        if key not in known:
            problems.append(f"--{name}: {registry.unknown('option', key, sorted(known))}")
            continue
        try:
            options[key] = known[key](value)
        except ValueError as error:
            problems.append(f"--{name} {key}: found {value!r}, expected {error}")
    refuse(problems)
    return options


def text(value: str) -> str:
    """A text; raises a ValueError if it is empty."""
    if not value:
        raise ValueError("a value")
    return value


def whole(value: str) -> int:
    """A whole number; raises a ValueError if it is below 1 or not a number."""
    if not value.isdecimal() or not 0 < int(value) < 1 << 31:
        raise ValueError("a whole number, at least 1")
    return int(value)
