"""Sequential execution of many small operations on one thread.

torch divides each operation among its threads. For blocks that fit into the cache, threads would wait for each other longer than they
compute, particularly on a busy machine.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def alone(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results of ``work`` for each item, on one thread and without gradients."""
    for item in items:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.no_grad():
                result = work(item)
        finally:
            torch.set_num_threads(threads)
        yield result
