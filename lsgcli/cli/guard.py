"""From errors to messages and exit statuses: the only place where the program ends itself."""

import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from lsgcli.errors import CLOSED_PIPE, INTERRUPTED, LsgError, OutOfMemoryError, StorageError


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Run a command; a foreseen error becomes one message on stderr and the exit status of its kind."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except LsgError as error:
            fail(error)
        except BrokenPipeError:
            # Nobody reads on, as in `lsg ... | head -1`. Python must not try to flush stdout once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(CLOSED_PIPE) from None
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        except Exception as error:
            foreseen = _foreseen(error)
            if foreseen is None:
                traceback.print_exc()
                print("lsg: this error was not foreseen; please report it with the lines above", file=sys.stderr)
                raise SystemExit(1) from None
            fail(foreseen)

    return wrapper


def reopen_streams() -> None:
    """Let what goes to a closed stdout or stderr (``lsg ... >&-``) go nowhere, rather than into the next file that is opened."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (open as long as the program)


def fail(error: LsgError) -> None:
    """Print a foreseen error and end with its exit status."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(error.exit_code) from None


def _foreseen(error: Exception) -> LsgError | None:
    if isinstance(error, OSError) and error.filename is not None:
        return StorageError(
            f"{error.filename}: {error.strerror}", hint="Check that it exists, and the permissions and room of its disk."
        )
    if isinstance(error, OSError) and error.strerror:
        return StorageError(error.strerror)
    if isinstance(error, MemoryError) or "torch" in sys.modules:
        from lsgcli.memory import is_out_of_memory

        if is_out_of_memory(error):
            return OutOfMemoryError(
                f"not enough memory: {str(error).splitlines()[0] if str(error) else 'an allocation failed'}",
                hint="Try a smaller --batch-size, fewer timesteps (-T), a smaller --width-multiplier, or --precision bf16. In training, "
                "--checkpoint-activations layers takes less memory for the same result, and --accumulate 2 computes a batch in parts.",
            )
    return None
