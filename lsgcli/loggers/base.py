"""Base class of loggers, which copy the epochs of a run to other programs: ``--log csv,tensorboard,...``."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from lsgcli.runs.report import Epoch, LoggedRun


class Logger(ABC):
    """A log of one run, opened or continued by its constructor. Any method may raise any exception.

    Attributes:
        extra: the extra in ``pyproject.toml`` that it requires, if any.
        packages: import names of the packages in the extra.
        logged: number of epochs already in the log; a resumed run skips them. 0 if each process starts a new log.
    """

    extra = ""
    packages: tuple[str, ...] = ()
    logged: int = 0

    def __init__(self, source: LoggedRun):
        self.source = source

    @abstractmethod
    def epoch(self, epoch: Epoch) -> None:
        """Add the next epoch, so that it survives the end of the process."""

    def end(self, results: Epoch, files: Sequence[Path]) -> None:
        """Add the accuracies of a finished run, at its last epoch, its report and its checkpoint. The same may be added again."""
        return

    def close(self, state: str) -> None:
        """Close the log; ``state`` of the run is ``finished``, ``stopped`` or ``failed``."""
        return
