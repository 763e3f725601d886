"""Run rows of the fault table: `python -m benchmarks.stress [--row N ...] [--full]`.

Prints a line for each row, and the problems of a row that fails; ends with status 1 if one fails. `--full` does as many cases as
the table asks for, and writes a record for each row to benchmarks/results, from which `python docs/generate.py` makes
docs/reliability.md; `--out` writes it elsewhere. `--quick`, the default, does a few cases of each row, in 3 minutes on one core.
"""

import argparse
import os
import sys
from pathlib import Path
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # forked processes must not share a pool of threads

from benchmarks.measuring import RESULTS, write
from benchmarks.stress.rows import measure, name_of, table
from lsgcli import registry


@mock.patch.object(registry, "installed", dict)  # the rows test what lsg registers, not what else is installed
def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stress", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--row", type=int, action="append", help="number of a row; can be repeated (default: all)")
    how_many = parser.add_mutually_exclusive_group()
    how_many.add_argument("--quick", action="store_true", help="a few cases of each row (default)")
    how_many.add_argument("--full", action="store_true", help="all cases; write the records")
    how_many.add_argument("--count", type=int, help="so many cases of each row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for records, with --quick or --count")
    given = parser.parse_args()
    if given.full and given.out:
        parser.error("--out: found with --full, which writes to benchmarks/results")
    rows = table()
    if unknown := sorted(set(given.row or ()) - rows.keys()):
        parser.error(f"--row: found {unknown}, expected numbers of the table, 1 to {max(rows)}")
    out, failed = RESULTS if given.full else given.out, 0

    for number in given.row or rows:
        one = rows[number]
        count = given.count or (one.full if given.full else one.quick)
        record = measure(one, count, given.seed, " ".join(["python -m benchmarks.stress", *sys.argv[1:]]))
        failed += bool(record["failures"])
        state = f"{record['failures']} FAIL" if record["failures"] else "passes"
        print(f"{number:>3}  {state:<8}  {record['cases']:>7,} cases {record['seconds']:>7} s  {one.fault}", flush=True)
        for problem in record["problems"]:
            print(f"       {problem}")
        if out:
            write(name_of(number), record, out)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
