"""Memory of the process: how the allocator treats large buffers, and what a failed allocation looks like."""

import errno
import resource
import sys

from lsgcli.errors import OutOfMemoryError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
KEEP = 1 << 30  # bytes
LIBRARIES = 1280 << 20  # bytes of address space that torch, scipy and numba are mapped to, a CPU build with two threads
# What libraries say where they cannot have memory: torch, the dynamic linker, libc, Python, C++.
SIGNS = ("can't allocate memory", "failed to map segment", "Cannot allocate memory", "can't start new thread", "bad_alloc")


def check_address_space() -> None:
    """Check that the libraries fit below ``ulimit -v``. Some do not fail where they do not fit: OpenBLAS tries for ever.

    Raises:
        OutOfMemoryError: they do not.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit not in (resource.RLIM_INFINITY, -1) and limit < LIBRARIES:
        raise OutOfMemoryError(
            f"not enough memory: found a limit of {limit >> 10:,} KiB of address space (ulimit -v), expected at least "
            f"{LIBRARIES >> 10:,} KiB, which the libraries take alone",
            hint="Raise it; a limit by control groups counts the memory that is used, not addresses.",
        )


def keep_large_buffers() -> bool:
    """Ask glibc not to give freed activations back to the kernel between steps; True where it could be asked.

    Otherwise every step maps and clears its activations anew, which took a third of a VGGSNN step's time on two cores.
    """
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEEP) and mallopt(M_TRIM_THRESHOLD, KEEP))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, or one that it comes from, says that host or device memory was not enough."""
    torch = sys.modules.get("torch")  # whoever never loaded it cannot have one of its errors
    kinds = (MemoryError, getattr(torch, "OutOfMemoryError", MemoryError))
    one: BaseException | None = error
    while one is not None:
        text = str(one)
        if isinstance(one, kinds) or getattr(one, "errno", None) == errno.ENOMEM or any(sign in text for sign in SIGNS):
            return True
        one = one.__cause__ or one.__context__
    return False
