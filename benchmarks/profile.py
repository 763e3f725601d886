"""Time and memory of a training step by part, for lsg and the floor.

    python -m benchmarks.profile                                  # VGGSNN, T=10, 48 px, batch 8, fp32
    python -m benchmarks.profile --network resnet19 --precision bf16 --contenders lsg,spikingjelly-best,floor

Contenders are profiled (torch.profiler) one after the other in separate processes. The time of a part is that of its outermost
operations, including nested ones. "Data" is reading a batch from frames in memory, in the thread of the step. No other programs
should run. The record is ``profile-<case>-<precision>``.
"""

import argparse
import os
import sys
from typing import Any

from benchmarks.bench.cases import CONTENDERS, Case
from benchmarks.bench.workers import Worker
from benchmarks.measuring import machine, write
from benchmarks.step import case_arguments, chosen, given_case
from benchmarks.tables import Cell, Table, megabytes, show

USUAL = "lsg,floor"
ORDER = ("data", "convolutions, forward", "neurons and normalisation, forward", "pooling", "linears", "convolutions, backward")
BEHIND = ("conversions of types", "optimiser", "other operations", "outside of operations")


def measure(which: Case, names: list[str], precision: str, steps: int, threads: int) -> dict[str, Any]:
    """Contender -> what ``benchmarks.profiling`` found, with the memory of the process before its first step."""
    found = {}
    for name in names:
        with Worker(name, precision, which, threads) as worker:
            idle = worker.ready()["idle_bytes"]
            peak = worker.turn(2)["peak_bytes"]
            found[str(worker)] = worker.task("benchmarks.profiling:profile", count=steps)
            # Before a profiler took memory of its own.
            found[str(worker)]["memory"] |= {"interpreter, libraries, network, input": idle, "peak": peak}
    return found


def tables(record: dict[str, Any]) -> list[Table]:
    """Time by part, then memory by part."""
    contenders, which = record["contenders"], Case(**record["case"])
    found = list(contenders.values())
    head = [cell for name in contenders for cell in (f"{name}: ms", "share")]
    time = Table(f"{which.title}: time per step", ("part", *head))
    parts = {part for one in found for part in one["seconds"]}
    for part in sorted(parts, key=_place):
        cells: list[Cell] = []
        for one in found:
            seconds = one["seconds"].get(part, 0.0)
            cells += [f"{1e3 * seconds:.1f}", f"{100 * seconds / one['total_seconds']:.1f} %"]
        time.rows.append((part, *cells))
    time.rows.append(("total", *(cell for one in found for cell in (f"{1e3 * one['total_seconds']:.1f}", "100 %"))))

    memory = Table(f"{which.title}: memory per step, MB", ("part", *contenders))
    kinds = dict.fromkeys(part for one in found for part in one["memory"])
    for part in sorted(kinds, key=lambda part: (part == "peak", not part.startswith("interpreter"), part.startswith("saved"))):
        cells = [megabytes(one["memory"].get(part, 0)) for one in found]
        memory.rows.append(("peak of the process" if part == "peak" else part, *cells))
    return [time, memory]


def _place(part: str) -> tuple[int, str]:
    order = [*ORDER, "neurons and normalisation, backward", *BEHIND]
    return (order.index(part) if part in order else len(ORDER), part)


def main() -> None:
    """Profile, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    case_arguments(parser)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--contenders", default=USUAL, help=f"of {', '.join(CONTENDERS)}")
    options = parser.parse_args()
    which = given_case(options)
    record = {
        "machine": machine("spikingjelly", "snntorch", "numba"),
        "case": vars(which),
        "contenders": measure(which, chosen(parser, options.contenders), options.precision, options.steps, options.threads),
    }
    path = write(f"profile-{which}-{options.precision}", record)
    show(tables(record))
    print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
