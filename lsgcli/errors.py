"""Expected errors, and the exit status of each kind.

Library code raises these errors; the command line converts them to a message and an exit status. A message contains what was found
and what was expected; ``hint`` suggests a solution.
"""


class LsgError(Exception):
    """Base class of expected errors.

    Attributes:
        exit_code: exit status of the command.
        meaning: description of the status, for help and documentation.
    """

    exit_code = 1
    meaning = "unexpected error"

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.rank: int | None = None  # of the process, if it is one of several

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class ConfigError(LsgError):
    """An invalid setting or combination of settings."""

    exit_code = 2
    meaning = "usage or configuration"


class DataError(LsgError):
    """Data that are missing, damaged, or inconsistent with the settings."""

    exit_code = 3
    meaning = "data missing, damaged, or inconsistent with the settings"


class MissingPart(DataError):
    """A part of a data set is missing; the other part may exist.

    Attributes:
        part: the missing part, ``train`` or ``test``.
    """

    def __init__(self, message: str, *, part: str = "", hint: str | None = None):
        super().__init__(message, hint=hint)
        self.part = part


class CheckpointError(LsgError):
    """A file that is not a valid checkpoint of lsg."""

    exit_code = 4
    meaning = "checkpoint missing, damaged, or not written by lsg"


class DivergedError(LsgError):
    """The loss or a gradient became NaN or infinite."""

    exit_code = 5
    meaning = "diverged: loss or gradient became NaN or infinite"


class RunInUseError(LsgError):
    """A run directory that is in use or contains another run."""

    exit_code = 6
    meaning = "run directory in use, or it already contains a run"


class StorageError(LsgError):
    """A file or folder that cannot be written."""

    exit_code = 7
    meaning = "a file or folder cannot be written"


class OutOfMemoryError(LsgError):
    """Not enough host or device memory."""

    exit_code = 8
    meaning = "out of memory"


class GateError(LsgError):
    """A requested check (``--verify``, ``--fail-on``) failed."""

    exit_code = 9
    meaning = "a check (`--fail-on`, `--verify`) failed"


class Stopped(LsgError):
    """A signal stopped the run; its state is saved and it can be resumed."""

    exit_code = 75
    meaning = "stopped by SIGTERM, SIGINT, SIGHUP or SIGUSR1; saved, can be resumed"


INTERRUPTED, CLOSED_PIPE = 130, 141  # statuses that a shell reports for SIGINT and SIGPIPE


def exit_statuses() -> dict[int, str]:
    """Exit statuses of the program and their meanings."""
    others = {
        0: "success",
        INTERRUPTED: "interrupted (Ctrl-C) outside training",
        CLOSED_PIPE: "stdout was closed by its reader (broken pipe)",
    }
    kinds: list[type[LsgError]] = [LsgError, *LsgError.__subclasses__()]
    return dict(sorted({**others, **{kind.exit_code: kind.meaning for kind in kinds}}.items()))
