"""Runs a worker on as many threads as torch uses, if possible on torch's own.

OpenMP threads may spin for a while after a convolution, and threads of a second pool would compete with them for cores. The worker
therefore runs in the OpenMP library that torch is linked to. If that library lacks GNU's interface (macOS), Python threads run it; a
worker does not hold the GIL.
"""

import ctypes
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch

Function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _openmp() -> Callable[[int, int, int, int], None] | None:
    """``GOMP_parallel(function, argument, threads, flags)`` of torch's own OpenMP library."""
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        # Symbol lookup includes the dependencies of the library.
        parallel = ctypes.CDLL(str(library)).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.restype = None
    parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    return parallel  # type: ignore[no-any-return]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="lsg-kernel")


def run(worker: int, job: "array[int]", chunks: int) -> None:
    """Call the worker at an address with the job on up to ``chunks`` threads, and wait for all of them.

    Args:
        job: of int64; the first is set to the address of the last, which counts chunks.
    """
    address, threads = job.buffer_info()[0], min(torch.get_num_threads(), chunks)
    job[0], job[-1] = address + 8 * (len(job) - 1), 0
    function, openmp = Function(worker), _openmp()
    if threads == 1:
        function(address)
    elif openmp is not None:
        openmp(worker, address, threads, 0)
    else:
        futures = [_pool(threads - 1).submit(function, address) for _ in range(threads - 1)]
        function(address)
        for future in futures:
            future.result()
