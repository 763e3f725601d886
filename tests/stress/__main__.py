"""`python -m tests.stress`, the former name of `python -m benchmarks.stress`."""

import sys

from benchmarks.stress.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
