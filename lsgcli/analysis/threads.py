"""Many small operations, one after the other on one thread.

torch divides every single operation among its threads. On blocks that fit a cache they then wait for each other longer than they
compute, and on a busy machine much longer.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def alone(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``work`` of each item, without gradients."""
    for item in items:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.no_grad():
                result = work(item)
        finally:
            torch.set_num_threads(threads)
        yield result
