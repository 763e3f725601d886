"""The fused backend against the reference in float64 on random cases: `python -m tests.stress.fused --cases 3000`, a few minutes.

A case where rounding decides about a spike or a gradient is passed over. Ends with status 1 if any other differs.
"""

import argparse
import sys

import torch

from tests.unit.neurons.cases import differences, random_case


def main() -> int:
    """Run the cases, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--backend", default="fused")
    parser.add_argument("--device", default="cpu", help="of the backend; the reference runs on the CPU")
    options = parser.parse_args()
    passed_over = failed = 0

    for seed in range(options.first, options.first + options.cases):
        case = random_case(seed)
        if case.near_a_switch():
            passed_over += 1
            continue
        wrong = differences(case, case.run(options.backend, case.dtype, options.device), case.run("reference", torch.float64))
        if wrong:
            failed += 1
            print(f"{seed}: {case}: {'; '.join(wrong)}")
    print(f"{options.cases} cases: {options.cases - passed_over - failed} equal, {failed} differ, {passed_over} passed over")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
