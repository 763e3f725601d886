"""Loading many samples, in this process or in several."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

import numpy as np

from lsgcli.data.base import Dataset, Listing, Sample

log = logging.getLogger("lsg")
PROBE = 1.0  # seconds of loading here, from which the rest is estimated
WORTH = 4.0  # seconds left from which starting processes pays
CHUNK = 32  # samples a task

Report = Callable[[int], None]  # is told how many more samples are done


def load_all(
    dataset: Dataset, listing: Listing, samples: tuple[Sample, ...], out: np.ndarray, workers: int, report: Report
) -> None:
    """Load ``samples`` into the rows of ``out``, in up to ``workers`` processes where that pays.

    Raises:
        DataError: a sample is damaged.
    """
    done = _here(dataset, listing, samples, out, 0, report, workers)
    if done == len(samples):
        return
    try:
        _in_processes(dataset, listing, samples, out, done, report, workers)
    except BrokenProcessPool:
        # For instance a script without `if __name__ == "__main__"`, which cannot be started a second time.
        log.warning("the processes that prepare samples ended early; going on in one process")
        _here(dataset, listing, samples, out, done, lambda count: None, 0)


def _here(
    dataset: Dataset, listing: Listing, samples: tuple[Sample, ...], out: np.ndarray, first: int, report: Report, workers: int
) -> int:
    """Load in this process, all or (with workers) until it is clear that processes pay; returns how many rows are done."""
    start, decided = time.monotonic(), workers < 2
    for i in range(first, len(samples)):
        out[i] = dataset.load(samples[i], listing)
        report(1)
        spent = time.monotonic() - start
        if not decided and spent > PROBE:
            decided = True
            if spent / (i + 1 - first) * (len(samples) - i - 1) > WORTH:
                return i + 1
    return len(samples)


def _in_processes(
    dataset: Dataset, listing: Listing, samples: tuple[Sample, ...], out: np.ndarray, first: int, report: Report, workers: int
) -> None:
    # Forking is not safe once torch has started threads.
    context = multiprocessing.get_context("spawn")
    state = (dataset, replace(listing, samples=()))
    executor = ProcessPoolExecutor(workers, context, _begin, state)
    starts = iter(range(first, len(samples), CHUNK))
    running: dict[Future[np.ndarray], int] = {}
    try:
        while True:
            while len(running) < 3 * workers and (i := next(starts, None)) is not None:
                running[executor.submit(_chunk, samples[i : i + CHUNK])] = i
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                i, rows = running.pop(future), future.result()
                out[i : i + len(rows)] = rows
                report(len(rows))
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


_state: tuple[Any, Any] = (None, None)


def _begin(dataset: Dataset, listing: Listing) -> None:
    """Set a process up for loading."""
    global _state
    _state = (dataset, listing)
    os.environ["OMP_NUM_THREADS"] = "1"  # the processes are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    """End when the parent was killed; otherwise the process would wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _chunk(samples: tuple[Sample, ...]) -> np.ndarray:
    dataset, listing = _state
    return np.stack([dataset.load(sample, listing) for sample in samples])
