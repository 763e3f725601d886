"""Latency of one timestep of one sample, with the state kept, as in ``lsg predict --stream``.

In each round, every contender runs a few windows of T steps, in random order, of which the first is not timed: it wakes caches and threads. lsg
runs with the wait policy of its commands.
"""

import contextlib
import dataclasses
import itertools
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.bench.cases import CONTENDERS, Case
from benchmarks.bench.measuring import ratio
from benchmarks.bench.race import look_at
from benchmarks.bench.workers import Worker, inherited
from lsgcli.system.cpus import WAITING, wait_passively

WINDOWS = 5  # of T steps in a turn, of which the first is not timed


def measure(
    which: Case,
    entries: Sequence[tuple[str, str]],
    rounds: int,
    threads: int,
    networks: Mapping[str, dict[str, Any]] | None = None,
) -> Iterator[dict[str, Any]]:
    """The record after every round: milliseconds of steps, and ratios of the rounds' medians to those of lsg.

    Arguments and errors as for :func:`benchmarks.bench.race.race`.
    """
    looked_at = look_at(which, entries, threads) if networks is None else networks
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(name, precision, which, threads, _asleep() if CONTENDERS[name].kit == "lsg" else None))
            for name, precision in entries
        ]
        for worker in workers:
            worker.ready()
            worker.turn(2 * which.T)  # kernels, and weights in their order
        seconds: dict[str, list[list[float]]] = {str(worker): [] for worker in workers}
        peaks: dict[str, int] = {}
        for round_ in range(rounds):
            for worker in random.Random(round_).sample(workers, len(workers)):
                found = worker.turn(WINDOWS * which.T)
                seconds[str(worker)].append(found["seconds"][which.T :])
                peaks[str(worker)] = found["peak_bytes"]
            medians = {name: [statistics.median(turn) for turn in turns] for name, turns in seconds.items()}
            yield {
                "case": dataclasses.asdict(which),
                "protocol": {"rounds": round_ + 1, "of": rounds, "threads": threads, "steps": (WINDOWS - 1) * which.T},
                "contenders": {
                    name: {**_of_steps(list(itertools.chain(*turns))), "peak_bytes": peaks[name]}
                    for name, turns in seconds.items()
                },
                "rounds": medians,
                "ratios": {
                    str(ours): {other: ratio(medians[other], medians[str(ours)]) for other in medians if other != str(ours)}
                    for ours in workers
                    if CONTENDERS[ours.name].kit == "lsg"
                },
                "networks": looked_at,
            }


def _asleep() -> dict[str, str]:
    """The wait policy of lsg's commands, if the environment does not set another."""
    environment = inherited()
    wait_passively(environment)
    return {name: environment[name] for name in WAITING if name in environment}


def _of_steps(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    hundredths = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"median": 1e3 * statistics.median(seconds), "99th": 1e3 * hundredths[98], "n": len(seconds)}
