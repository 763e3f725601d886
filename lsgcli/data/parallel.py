"""Application of a function to many items, in this process, threads or processes. Results are in the order of the items."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from lsgcli.errors import log
from lsgcli.system import cpus
from lsgcli.system.interpreter import filter_warnings
from lsgcli.system.memory import keep_large_buffers

Progress = Callable[[int, int], None]  # amount done, total
NamedProgress = Callable[[str, int, int], None]  # description, amount done, total (0 if unknown)


def silent(*_: object) -> None:
    """Progress that nobody sees."""


PROBE = 1.0  # seconds of work here, from which the rest is estimated
WORTH = 4.0  # seconds left from which starting processes pays
BUSY = 0.8  # minimum fraction of time spent in the work; otherwise the consumer is the bottleneck
CHUNK = 8  # items a task

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int | None = None, progress: Progress = silent
) -> Generator[Result]:
    """The result of ``work`` for each item.

    Args:
        work: picklable function of picklable items; its exceptions end the iteration.
        workers: maximum number of processes, used if that is faster, at most the usable CPUs. Default: number of usable CPUs.
        progress: called with (results so far, number of items).
    """
    workers = cpus.usable()[0] if workers is None else cpus.limited("workers", workers)
    done = 0
    try:
        for done, result in enumerate(_results(work, items, workers), 1):
            progress(done, len(items))
            yield result
    except BrokenProcessPool:
        log.warning(
            "worker processes ended unexpectedly; continuing in one process. A script needs "
            '`if __name__ == "__main__":` to use several'
        )
        yield from each(work, items[done:], 0, lambda more, _: progress(done + more, len(items)))


def end_in_repeated_script() -> None:
    """End a worker process that runs the main script again because it lacks ``if __name__ == "__main__"``.

    multiprocessing imports the script in each new process. It must not wait there for data that the first process prepares.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result]:
    """``map(work, items)`` with results computed in advance by ``workers`` threads, at most the usable CPUs."""
    workers = cpus.limited("workers", workers)
    with ThreadPoolExecutor(workers, thread_name_prefix="batches") as threads:
        yield from _submitted(threads, work, items, workers)


def ahead(items: Generator[Item], most: int) -> Generator[Item]:
    """The same items, with up to ``most`` of them drawn in advance by a thread, which also closes ``items``."""
    end: Any = object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        try:
            with contextlib.closing(_submitted(thread, lambda _: next(items, end), itertools.count(), most)) as drawn:
                for item in drawn:
                    if item is end:
                        return
                    yield item
        finally:
            thread.submit(items.close)


def _submitted(executor: Executor, work: Callable[[Item], Result], items: Iterable[Item], most: int) -> Generator[Result]:
    """``executor.map``, with at most ``most`` items submitted in advance."""
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            running.append(executor.submit(work, item))
            if len(running) > most:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()


def _results(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Generator[Result]:
    """Results from this process, all of them or (with workers) until starting processes is estimated to be faster."""
    began = time.monotonic()
    spent = 0.0
    decided = workers < 2
    # BLAS threads do not speed up matrices of 48 x 128, and wait for each other on a busy machine.
    with threadpool_limits(1, user_api="blas"):
        for done, item in enumerate(items, 1):
            start = time.monotonic()
            result = work(item)
            spent += time.monotonic() - start
            yield result
            if not decided and spent > PROBE:
                decided = True
                awaited = spent > BUSY * (time.monotonic() - began)
                if awaited and spent / done * (len(items) - done) > WORTH:
                    break
        else:
            return
    yield from _in_processes(work, items[done:], workers)


def _in_processes(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Generator[Result]:
    # Forking is not safe once a library has started threads.
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (work,))
    chunks = (items[i : i + CHUNK] for i in range(0, len(items), CHUNK))
    try:
        for results in _submitted(executor, _chunk, chunks, 3 * workers):
            yield from results
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
    filter_warnings()
    threadpool_limits(1)  # the processes are the parallelism
    keep_large_buffers()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=follow_parent, daemon=True).start()


def follow_parent() -> None:
    """Exit when the parent process was killed, instead of waiting for tasks forever; for a thread of a worker process."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _chunk(items: Sequence[Any]) -> list[Any]:
    return [_work(item) for item in items]
