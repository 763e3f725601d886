"""Rows that have no generator yet: the tests or scripts that cover some cases of each."""

from tests.stress.rows import Row, add

RESUME = (
    "composer resumes equal at atol 0 at 6 points, in one process, never killed; Lightning: restart parity 1e-8, SIGTERM sets a flag, "
    "results never compared; torchtune: 1e-4"
)
TONIC = "32.7 % of damaged AEDAT files end in undocumented exceptions of tonic, 28.9 % in events outside the sensor"
PEERS = {4: RESUME, 6: RESUME, 7: RESUME, 22: TONIC}
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
    18: ("read-only data", "works; the cache is elsewhere", "tests/unit/data/test_cache.py"),
    19: (
        "NaN or infinity in loss or gradient",
        "exit status 5 before the step, with a gradient table; NaN is never best",
        "tests/unit/training/test_loop.py",
    ),
    20: ("out of memory", "exit status 8 with a hint", "tests/cli/test_careless.py"),
    21: ("a worker is killed or raises", "exit status 3 names the sample within 10 s", "tests/unit/data/test_parallel.py"),
    22: (
        "malformed recordings",
        "a DataError, or events in bounds, with bounded memory",
        "tests/stress/fuzz.py, results in tests/stress/results/fuzz.json",
    ),
    23: ("malformed JPEG or PNG, decompression bombs", "exit status 3 names the file", "tests/cli/test_bad_input.py"),
    24: ("data changed in place", "another digest, exit status 3", "tests/unit/data/test_manifest.py, test_integrity.py"),
    25: ("killed preparation of data", "the next run completes it", "tests/stress/killed_preparation.py"),
    26: ("a stale cache", "never read: its name is a digest of settings and sources", "tests/unit/data/test_prepare.py"),
    27: ("hostile archives", "nothing is written", "tests/unit/data/test_archives.py"),
    28: ("a torn metrics.jsonl", "cut to the epoch of the checkpoint, no duplicates", "tests/unit/training/test_loop.py"),
    31: ("state left in a network", "f(x) twice is equal; a batch equals its samples", "tests/unit/neurons/test_lif.py"),
    32: (
        "state missing from a checkpoint",
        "each setting of a network survives saving, to the bit",
        "tests/unit/test_checkpoint.py",
    ),
    33: ("a parameter missing from the optimiser", "the sets are equal, all gradients finite", "tests/contract/"),
    34: ("a wrong surrogate gradient", "the derivative of its primitive, within 1e-6", "tests/unit/neurons/test_surrogates.py"),
    35: ("samples in two parts of the data", "parts are disjoint by source", "tests/unit/data/test_splits.py"),
    36: (
        "augmentation that repeats",
        "differs by epoch and sample, equal across numbers of workers",
        "tests/unit/data/test_augmentations.py, test_batches.py",
    ),
    37: (
        "accumulation",
        "4 x 16 samples give the gradients of 64, without batch norm, within 1e-6",
        "tests/unit/training/test_loop.py",
    ),
    38: ("WORLD_SIZE above 1", "trains together, or is refused", "tests/unit/training/test_distributed.py"),
    39: ("the state of the loss scaler", "saved and restored to the bit", "tests/unit/training/test_loop.py"),
}
for _number, (_fault, _promise, _tests) in ROWS.items():
    add(Row(_number, _fault, _promise, PEERS.get(_number, ""), f"Some cases in {_tests}."))
