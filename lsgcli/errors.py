"""Expected errors, and the exit status of each kind.

Library code raises these; only the command line turns them into a message and an exit status. A message names the
thing and says what was found and what was expected; ``hint`` says what to do about it.
"""


class LsgError(Exception):
    """Base of every expected error.

    Attributes:
        exit_code: status that a command ends with.
        meaning: of this status, for help and documentation.
    """

    exit_code = 1
    meaning = "unexpected error"

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class ConfigError(LsgError):
    """A setting, or a set of settings, that cannot be used."""

    exit_code = 2
    meaning = "usage or configuration"


class DataError(LsgError):
    """Data that are missing, damaged or not what the settings say."""

    exit_code = 3
    meaning = "data missing, damaged, or not as described"


class MissingPart(DataError):
    """One part of a data set is not there; the other may be.

    Attributes:
        part: ``train`` or ``test``.
    """

    def __init__(self, message: str, *, part: str = "", hint: str | None = None):
        super().__init__(message, hint=hint)
        self.part = part


class CheckpointError(LsgError):
    """A file that is not a whole checkpoint of ours."""

    exit_code = 4
    meaning = "checkpoint missing, damaged, or not of lsg"


class DivergedError(LsgError):
    """The loss or a gradient became NaN or infinite."""

    exit_code = 5
    meaning = "diverged: loss or gradient became NaN or infinite"


class RunInUseError(LsgError):
    """A run directory that belongs to another run."""

    exit_code = 6
    meaning = "run directory in use, or it holds a run already"


class StorageError(LsgError):
    """A file or folder that cannot be written."""

    exit_code = 7
    meaning = "storage: a file or folder cannot be written"


class OutOfMemoryError(LsgError):
    """Neither host nor device memory was enough."""

    exit_code = 8
    meaning = "out of memory"


class GateError(LsgError):
    """A check that was asked for (``--verify``, ``--fail-on``) did not hold."""

    exit_code = 9
    meaning = "a gate (`--fail-on`, `--verify`) did not hold"


class Stopped(LsgError):
    """A signal ended the run after its state was saved; it can be resumed."""

    exit_code = 75
    meaning = "stopped by SIGTERM, SIGINT, SIGHUP or SIGUSR1; saved, can be resumed"


INTERRUPTED, CLOSED_PIPE = 130, 141  # as a shell reports a program that SIGINT or SIGPIPE ended


def exit_statuses() -> dict[int, str]:
    """Every exit status of the program, and what it means."""
    others = {
        0: "done",
        INTERRUPTED: "interrupted (Ctrl-C) outside of training, where there is nothing to save",
        CLOSED_PIPE: "the reader of stdout closed it (a closed pipe)",
    }
    kinds: list[type[LsgError]] = [LsgError, *LsgError.__subclasses__()]
    return dict(sorted({**others, **{kind.exit_code: kind.meaning for kind in kinds}}.items()))
