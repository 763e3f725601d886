"""Latency of one timestep of one sample, with the state kept, as in ``lsg predict --stream``.

    pip install -e '.[bench,onnx]'
    python -m benchmarks.streaming               # VGGSNN at a quarter of the width: about a minute and a half
    python -m benchmarks.streaming --threads 1

Contenders are lsg in each precision, with the wait policy of its commands, the floor, the peers at their best in single-step mode, and
lsg's export with ``--mode step`` in onnxruntime. Each runs in its own process; in each round, every contender runs a few windows of T steps, in random order, of which the
first is not timed: it wakes caches and threads. No other programs should run. The record is written after every round to
``benchmarks/results/stream-<case>-<threads>-threads.json``, or ``zeros-stream-...`` with the contender ``lsg-auto``, lsg with convolutions by
spikes where that is faster.
"""

import argparse
import contextlib
import dataclasses
import itertools
import os
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.measuring import machine, ratio, write
from benchmarks.race import look_at
from benchmarks.step import case_arguments, chosen
from benchmarks.tables import Table, show
from benchmarks.workers import Case, Worker, case
from lsgcli.system.cpus import WAITING, wait_passively

WINDOWS = 5  # of T steps in a turn, of which the first is not timed
LSG = (
    *(("lsg", precision) for precision in ("fp32", "bf16", "int8")),
    ("lsg-auto", "fp32"),
)  # convolutions by spikes where that is faster
ASLEEP: dict[str, str] = {}
if not any(name in os.environ for name in WAITING):
    wait_passively(ASLEEP)
OTHERS = ("floor", "spikingjelly-best", "snntorch-best", "onnxruntime")


def measure(which: Case, entries: Sequence[tuple[str, str]], rounds: int, threads: int) -> Iterator[dict[str, Any]]:
    """The record after every round: milliseconds of steps, and ratios of the rounds' medians to those of lsg."""
    looked_at = look_at(which, entries, threads)
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(name, precision, which, threads, ASLEEP if name.startswith("lsg") else None))
            for name, precision in entries
        ]
        for worker in workers:
            worker.ready()
            worker.turn(2 * which.T)  # kernels, and weights in their order
        seconds: dict[str, list[list[float]]] = {str(worker): [] for worker in workers}
        for round_ in range(rounds):
            for worker in random.Random(round_).sample(workers, len(workers)):
                seconds[str(worker)].append(worker.turn(WINDOWS * which.T)["seconds"][which.T :])
            medians = {name: [statistics.median(turn) for turn in turns] for name, turns in seconds.items()}
            yield {
                "case": dataclasses.asdict(which),
                "protocol": {"rounds": round_ + 1, "of": rounds, "threads": threads, "steps": (WINDOWS - 1) * which.T},
                "contenders": {name: _of_steps(list(itertools.chain(*turns))) for name, turns in seconds.items()},
                "rounds": medians,
                "ratios": {
                    str(ours): {other: ratio(medians[other], medians[ours]) for other in medians if other != ours}
                    for ours in (" ".join(entry) for entry in LSG)
                    if ours in medians
                },
                "networks": looked_at,
            }


def _of_steps(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    hundredths = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"median": 1e3 * statistics.median(seconds), "99th": 1e3 * hundredths[98], "n": len(seconds)}


def tables(record: dict[str, Any]) -> list[Table]:
    """Latency of each contender, compared with lsg in each precision."""
    which, done = Case(**record["case"]), record["protocol"]
    threads = f"{done['threads']} thread{'s' if done['threads'] > 1 else ''}"
    title = f"A timestep of {which.network} x {which.width:g}, {which.size} px, one sample: {threads}"
    head = ["contender", "median, ms", "99th percentile, ms", *(f"time / {ours}" for ours in record["ratios"])]
    table = Table(title, head)
    for name, found in record["contenders"].items():
        row = [name, found["median"], found["99th"]]
        for others in record["ratios"].values():
            of = others.get(name)
            row.append(f"{of['ratio']:.2f} ({of['low']:.2f} to {of['high']:.2f})" if of else "")
        table.rows.append(row)
    return [table]


def main() -> None:
    """Measure, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    case_arguments(parser)
    parser.set_defaults(width=0.25)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each contender; default: all cores"
    )
    parser.add_argument("--contenders", default=",".join(("lsg", *OTHERS)), help="default: all")
    options = parser.parse_args()
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"the machine is not quiet: load {load:.1f}", file=sys.stderr)
    names = chosen(parser, options.contenders)
    which = case(options.network, "stream", options.width, T=options.T, batch=1, size=options.size)
    entries = [
        *(entry for entry in LSG if entry[0] in names),
        *((name, "fp32") for name in names if not name.startswith("lsg")),
    ]
    kind = "zeros-stream" if "lsg-auto" in names else "stream"
    facts, record = machine("spikingjelly", "snntorch", "numba", "onnxruntime"), {}
    for record in measure(which, entries, options.rounds, options.threads):
        write(f"{kind}-{which}-{options.threads}-threads", {"machine": facts, **record})
    show(tables(record))


if __name__ == "__main__":
    main()
