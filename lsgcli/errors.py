"""What can go wrong in a way that is foreseen, and the exit status each kind ends with.

Library code raises these; only the command line turns them into a message and an exit status. A message names the
thing and says what was found and what was expected; ``hint`` says what to do about it.
"""


class LsgError(Exception):
    """Base of every foreseen error."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class ConfigError(LsgError):
    """A setting, or a set of settings, that cannot be used."""

    exit_code = 2


class DataError(LsgError):
    """Data that are missing, damaged or not what the settings say."""

    exit_code = 3


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


class DivergedError(LsgError):
    """The loss or a gradient became NaN or infinite."""

    exit_code = 5


class RunInUseError(LsgError):
    """A run directory that belongs to another run."""

    exit_code = 6


class StorageError(LsgError):
    """A file or folder that cannot be written."""

    exit_code = 7


class OutOfMemoryError(LsgError):
    """Neither host nor device memory was enough."""

    exit_code = 8


class GateError(LsgError):
    """A check that was asked for (``--verify``, ``--fail-on``) did not hold."""

    exit_code = 9


class Stopped(LsgError):
    """A signal ended the run after its state was saved; it can be resumed."""

    exit_code = 75
