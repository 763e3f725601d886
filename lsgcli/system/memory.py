"""Memory of the process: allocator settings for large buffers, and detection of failed allocations."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable
from typing import TypeVar

from lsgcli.errors import OutOfMemoryError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

T = TypeVar("T")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
KEEP = 1 << 30  # bytes
NO_GLIBC = (OSError, AttributeError, TypeError)  # of ctypes, with another C library
LIBRARIES = 1280 << 20  # bytes of address space of torch, scipy and numba, for a CPU build with two threads
# Error messages of failed allocations in torch, the dynamic linker, libc, Python and C++.
SIGNS = (
    "can't allocate memory",
    "failed to map segment",
    "Cannot allocate memory",
    "can't start new thread",
    "bad_alloc",
    "could not create a primitive",  # oneDNN, which found no memory for its code
)


def check_address_space() -> None:
    """Check that the limit of ``ulimit -v`` is large enough to load the libraries; otherwise OpenBLAS may retry forever.

    Raises:
        OutOfMemoryError: the limit is too low.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0] if resource else -1
    if 0 <= limit < LIBRARIES:  # no limit is -1
        raise OutOfMemoryError(
            f"not enough memory: found a limit of {limit >> 10:,} KiB of address space (ulimit -v), expected at least "
            f"{LIBRARIES >> 10:,} KiB for the libraries alone",
            "Raise the limit, or use a control group, which limits used memory rather than address space.",
        )


def total_bytes() -> int:
    """Memory of the machine, or the limit of ``ulimit -v`` if that is lower, in bytes."""
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        physical = sys.maxsize
    limit = resource.getrlimit(resource.RLIMIT_AS)[0] if resource else -1
    return physical if limit < 0 else min(physical, limit)


def peak_bytes() -> int:
    """Peak memory of the process in bytes; 0 if the system does not report it."""
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_large_buffers() -> None:
    """Configure glibc to keep freed activations between steps instead of returning them to the kernel.

    Otherwise the kernel maps and clears the activations in each step, which took a third of a VGGSNN step's time on two cores.
    """
    import ctypes

    with contextlib.suppress(*NO_GLIBC):
        mallopt = ctypes.CDLL(None).mallopt
        if not mallopt(M_MMAP_THRESHOLD, KEEP):
            mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the most that older glibc accepts
        mallopt(M_TRIM_THRESHOLD, KEEP)


def release_unused() -> None:
    """Return free memory of the heap to the system, where the C library is glibc.

    Call it once, after the first step, which leaves holes in the heap that later steps may not use. Pages that they do use are mapped again.
    """
    import ctypes

    with contextlib.suppress(*NO_GLIBC):
        ctypes.CDLL(None).malloc_trim(0)


def if_it_fits(compute: Callable[[], T]) -> T | None:
    """The result of ``compute``; None if there is not enough memory for it."""
    try:
        return compute()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or one of its causes, reports insufficient host or device memory."""
    torch = sys.modules.get("torch")  # if it is not loaded, it cannot have raised the error
    kinds = (MemoryError, getattr(torch, "OutOfMemoryError", MemoryError))
    cause: BaseException | None = error
    while cause is not None:
        if (
            isinstance(cause, kinds)
            or getattr(cause, "errno", None) == errno.ENOMEM
            or any(sign in str(cause) for sign in SIGNS)
        ):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
