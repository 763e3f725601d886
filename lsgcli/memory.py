"""Memory of the process: how the allocator treats large buffers, and what a failed allocation looks like."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
KEEP = 1 << 30  # bytes


def keep_large_buffers() -> bool:
    """Ask glibc not to give freed activations back to the kernel between steps; True where it could be asked.

    Otherwise every step maps and clears its activations anew, which took a third of a VGGSNN step's time on two cores.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEEP) and mallopt(M_TRIM_THRESHOLD, KEEP))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that host or device memory was not enough."""
    if isinstance(error, MemoryError):
        return True
    torch = sys.modules.get("torch")  # whoever never loaded it cannot have one of its errors
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
