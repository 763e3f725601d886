"""Training steps next to busy processes: lsg with passive waiting and with OpenMP's default, spikingjelly, snntorch.

    python -m benchmarks.neighbours            # about 9 minutes on two cores; --precision bf16 for lsg alone in bf16

A neighbour is a process that computes continuously, on any core. In each round, contenders run for a few seconds each, first alone,
then next to one neighbour, then next to two, in random order. The small network is that of ``lsg train`` without options. No other
programs should run. The record is written after every round to
``neighbours-<precision>``.
"""

import argparse
import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.bench.cases import Case, case
from benchmarks.bench.measuring import spread
from benchmarks.bench.steps import Prepared
from benchmarks.bench.workers import Worker
from benchmarks.measuring import ROOT, machine, write
from benchmarks.step import installed
from benchmarks.tables import Table, show
from lsgcli.system.cpus import WAITING, wait_passively

CASES = (case("vggsnn", width=0.125, T=4, batch=32, size=32), case("vggsnn", width=0.25, batch=16))
BUSY = "from benchmarks.bench.measuring import end_with_parent\nend_with_parent()\nwhile True: pass"
ASLEEP: dict[str, str] = {}
wait_passively(ASLEEP)
# Title -> contender, and its environment.
ENTRIES: dict[str, tuple[str, Mapping[str, str]]] = {
    "lsg": ("lsg", ASLEEP),
    "lsg, spinning": ("lsg", {}),
    "spikingjelly": ("spikingjelly", {}),
    "spikingjelly, passive": ("spikingjelly", ASLEEP),
    "snntorch": ("snntorch", {}),
}
NEIGHBOURS = (0, 1, 2)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Run the given number of processes that compute continuously."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY], cwd=ROOT) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def during(prepared: Prepared, seconds: float) -> dict[str, Any]:
    """Task of a contender: steps until ``seconds`` have passed, one at least; how many, and the seconds that they took."""
    begin, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - begin < seconds:
        prepared.step()
        count += 1
    return {"steps": count, "seconds": time.perf_counter() - begin}


def measure(which: Case, titles: Sequence[str], precision: str, rounds: int, seconds: float, threads: int) -> Iterator[Any]:
    """The record of a case after every round: samples per second of each contender beside each number of neighbours."""
    rates: dict[str, dict[str, list[float]]] = {title: {str(count): [] for count in NEIGHBOURS} for title in titles}
    with contextlib.ExitStack() as stack:
        workers = {}
        for title in titles:
            name, environment = ENTRIES[title]
            workers[title] = stack.enter_context(Worker(name, precision, which, threads, environment))
        for worker in workers.values():
            worker.ready()
            worker.task("benchmarks.neighbours:during", seconds=seconds)  # memory and kernels are set up
        for round_ in range(rounds):
            for count in NEIGHBOURS:
                order = random.Random(f"{round_} {count}").sample(titles, len(titles))
                with busy(count):
                    for title in order:
                        found = workers[title].task("benchmarks.neighbours:during", seconds=seconds)
                        rates[title][str(count)].append(which.batch * found["steps"] / found["seconds"])
            yield {
                "case": vars(which),
                "samples_per_second": {t: {n: spread(values) for n, values in of.items()} for t, of in rates.items()},
                "every_round": rates,
            }


def tables(record: dict[str, Any]) -> list[Table]:
    """A table for each case: samples per second, absolute and relative to no neighbours."""
    found = []
    for of in record["cases"]:
        title = f"{Case(**of['case']).title}, {record['precision']}: {record['rounds']} rounds, {record['threads']} threads"
        head = ["samples/s", "quiet", "quartiles"]
        for count in NEIGHBOURS[1:]:
            head += [f"{count} busy", "quartiles", "relative to quiet"]
        table = Table(title, head)
        for name, rates in of["samples_per_second"].items():
            row: list[Any] = [name]
            for count in NEIGHBOURS:
                rate = rates[str(count)]
                row += [rate["median"], f"{rate['low']:.3g} to {rate['high']:.3g}"]
                row += [f"{100 * rate['median'] / rates['0']['median']:.0f} %"] if count else []
            table.rows.append(row)
        found.append(table)
    return found


def main() -> None:
    """Measure both cases, print the tables and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a contender's turn; a step is always completed")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument(
        "--quick", action="store_true", help="one round of a second of the small network, kept under another name"
    )
    options = parser.parse_args()
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"the machine is not quiet: load {load:.1f}", file=sys.stderr)
    for name in WAITING:
        os.environ.pop(name, None)
    rounds, seconds, cases = (1, 1.0, CASES[:1]) if options.quick else (options.rounds, options.seconds, CASES)
    names = installed(dict.fromkeys(name for name, _ in ENTRIES.values() if options.precision == "fp32" or name == "lsg"))
    titles = [title for title, (name, _) in ENTRIES.items() if name in names]
    threads = len(os.sched_getaffinity(0))
    record = {"machine": machine("spikingjelly", "snntorch", "numba"), "precision": options.precision, "threads": threads}
    record |= {"rounds": rounds, "seconds_a_turn": seconds, "cases": []}
    for which in cases:
        record["cases"].append({})
        for record["cases"][-1] in measure(which, titles, options.precision, rounds, seconds, threads):
            write(f"neighbours-{'quick' if options.quick else options.precision}", record)
    show(tables(record))


if __name__ == "__main__":
    main()
