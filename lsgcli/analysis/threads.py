"""Many small computations at a time, each on a thread of its own.

torch divides every single operation among its threads. On blocks that fit a cache they then wait for each other longer than they
compute, and on a busy machine much longer.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Iterable[Item], device: torch.device) -> Iterator[Result]:
    """``work`` of each item, without gradients; on a CPU as many at a time as torch has threads, the results in their order."""

    @torch.no_grad()
    def quietly(item: Item) -> Result:
        return work(item)

    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        return map(quietly, items)
    return _pool(threads).map(quietly, items)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads on which torch divides nothing among others."""
    everyone = threading.Barrier(threads)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="blocks")

    def settle(_: int) -> None:
        torch.set_num_threads(1)  # of this thread, and of those that torch sees for the first time from now on
        everyone.wait()

    list(pool.map(settle, range(threads)))
    torch.set_num_threads(threads)
    return pool
