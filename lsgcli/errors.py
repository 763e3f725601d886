"""Expected errors, the exit status of each kind, and text from outside that is safe to show.

Library code raises these errors; the command line converts them to a message and an exit status. A message states what was found and
what was expected; ``hint`` suggests a solution. Hints name command-line options; ``str`` of an error replaces them by arguments of Python.
"""

import importlib.util
import logging
import re
from collections.abc import Iterable, Sequence

DISTRIBUTION = "lsgcli"  # on the package index, where ``lsg`` is an unrelated project
INTERRUPTED, CLOSED_PIPE = 130, 141  # statuses that a shell reports for SIGINT and SIGPIPE

_meanings = {
    0: "success",
    1: "unexpected error",
    INTERRUPTED: "interrupted (Ctrl-C) outside training",
    CLOSED_PIPE: "stdout was closed by its reader (broken pipe)",
}


def redacted(text: str) -> str:
    """``text`` with ``***`` in place of users, passwords and queries of addresses, which may be secret. Errors and messages of lsg are."""
    text = re.sub(r"://[^\s/'\"]*@", "://***@", text)
    # Bounded, because a text of many addresses would take quadratic time.
    return re.sub(r"(://[^\s?'\"]{1,2000}\?|\?(?=[\w.%~-]+=))[^\s'\"#]*[^\s'\"#.,:;)]", r"\1***", text)


# Control and bidirectional formatting characters, line separators, and surrogates. TEXT keeps line breaks and tabs.
CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
TEXT = re.compile(f"[{CONTROL}]")
COLUMN = re.compile(rf"[\t\n\\{CONTROL}]")


def clean(text: str, *, column: bool = False) -> str:
    r"""``text`` with control characters escaped, such as \x1b for ESC; bytes that are not UTF-8 become \x80 to \xff.

    Args:
        column: also escape line breaks, tabs and backslashes, so that any text fits into one tab-separated column.
    """
    return (COLUMN if column else TEXT).sub(lambda match: _escaped(match[0]), text)


def _escaped(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte that os.fsdecode could not decode
        return f"\\x{ord(char) - 0xDC00:02x}"
    return f"\\u{ord(char):04x}" if char >= "\x80" else char.encode("unicode_escape").decode()


def _redact(record: logging.LogRecord) -> bool:
    record.msg = redacted(record.getMessage())
    record.args = ()
    return True


log = logging.getLogger("lsg")
log.addFilter(_redact)


def counted(number: int, what: str) -> str:
    """``1 file``, ``2,000 files``."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def some(names: Sequence[str], most: int = 12) -> str:
    """``a, b, ...``: the first names of a list."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


class LsgError(Exception):
    """Base class of expected errors. A subclass declares its exit status and its meaning."""

    exit_code = 1

    def __init_subclass__(cls, status: int | None = None, meaning: str = "") -> None:
        if status is not None:
            cls.exit_code = status
            _meanings[status] = meaning

    def __init__(self, message: str, hint: str | None = None, *, in_python: str | None = None):
        """
        Args:
            message: what was found, and what was expected.
            hint: what to do, with options as on the command line.
            in_python: what to do in Python. Default: ``hint`` with its options replaced by arguments.
        """
        super().__init__(redacted(message))
        self.message = redacted(message)
        self.hint = hint and redacted(hint)
        self.in_python = in_python
        self.rank: int | None = None  # of the process that raised it, in distributed training

    def __str__(self) -> str:
        hint = self.in_python or (self.hint and _with_arguments(self.hint))
        return f"{self.message}\n  {hint}" if hint else self.message

    @property
    def on_command_line(self) -> str:
        """The message and the hint with options."""
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


def _with_arguments(hint: str) -> str:
    """A hint whose options are replaced by arguments: ``data_dir`` for ``--data-dir``, ``fold_bn=False`` for ``--no-fold-bn``; not in commands."""

    def argument(match: re.Match[str]) -> str:
        if match["command"]:
            return match[0]
        name = match["name"].replace("-", "_")
        return f"{name}=False" if match["no"] else name

    return re.sub(r"(?P<command>`.*?`|\blsg [a-z]+ -.*)|(?<![\w-])--?(?P<no>no-)?(?P<name>[a-zA-Z][\w-]*)", argument, hint)


class ConfigError(LsgError, status=2, meaning="usage or configuration"):
    """An invalid setting or combination of settings."""


def refuse(problems: Iterable[str], hint: str | None = None) -> None:
    """Raise a ConfigError with a line for each problem, if there are any."""
    if lines := "\n".join(problems):
        raise ConfigError(lines, hint)


class DataError(LsgError, status=3, meaning="data missing, damaged, or inconsistent with the settings"):
    """Data that are missing, damaged, or inconsistent with the settings."""


class MissingData(DataError):
    """A data set that can be downloaded is not there, or its download is unfinished."""


class MissingPart(DataError):
    """A part of a data set is missing; the other part may exist.

    Attributes:
        part: the missing part, ``train`` or ``test``.
    """

    def __init__(self, message: str, *, part: str = "", hint: str | None = None):
        super().__init__(message, hint=hint)
        self.part = part


class CheckpointError(LsgError, status=4, meaning="checkpoint missing, damaged, or not written by lsg"):
    """A file that is not a valid checkpoint of lsg."""


class DivergedError(LsgError, status=5, meaning="diverged: a loss, gradient or logit is NaN or infinite"):
    """A loss, gradient or logit is NaN or infinite."""


class RunInUseError(LsgError, status=6, meaning="run directory in use, or it already contains a run"):
    """A run directory that is in use or contains another run."""


class StorageError(LsgError, status=7, meaning="a file or folder cannot be written"):
    """A file or folder that cannot be written."""


class OutOfMemoryError(LsgError, status=8, meaning="out of memory"):
    """Not enough host or device memory."""


class GateError(LsgError, status=9, meaning="a check (`--fail-on`, `--verify`, `lsg reproduce`) failed"):
    """A requested check (``--verify``, ``--fail-on``) failed."""


class Stopped(
    LsgError,
    status=75,
    meaning="stopped by SIGTERM, SIGINT, SIGHUP or SIGUSR1, `--max-time` or the end of a SLURM job; saved, can be resumed",
):
    """A signal or the end of its time stopped the run; its state is saved and it can be resumed."""


def exit_statuses() -> dict[int, str]:
    """Exit statuses of the program and their meanings."""
    return dict(sorted(_meanings.items()))


def error_of(status: int) -> type[LsgError]:
    """The error class with this exit status; :class:`LsgError` if there is none."""
    return next((kind for kind in LsgError.__subclasses__() if kind.exit_code == status), LsgError)


def require(packages: Iterable[str], what: str, extra: str) -> None:
    """Raise a ConfigError if a package that ``what`` needs is not installed; the hint is the command to install it."""
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"{what}: {', '.join(missing)} cannot be imported", install_hint(extra))


def install_hint(extra: str = "") -> str:
    """The command that installs lsg with an extra of ``pyproject.toml``, or with its required dependencies."""
    what = f"[{extra}]" if extra else ""
    return f"Install it with: pip install '{DISTRIBUTION}{what}' (in a clone of the repository: pip install '.{what}')"
