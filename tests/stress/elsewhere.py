"""Rows that have no generator yet: the tests or scripts that cover some cases of each."""

from tests.stress.rows import Row, add

RESUME = (
    "composer resumes equal at atol 0 at 6 points, in one process, never killed; Lightning: restart parity 1e-8, SIGTERM sets a flag, "
    "results never compared; torchtune: 1e-4"
)
PEERS = {4: RESUME, 6: RESUME, 7: RESUME}
ROWS = {
    4: (
        "SIGTERM, then resume",
        "status 75; a bitwise equal result",
        "tests/stress/interruptions.py, tests/unit/training/test_loop.py",
    ),
    5: (
        "SIGINT, SIGUSR1, a second signal",
        "the first stops as in row 4; the second leaves at once, and the last checkpoint is valid",
        "tests/unit/training/test_signals.py, tests/cli/test_train.py",
    ),
    6: ("kill -9, then resume", "a bitwise equal final checkpoint", "tests/stress/killed_ablation.py"),
    7: (
        "other workers, logs or cadence of evaluation",
        "the same bits",
        "tests/unit/training/test_loop.py, tests/cli/test_loggers.py",
    ),
    14: ("settings differ on resume", "exit status 2 lists the differences", "tests/cli/test_train.py"),
    16: ("two processes, one run directory", "the second ends with status 6", "tests/unit/test_rundir.py"),
    17: ("an unwritable or full folder at the start", "exit status 7 before the first step", "tests/unit/test_rundir.py"),
    19: (
        "NaN or infinity in loss or gradient",
        "exit status 5 before the step, with a gradient table; NaN is never best",
        "tests/unit/training/test_loop.py",
    ),
    20: ("out of memory", "exit status 8 with a hint", "tests/cli/test_careless.py"),
    21: ("a worker is killed or raises", "exit status 3 names the sample within 10 s", "tests/unit/data/test_parallel.py"),
    28: ("a torn metrics.jsonl", "cut to the epoch of the checkpoint, no duplicates", "tests/unit/training/test_loop.py"),
}
for _number, (_fault, _promise, _tests) in ROWS.items():
    add(Row(_number, _fault, _promise, PEERS.get(_number, ""), f"Some cases in {_tests}."))
