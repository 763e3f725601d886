"""Application of a function to many items, in this process or several."""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from lsgcli import cpus
from lsgcli.memory import keep_large_buffers

log = logging.getLogger("lsg")
PROBE = 1.0  # seconds of work here, from which the rest is estimated
WORTH = 4.0  # seconds left from which starting processes pays
BUSY = 0.8  # minimum fraction of time spent in the work; otherwise the consumer is the bottleneck
CHUNK = 8  # items a task

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(work: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None) -> Generator[tuple[int, Result]]:
    """Apply ``work`` to each item and yield (index, result) in order of completion.

    Args:
        work: picklable function of picklable items; its exceptions end the iteration.
        workers: maximum number of processes, used if that is faster. Default: number of usable CPUs.
    """
    workers = cpus.usable()[0] if workers is None else workers
    left = dict.fromkeys(range(len(items)))
    for i, result in _here(work, items, workers):
        del left[i]
        yield i, result
    try:
        for i, result in _in_processes(work, items, list(left), workers):
            del left[i]
            yield i, result
    except BrokenProcessPool:
        # For instance a script without `if __name__ == "__main__"`, which cannot be started a second time.
        log.warning("worker processes ended unexpectedly; continuing in one process")
        for i in list(left):
            yield i, work(items[i])


def in_order(found: Generator[tuple[int, Result]]) -> Generator[Result]:
    """The results of :func:`each` in the order of the items; later results are buffered in memory."""
    early: dict[int, Result] = {}
    following = 0
    with contextlib.closing(found):
        for i, result in found:
            early[i] = result
            while following in early:
                yield early.pop(following)
                following += 1


def ahead(items: Generator[Item], most: int) -> Generator[Item]:
    """The same items, with up to ``most`` of them prefetched by a thread."""
    end: Any = object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        drawn = deque(thread.submit(next, items, end) for _ in range(most))
        try:
            while (item := drawn.popleft().result()) is not end:
                drawn.append(thread.submit(next, items, end))
                yield item
        finally:
            for future in drawn:
                future.cancel()
            thread.submit(items.close)


def _here(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[tuple[int, Result]]:
    """Process items in this process, all of them or (with workers) until starting processes is estimated to be faster."""
    began, spent, decided = time.monotonic(), 0.0, workers < 2
    # BLAS threads do not speed up matrices of 48 x 128, and wait for each other on a busy machine.
    with threadpool_limits(1, user_api="blas"):
        for i, item in enumerate(items):
            start = time.monotonic()
            result = work(item)
            spent += time.monotonic() - start
            yield i, result
            if not decided and spent > PROBE:
                decided = True
                awaited = spent > BUSY * (time.monotonic() - began)
                if awaited and spent / (i + 1) * (len(items) - i - 1) > WORTH:
                    return


def _in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], indices: Sequence[int], workers: int
) -> Iterator[tuple[int, Result]]:
    if not indices:
        return
    # Forking is not safe once a library has started threads.
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (work,))
    chunks = iter([indices[i : i + CHUNK] for i in range(0, len(indices), CHUNK)])
    running: dict[Future[list[Result]], Sequence[int]] = {}
    try:
        while True:
            while len(running) < 3 * workers and (chunk := next(chunks, None)) is not None:
                running[executor.submit(_chunk, [items[i] for i in chunk])] = chunk
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield from zip(running.pop(future), future.result(), strict=True)
    except BaseException:
        # Pending results are not needed; waiting for them would block the program after a second Ctrl-C.
        for process in list((getattr(executor, "_processes", None) or {}).values()):
            process.kill()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


_work: Any = None


def _begin(work: Any) -> None:
    """Initialise a worker process."""
    global _work
    _work = work
    threadpool_limits(1)  # the processes are the parallelism
    keep_large_buffers()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """Exit when the parent process was killed, instead of waiting for tasks forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _chunk(items: list[Any]) -> list[Any]:
    return [_work(item) for item in items]
