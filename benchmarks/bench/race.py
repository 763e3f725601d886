"""A race between contenders: one step each per round, so that changes of the machine's speed affect all of them.

The order within a round is random, seeded by its number, so that no contender always follows the same one.

Before the race, each contender is checked in a separate process on at most two samples: equal weights and multiplications, firing
neurons, and non-zero gradients. That process also compiles lsg's kernels, so that the race reads them from the cache, as all but the
first run of a user.
"""

import contextlib
import dataclasses
import os
import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benchmarks.bench.cases import CONTENDERS, Case
from benchmarks.bench.measuring import kilobytes, ratio, spread
from benchmarks.bench.workers import Worker
from lsgcli.errors import LsgError, OutOfMemoryError
from lsgcli.system import cpus

LEAST_FREE = 700_000_000  # bytes that must stay available while contenders run


def race(
    case: Case,
    entries: Iterable[tuple[str, str]],
    *,
    rounds: int,
    warm: int = 2,
    threads: int | None = None,
    skip_failing: bool = False,
    networks: Mapping[str, dict[str, Any]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Let contenders run in turn; the record after every round.

    Args:
        case: network and mode.
        entries: names and precisions.
        rounds: number of timed rounds.
        warm: number of warm-up rounds, in which memory and kernels are set up.
        threads: threads per contender. Default: all cores.
        skip_failing: leave out contenders that cannot run; ``left_out`` has their names.
        networks: facts of :func:`look_at` that are known already, of some contenders; the others are then not checked. Default: all are
            checked first.

    Yields:
        The record so far: ``case``, ``protocol``, ``contenders`` (seconds, samples a second, peak), and ``ratios`` of lsg with its
        default settings to the others.

    Raises:
        LsgError: a contender's process ended, contenders differ in what they compute, or the machine's memory is not enough for
            all of them at once.
    """
    threads = threads or cpus.usable(())[0]
    entries = list(entries)
    protocol = {"warm": warm, "threads": threads, "idle": "SIGSTOP", "load_before": os.getloadavg()[0]}
    looked_at = look_at(case, entries, threads, skip_failing) if networks is None else networks
    left_out = [" ".join(entry) for entry in entries if skip_failing and " ".join(entry) not in looked_at]
    entries = [entry for entry in entries if " ".join(entry) not in left_out]
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(name, precision, case, threads)) for name, precision in entries]
        facts = {worker: worker.ready() | {"network": looked_at.get(str(worker), {})} for worker in workers}
        seconds: dict[Worker, list[float]] = {worker: [] for worker in workers}
        # A short step is repeated within a turn, equally often by all: caches are cold after another's turn.
        steps, shortest = 1, float("inf")
        for round_ in range(-warm, rounds):
            for worker in random.Random(round_).sample(workers, len(workers)):
                found = worker.turn(steps)
                facts[worker]["peak_bytes"] = found["peak_bytes"]
                facts[worker].setdefault("first_seconds", found["seconds"][0])
                _check_memory(worker)
                took = sum(found["seconds"]) / steps
                if round_ >= 0:
                    seconds[worker].append(took)
                else:
                    shortest = min(shortest, took)
            if round_ == -1:
                steps = max(1, min(10, round(0.5 / shortest)))
            if round_ >= 0:
                done = {**protocol, "rounds": round_ + 1, "of": rounds, "steps_a_turn": steps}
                record = {"case": dataclasses.asdict(case), "protocol": done, **_results(case, facts, seconds)}
                record |= {"left_out": left_out} if skip_failing else {}
                yield record


def look_at(
    case: Case, entries: Iterable[tuple[str, str]], threads: int, skip_failing: bool = False
) -> dict[str, dict[str, Any]]:
    """Contender and precision -> the facts of ``checking``; without those that cannot run, if ``skip_failing``.

    Raises:
        LsgError: contenders differ in the number of weights, or of multiplications per frame.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, precision in entries:
        with Worker(name, precision, dataclasses.replace(case, batch=min(case.batch, 2)), threads) as worker:
            try:
                worker.ready()
                worker.turn()  # compiles kernels
                found[str(worker)] = worker.task("benchmarks.bench.checking:facts")
            except LsgError as error:
                if not skip_failing:
                    raise
                print(error, file=sys.stderr)
    for key in ("weights", "parameters_without_decays", "macs_per_frame"):
        values = {name: facts[key] for name, facts in found.items() if facts[key] is not None}
        if key == "parameters_without_decays":  # a normalisation may have more
            values = {name: value for name, value in values.items() if not CONTENDERS[name.split()[0]].settings}
        if len(set(values.values())) > 1:
            raise LsgError(f"{case}: contenders differ in {key}: {values}")
    return found


def _results(case: Case, facts: Mapping[Worker, dict[str, Any]], seconds: Mapping[Worker, list[float]]) -> dict[str, Any]:
    contenders = {
        str(worker): {
            "settings": {**CONTENDERS[worker.name]._asdict(), "precision": worker.precision},
            "seconds": spread(values),
            "every_round": values,
            "samples_per_second": case.batch / spread(values)["median"],
            "first_seconds": facts[worker]["first_seconds"],
            "peak_bytes": facts[worker]["peak_bytes"],
            "idle_bytes": facts[worker]["idle_bytes"],
            "network": facts[worker]["network"],
        }
        for worker, values in seconds.items()
    }
    ratios = {
        str(ours): {
            str(other): {
                **ratio(seconds[other], seconds[ours]),
                "peak": facts[ours]["peak_bytes"] / facts[other]["peak_bytes"],
            }
            for other in seconds
            if other is not ours
        }
        for ours in seconds
        if CONTENDERS[ours.name].kit == "lsg" and not CONTENDERS[ours.name].settings
    }
    return {"contenders": contenders, "ratios": ratios}


def _check_memory(worker: Worker) -> None:
    free: float = LEAST_FREE
    with contextlib.suppress(OSError):  # not Linux
        free = kilobytes("/proc/meminfo", "MemAvailable") * 1024
    if free < LEAST_FREE:
        raise OutOfMemoryError(
            f"after a turn of {worker}: found {free / 1e6:.0f} MB of free memory, expected {LEAST_FREE / 1e6:.0f}",
            hint="Name fewer contenders, or one --precision.",
        )
