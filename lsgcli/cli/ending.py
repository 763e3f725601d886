"""Conversion of errors to messages and exit statuses, the only place where the program exits on an error."""

import codecs
import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence

from lsgcli.config.run import FIELDS, option_name
from lsgcli.errors import CLOSED_PIPE, INTERRUPTED, ConfigError, LsgError, OutOfMemoryError, StorageError, clean, redacted
from lsgcli.system.memory import is_out_of_memory
from lsgcli.system.ranks import here


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Exit the program if the block, or a function decorated with it, raises: with a message and the exit status of the error."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        # The reader closed the pipe, as in `lsg ... | head -1`; or a library exited because of it, with another status.
        if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
            _abandon_stdout()
            raise SystemExit(CLOSED_PIPE) from None
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        expected = _expected(error)
        if expected is None:
            print(clean(redacted(traceback.format_exc())), file=sys.stderr, end="")
            print("lsg: unexpected error; please report it with the lines above", file=sys.stderr)
            raise SystemExit(LsgError.exit_code) from None
        # Rank 0 prints a ConfigError of all processes.
        if here().rank == 0 or expected.rank is not None or not isinstance(expected, ConfigError):
            rank = f"rank {expected.rank}: " if expected.rank else ""
            print(f"error: {rank}{clean(_with_options(expected.on_command_line))}", file=sys.stderr)
        raise SystemExit(expected.exit_code) from None


def reopen_streams(words: Sequence[str]) -> None:
    """Redirect a closed stdout or stderr (``lsg ... >&-``) to /dev/null; otherwise the next file opened would take its descriptor.

    Writing to a closed stdout then fails, because the result would be lost, except that of ``lsg train``, which is in its directory.
    In UTF-8, paths are printed as their original bytes; characters that another encoding lacks are escaped.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            loses = name == "stdout" and words[:1] != ["train"]
            descriptor = os.open(os.devnull, os.O_RDONLY if loses else os.O_WRONLY)
            setattr(sys, name, open(descriptor, "w"))  # noqa: SIM115 (open until the program exits)
    if hasattr(sys.stdout, "reconfigure"):
        in_utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        sys.stdout.reconfigure(errors="surrogateescape" if in_utf8 else "backslashreplace")


def refuse_empty(words: Sequence[str]) -> None:
    """Reject empty arguments, such as from unset shell variables: as a path they would mean the current folder.

    Raises:
        ConfigError: an argument is empty.
    """
    for before, word in zip(["", *words], words, strict=False):
        name = before if before.startswith("-") and "=" not in before else "argument"
        if word == "" or (word.startswith("--") and word.endswith("=")):
            raise ConfigError(
                f"{word.rstrip('=') or name}: found an empty string, expected a value",
                "Check whether a shell variable is unset.",
            )


def _with_options(message: str) -> str:
    """The message, where settings at the start of its lines are written as options: ``--batch-size`` for ``batch_size``.

    The library names arguments; a line may start with the source of the value, ``environment`` or a file of ``--config``.
    """

    def translated(match: re.Match[str]) -> str:
        return match[1] + option_name(match[2]) if match[2] in FIELDS else match[0]

    return re.sub(r"^(|environment: |--config .*: )(\w+)(?=: (?:found|unknown) )", translated, message, flags=re.MULTILINE)


def _abandon_stdout() -> None:
    """Keep Python from flushing stdout at exit, which would fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _expected(error: Exception) -> LsgError | None:
    """The error as one with a message and an exit status; None for an unexpected one."""
    if isinstance(error, LsgError):
        return error
    if is_out_of_memory(error):
        first = str(error).splitlines()[0] if str(error) else "an allocation failed"
        return OutOfMemoryError(
            f"not enough memory: {first}",
            "Try a smaller --batch-size, fewer timesteps (-T), a smaller --width-multiplier, or --precision bf16. In training, "
            "--memory bits reduces memory with the same result, and --accumulate 2 splits each batch into parts.",
        )
    if isinstance(error, OSError) and error.filename is not None:
        return StorageError(
            f"{error.filename}: {error.strerror}", "Check that it exists, its permissions, and the free disk space."
        )
    if isinstance(error, FileNotFoundError):
        return StorageError("the working directory was deleted", "Change to another one: cd ..")
    if isinstance(error, OSError) and error.strerror:
        _abandon_stdout()
        return StorageError(f"cannot write output: {error.strerror}")
    return _of_environment(error)


def _of_environment(error: Exception) -> ConfigError | None:
    """The error of a library that failed while it was imported, if environment variables for it are set; otherwise None."""
    importing = {frame.filename for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"}
    for package in ("torch", "numba"):
        given = [f"{name}={value!r:.100}" for name, value in os.environ.items() if name.startswith(f"{package.upper()}_")]
        if given and any(f"{os.sep}{package}{os.sep}" in file for file in importing):
            return ConfigError(
                f"environment: {package} cannot be imported with {', '.join(given)}: {str(error).strip().splitlines()[0]:.200}",
                "Unset the variable, or correct its value.",
            )
    return None
