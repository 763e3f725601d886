"""Cost of gradient-flow measurement: `inspect` on K mini-batches compared with K training steps, and the light record per epoch.

    python -m benchmarks.inspecting            # VGGSNN, T=10, 48 px, batch 8, full width; --quick for a look at a narrow one

Training steps, observed steps and inspections run in separate processes, alternating in each round. The peak is the maximum memory of a
process, including interpreter and libraries. The light record is made in the last step of an epoch; its share is the extra time in an
epoch of `lsg train` on digits-dvs. No other programs should run. The record is written to ``benchmarks/results/inspecting.json``.
"""

import argparse
import contextlib
import os
import sys
import time
from typing import Any

from benchmarks.bench.cases import Case, case
from benchmarks.bench.measuring import ratio, resident_bytes, spread
from benchmarks.bench.steps import Prepared
from benchmarks.bench.workers import Worker
from benchmarks.measuring import machine, write
from benchmarks.tables import Table, megabytes, show

FULL = case("vggsnn")
DIGITS = case("vggsnn", width=0.125, T=4, batch=32, size=32)  # the preset of digits-dvs
EPOCH = 40  # its steps


def inspect(prepared: Prepared, batches: int) -> dict[str, Any]:
    """Seconds of an inspection with the given number of mini-batches, and peak memory of the process in bytes."""
    from lsgcli import analysis

    begin = time.perf_counter()
    analysis.inspect(prepared.built.network, [(prepared.x, prepared.labels)] * batches)
    return {"seconds": time.perf_counter() - begin, "peak_bytes": resident_bytes()}


def light(prepared: Prepared, count: int) -> dict[str, Any]:
    """Seconds of each of some training steps with the light record of every epoch made of it."""
    from lsgcli.analysis import gradflow, lif_watchers
    from lsgcli.analysis.gradients import norm
    from lsgcli.analysis.watchers import watching

    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        layers = lif_watchers.layers(prepared.built.network)
        with watching(layers, full=False) as watchers:
            prepared.step()
        gradflow.light_record(layers, watchers)()
        for layer in layers:  # whose gradients the step has cleared: norms of something as large
            norm(layer.weight.detach())
        seconds.append(time.perf_counter() - begin)
    return {"seconds": seconds}


def measure(which: Case, precision: str, rounds: int, batches: int, threads: int) -> dict[str, Any]:
    """Rounds of ``batches`` training steps, as many that are watched, and an inspection of as many mini-batches."""
    seconds: dict[str, list[float]] = {"step": [], "light": [], "inspect": []}
    peaks = {}
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Worker("lsg", precision, which, threads)) for name in seconds}
        for worker in workers.values():
            worker.ready()
        for round_ in range(-1, rounds):
            found = workers["step"].turn(batches)
            peaks["step"] = found["peak_bytes"]
            taken = {"step": sum(found["seconds"]) / batches}
            taken["light"] = sum(workers["light"].task("benchmarks.inspecting:light", count=batches)["seconds"]) / batches
            found = workers["inspect"].task("benchmarks.inspecting:inspect", batches=batches)
            peaks["inspect"] = found["peak_bytes"]
            taken["inspect"] = found["seconds"] / batches
            for name in seconds if round_ >= 0 else ():
                seconds[name].append(taken[name])
    return {
        "case": vars(which),
        "precision": precision,
        "batches": batches,
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "inspect_over_step": ratio(seconds["inspect"], seconds["step"]),
        "light_over_step": ratio(seconds["light"], seconds["step"]),
        "peak_bytes": peaks,
        "peak_over_step": peaks["inspect"] / peaks["step"],
    }


def tables(record: dict[str, Any]) -> list[Table]:
    """Times and peaks of every case."""
    head = (
        "case",
        "step, s",
        "inspect, s per mini-batch",
        "inspect / step",
        "95 % interval",
        "peak MB, step",
        "peak MB, inspect",
        "peak ratio",
        "overhead of the light version",
    )
    table = Table("Inspecting", head)
    for found in record["cases"]:
        seconds, times = found["seconds"], found["inspect_over_step"]
        row = (
            f"{Case(**found['case']).title}, {found['precision']}",
            seconds["step"]["median"],
            seconds["inspect"]["median"],
            f"{times['ratio']:.2f} x",
            f"{times['low']:.2f} to {times['high']:.2f}",
            megabytes(found["peak_bytes"]["step"]),
            megabytes(found["peak_bytes"]["inspect"]),
            f"{found['peak_over_step']:.2f} x",
            f"{100 * (found['light_over_step']['ratio'] - 1):.1f} % of a step, {100 * found['light_share_of_epoch']:.2f} % of an epoch",
        )
        table.rows.append(row)
    return [table]


def main() -> None:
    """Measure, print the table and keep the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="that count; default: 5")
    parser.add_argument("--batches", type=int, default=4, help="K; default: 4, as of lsg inspect-gradients")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--quick", action="store_true", help="one round of the narrow network, kept under another name")
    options = parser.parse_args()
    facts = machine("numba")
    if (load := os.getloadavg()[0]) > 0.5:
        print(f"the machine is not quiet: load {load:.1f}", file=sys.stderr)
    record: dict[str, Any] = {"machine": facts, "threads": options.threads, "steps_of_an_epoch": EPOCH, "cases": []}
    for which in (DIGITS,) if options.quick else (FULL, DIGITS):
        found = measure(which, options.precision, 1 if options.quick else options.rounds, options.batches, options.threads)
        found["light_share_of_epoch"] = max(0.0, found["light_over_step"]["ratio"] - 1) / EPOCH
        record["cases"].append(found)
        write("inspecting-quick" if options.quick else "inspecting", record)
    show(tables(record))


if __name__ == "__main__":
    main()
