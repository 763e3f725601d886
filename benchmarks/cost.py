"""What neurons, resets, normalisations and methods cost: a training step of one network, relative to plain LIF.

    python -m benchmarks.cost --rounds 9            # about 8 minutes on two cores; --quick for a look
    python -m benchmarks.cost --precision bf16

The network is VGGSNN of a quarter of the channels, T=8, unless options change it. Plain LIF has a hard reset, tdBN, and ``--method fixed``;
each other contender changes one setting (``VARIANTS`` in ``benchmarks.contenders``). The protocol is that of ``benchmarks.bench.race``: all run
in turns. No other programs should run. Tables are printed to stdout; the record is written after every round to
``cost-<case>-<precision>``.
"""

import argparse
from typing import Any

from benchmarks.bench.cases import Case
from benchmarks.bench.measuring import ratio
from benchmarks.contenders import VARIANTS
from benchmarks.step import case_arguments, given_case, measure
from benchmarks.tables import Table, megabytes

BASE = "lif"


def relative(record: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Contender -> ``ratio`` of its time to that of plain LIF, ``low`` and ``high`` of the 95 % interval, and ``peak``, that of memory."""
    found = {name.split()[0]: one for name, one in record["contenders"].items()}
    base = found[BASE]
    return {
        name: {**ratio(one["every_round"], base["every_round"]), "peak": one["peak_bytes"] / base["peak_bytes"]}
        for name, one in found.items()
    }


def tables(record: dict[str, Any]) -> list[Table]:
    """Time and memory of each contender, and its ratios to plain LIF."""
    done = record["protocol"]
    title = f"{Case(**record['case']).title}: {done['rounds']} rounds, {done['threads']} threads"
    table = Table(title, ("contender", "s per step", "time ratio", "95 % interval", "peak MB", "peak memory ratio"))
    for name, found in relative(record).items():
        one = next(each for key, each in record["contenders"].items() if key.split()[0] == name)
        time, spread = f"{found['ratio']:.2f} x", f"{found['low']:.2f} to {found['high']:.2f}"
        peak = (megabytes(one["peak_bytes"]), f"{found['peak']:.2f} x")
        table.rows.append((name, one["seconds"]["median"], time, spread, *peak))
    return [table]


def main() -> None:
    """Measure all contenders, print the tables and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    case_arguments(parser)
    parser.set_defaults(width=0.25, T=8)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, help="of each contender; default: all cores")
    parser.add_argument("--quick", action="store_true", help="2 rounds: a look, kept under another name")
    options = parser.parse_args()
    which = given_case(options)
    name = f"cost-{which}-{options.precision}{'-quick' if options.quick else ''}"
    rounds, warm = (2, 1) if options.quick else (options.rounds, 2)
    measure(which, list(VARIANTS), options.precision, rounds, warm, options.threads, name, tables)


if __name__ == "__main__":
    main()
