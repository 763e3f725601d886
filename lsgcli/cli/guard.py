"""From errors to messages and exit statuses: the only place where the program ends itself."""

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


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Run a command; a foreseen error becomes one message on stderr and the exit status of its kind."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        with ending():
            command(*args, **kwargs)
            sys.stdout.flush()

    return wrapper


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """End the program where the block raises: with a message, and the exit status of the error's kind."""
    try:
        yield
    except LsgError as error:
        fail(error)
    except BrokenPipeError:  # nobody reads on, as in `lsg ... | head -1`
        _abandon_stdout()
        raise SystemExit(CLOSED_PIPE) from None
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # a library ended the program for it, with another status
            _abandon_stdout()
            raise SystemExit(CLOSED_PIPE) from None
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        foreseen = _foreseen(error)
        if foreseen is None:
            print(clean(traceback.format_exc()), file=sys.stderr, end="")
            print("lsg: unexpected error; please report it with the lines above", file=sys.stderr)
            raise SystemExit(1) from None
        fail(foreseen)


def reopen_streams() -> None:
    """Let what goes to a closed stdout or stderr (``lsg ... >&-``) go nowhere, rather than into the next file that is opened.

    Paths are printed in the bytes that they have, whatever the encoding.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (open as long as the program)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")


def refuse_empty(words: Sequence[str]) -> None:
    """Refuse an empty word of the command line, which a variable that is not set leaves behind: a path would be the current folder.

    Raises:
        ConfigError: there is one.
    """
    for before, word in zip(["", *words], words, strict=False):
        name = before if before.startswith("-") and "=" not in before else "argument"
        if word == "" or (word.startswith("--") and word.endswith("=")):
            raise ConfigError(
                f"{word.rstrip('=') or name}: found an empty text, expected a value",
                hint="Is a variable of the shell not set?",
            )


def fail(error: LsgError) -> None:
    """Print a foreseen error and end with its exit status."""
    print(f"error: {clean(str(error))}", file=sys.stderr)
    raise SystemExit(error.exit_code) from None


def _abandon_stdout() -> None:
    """Keep Python from flushing what stdout still holds at the end of the program, where it would fail once more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _foreseen(error: Exception) -> LsgError | None:
    if is_out_of_memory(error):
        first = str(error).splitlines()[0] if str(error) else "an allocation failed"
        return OutOfMemoryError(
            f"not enough memory: {first}",
            hint="Try a smaller --batch-size, fewer timesteps (-T), a smaller --width-multiplier, or --precision bf16. In training, "
            "--checkpoint-activations layers takes less memory for the same result, and --accumulate 2 computes a batch in parts.",
        )
    if isinstance(error, OSError) and error.filename is not None:
        return StorageError(
            f"{error.filename}: {error.strerror}", hint="Check that it exists, and the permissions and room of its disk."
        )
    if isinstance(error, OSError) and error.strerror:
        _abandon_stdout()
        return StorageError(f"an output cannot be written: {error.strerror}")
    return None
