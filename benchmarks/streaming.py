"""Latency of one timestep of one sample, with the state kept, as in ``lsg predict --stream``.

    pip install -e '.[bench,onnx]'
    python -m benchmarks.streaming               # VGGSNN at a quarter of the channels: about a minute and a half
    python -m benchmarks.streaming --threads 1

Contenders are lsg in each precision, the floor, the peers at their best in single-step mode, and lsg's export with ``--mode step`` in
onnxruntime; the protocol is in ``benchmarks.bench.streaming``. No other programs should run. The record is written after every round to
``stream-<case>-<threads>-threads``, or ``zeros-stream-...`` with the contender ``lsg-auto``, lsg with convolutions by
spikes where that is faster.
"""

import argparse
import os
import sys
from typing import Any

from benchmarks.bench.cases import Case, case
from benchmarks.bench.streaming import measure
from benchmarks.measuring import machine, write
from benchmarks.step import case_arguments, chosen
from benchmarks.tables import Table, show

LSG = (
    *(("lsg", precision) for precision in ("fp32", "bf16", "int8")),
    ("lsg-auto", "fp32"),  # convolutions by spikes where that is faster
)
OTHERS = ("floor", "spikingjelly-best", "snntorch-best", "onnxruntime")


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
