"""Runs a worker on as many threads as torch uses: on torch's own, where they can be had.

Torch's OpenMP threads go on spinning for a while when a convolution has ended. Threads of a second pool would have to share
the cores with them, and theirs with the next convolution. So the worker is handed to the OpenMP library that torch itself
is linked to; where that is not GNU's or compatible (macOS), plain threads run it, since a worker needs nothing of Python.
"""

import ctypes
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
        # A symbol is looked for in what the library depends on, too.
        parallel = ctypes.CDLL(str(library)).GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.restype = None
    parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    return parallel  # type: ignore[no-any-return]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="lsg-kernel")


def run(worker: int, job: int, chunks: int) -> None:
    """Call the worker at an address with the job at an address, on up to ``chunks`` threads; returns when all are done."""
    threads = min(torch.get_num_threads(), chunks)
    function, openmp = Function(worker), _openmp()
    if threads == 1:
        function(job)
    elif openmp is not None:
        openmp(worker, job, threads, 0)
    else:
        others = [_pool(threads - 1).submit(function, job) for _ in range(threads - 1)]
        function(job)
        for other in others:
            other.result()
