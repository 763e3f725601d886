"""Conversion of errors to messages and exit statuses, the only place where the program exits on an error."""

import contextlib
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lsgcli.errors import CLOSED_PIPE, INTERRUPTED, ConfigError, LsgError, OutOfMemoryError, StorageError
from lsgcli.memory import is_out_of_memory
from lsgcli.output import clean
from lsgcli.ranks import here


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command so that an expected error prints a message to stderr and exits with the status of its kind."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        with ending():
            command(*args, **kwargs)
            sys.stdout.flush()

    return wrapper


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Exit the program if the block raises, with a message and the exit status of the error's kind."""
    try:
        yield
    except LsgError as error:
        fail(error)
    except BrokenPipeError:  # the reader closed the pipe, as in `lsg ... | head -1`
        _abandon_stdout()
        raise SystemExit(CLOSED_PIPE) from None
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # a library exited because of it, with another status
            _abandon_stdout()
            raise SystemExit(CLOSED_PIPE) from None
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        expected = _expected(error)
        if expected is None:
            print(clean(traceback.format_exc()), file=sys.stderr, end="")
            print("lsg: unexpected error; please report it with the lines above", file=sys.stderr)
            raise SystemExit(1) from None
        fail(expected)


def reopen_streams() -> None:
    """Redirect a closed stdout or stderr (``lsg ... >&-``) to /dev/null; otherwise the next file opened would take its descriptor.

    Paths are printed as their original bytes, independent of the encoding.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (open until the program exits)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")


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
                hint="Check whether a shell variable is unset.",
            )


def fail(error: LsgError) -> None:
    """Print an expected error and exit with its status."""
    if error.rank is None and here().rank > 0 and isinstance(error, ConfigError):
        raise SystemExit(error.exit_code)  # rank 0 has the same command line and prints the same message
    print(f"error: {f'rank {error.rank}: ' if error.rank else ''}{clean(str(error))}", file=sys.stderr)
    raise SystemExit(error.exit_code) from None


def _abandon_stdout() -> None:
    """Keep Python from flushing stdout at exit, which would fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _expected(error: Exception) -> LsgError | None:
    if is_out_of_memory(error):
        first = str(error).splitlines()[0] if str(error) else "an allocation failed"
        return OutOfMemoryError(
            f"not enough memory: {first}",
            hint="Try a smaller --batch-size, fewer timesteps (-T), a smaller --width-multiplier, or --precision bf16. In training, "
            "--checkpoint-activations layers reduces memory with the same result, and --accumulate 2 splits each batch into parts.",
        )
    if isinstance(error, OSError) and error.filename is not None:
        return StorageError(
            f"{error.filename}: {error.strerror}", hint="Check that it exists, its permissions, and the free disk space."
        )
    if isinstance(error, OSError) and error.strerror:
        _abandon_stdout()
        return StorageError(f"cannot write output: {error.strerror}")
    return None
