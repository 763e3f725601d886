"""Scaling of time and memory of a training step with timesteps, batch size, width and resolution, and memory per timestep.

    python -m benchmarks.scaling                 # VGGSNN at a quarter of the channels, fp32; --quick for a look
    python -m benchmarks.scaling --sweep T --precision bf16

Each point is a race of new processes (see ``benchmarks.bench.race``) with few rounds, which are sufficient for a curve. No other programs
should run. The record is written after every point to ``scaling-<precision>``.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.bench.cases import CONTENDERS, Case, case
from benchmarks.bench.race import race
from benchmarks.measuring import machine, write
from benchmarks.step import chosen
from benchmarks.tables import Table, megabytes, show

T, WIDTH = 8, 0.25  # if not swept
SWEEPS: dict[str, list[tuple[float, Case]]] = {
    "T": [(t, case("vggsnn", width=WIDTH, T=t)) for t in (4, 8, 16, 32)],
    "batch": [(n, case("vggsnn", width=WIDTH, T=T, batch=n)) for n in (1, 4, 16, 32)],
    "width": [(w, case("vggsnn", width=w, T=T)) for w in (0.125, 0.25, 0.5, 1.0)],
    "size": [(n, case("vggsnn", width=WIDTH, T=T, size=n)) for n in (32, 48, 64, 96)],
}
SWEPT = {"T": "Timesteps", "batch": "Batch", "width": "Width", "size": "Pixels of a side"}
USUAL = ("lsg", "spikingjelly", "spikingjelly-best", "floor")


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the line with the least squared distance to the points."""
    return statistics.linear_regression(x, y).slope


def memory_per_timestep(points: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Contender -> bytes that a further timestep adds to the peak, over the sweep of T."""
    steps = [float(value) for value in points]
    names = next(iter(points.values()))["contenders"]
    return {name: slope(steps, [point["contenders"][name]["peak_bytes"] for point in points.values()]) for name in names}


def tables(record: dict[str, Any]) -> list[Table]:
    """Samples per second and peak MB of every contender along every sweep, then the memory per additional timestep."""
    found = []
    for sweep, points in record["sweeps"].items():
        names = list(next(iter(points.values()))["contenders"])
        table = Table(f"{SWEPT[sweep]}: samples/s, peak MB", (sweep, *names))
        for value, point in points.items():
            contenders = point["contenders"].values()
            table.rows.append((value, *(f"{f['samples_per_second']:.4g}, {megabytes(f['peak_bytes'])}" for f in contenders)))
        found.append(table)
    if added := record.get("bytes_per_timestep"):
        ours = next((count for name, count in added.items() if name.startswith("lsg ")), None)
        table = Table("Memory per additional timestep", ("contender", "MB", "lsg, relative to this"))
        table.rows += [(name, count / 1e6, f"{ours / count:.2f} x" if ours else "") for name, count in added.items()]
        found.append(table)
    return found


def main() -> None:
    """Measure the sweeps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", choices=sorted(SWEEPS), action="append", help="can be given several times; default: all")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of each contender; default: all cores")
    parser.add_argument("--contenders", default=",".join(USUAL), help=f"of {', '.join(CONTENDERS)}")
    parser.add_argument("--quick", action="store_true", help="1 round at two points: a look, kept under another name")
    options = parser.parse_args()
    entries = [(name, options.precision) for name in chosen(parser, options.contenders)]
    kept = f"scaling-{options.precision}{'-quick' if options.quick else ''}"
    record: dict[str, Any] = {"machine": machine("spikingjelly", "snntorch", "numba"), "sweeps": {}}
    for sweep in options.sweep or SWEEPS:
        points = record["sweeps"][sweep] = {}
        for value, which in SWEEPS[sweep][: 2 if options.quick else None]:
            print(f"{sweep} = {value:g}", file=sys.stderr)
            rounds, warm = (1, 1) if options.quick else (options.rounds, 2)
            *_, points[f"{value:g}"] = race(which, entries, rounds=rounds, warm=warm, threads=options.threads)
            write(kept, record)
        if sweep == "T":
            record["bytes_per_timestep"] = memory_per_timestep(points)
    show(tables(record))
    print(write(kept, record), file=sys.stderr)


if __name__ == "__main__":
    main()
