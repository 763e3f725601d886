"""Shared by the benchmarks: interleaved timing, facts about the machine, and the tables of records in ``benchmarks/results``.

python -m benchmarks.measuring                     # the names of all records
python -m benchmarks.measuring evidence-threshold  # a record, as JSON
"""

import gzip
import json
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench import measuring
from benchmarks.bench.measuring import Timing, spread
from lsgcli.system.device import Compute
from lsgcli.system.files import locked, replacing

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"


def of_children() -> float:
    """CPU time of all child processes that have ended, user and system, in seconds."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def interleaved(
    work: Mapping[str, Callable[[], Any]], rounds: int, warm: int = 3, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Timing]:
    """Time several functions alternately in each round, so that changes of the machine's speed affect all of them.

    Args:
        clock: seconds so far.

    Returns:
        Name -> median, quartiles and minimum over the rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(-warm, rounds):
        for name, run in work.items():
            begin = clock()
            run()
            if round_ >= 0:
                seconds[name].append(clock() - begin)
    return {name: spread(values) for name, values in seconds.items()}


def machine(*packages: str) -> dict[str, Any]:
    """The command line, and facts about the machine, as :func:`benchmarks.bench.measuring.machine`."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.stem == "__main__" else program.stem
    words = [f"python -m benchmarks.{name}", *map(without_folders, sys.argv[1:])]
    return {"command": " ".join(words), **measuring.machine(*packages)}


def without_folders(word: str) -> str:
    """A command-line argument with absolute paths reduced to their last component, because paths depend on the machine."""
    return re.sub(r"(^|=)/\S*?([^/\s]*)/?$", r"\1.../\2", word)


def experiment_of(name: str) -> str:
    """The experiment that a record belongs to: the first word of its name; ``quick`` for a look, which is not committed."""
    words = name.split("-")
    return "quick" if words[-1] == "quick" else words[0]


def read_all(experiment: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Name -> record, of all records of an experiment."""
    path = folder / f"{experiment}.json.gz"
    return json.loads(gzip.decompress(path.read_bytes())) if path.exists() else {}


def read(name: str, folder: Path = RESULTS) -> Any:
    """A record, or None if there is none."""
    return read_all(experiment_of(name), folder).get(name)


def write(name: str, record: Any, folder: Path = RESULTS) -> Path:
    """Replace a record in the table of its experiment, ``<experiment>.json.gz``: equal records give equal bytes."""
    return change(name, lambda _: record, folder)


def change(name: str, edit: Callable[[Any], Any], folder: Path = RESULTS) -> Path:
    """Replace a record by what ``edit`` makes of it, or of None; several commands can do so at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{experiment_of(name)}.json.gz"
    with locked(path.with_suffix(".lock"), f"{path}: another command writes its record"):
        records = read_all(experiment_of(name), folder)
        records[name] = edit(records.get(name))
        text = json.dumps(dict(sorted(records.items())), ensure_ascii=False)
        with replacing(path) as partial:
            partial.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path


@contextmanager
def counted(compute: Compute) -> Iterator[list[int]]:
    """Context that counts the bytes that torch allocates; afterwards, the list has the largest sum at one time."""
    found: list[int] = []
    if compute.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(compute.device)
        before = torch.cuda.memory_allocated(compute.device)
        yield found
        found.append(torch.cuda.max_memory_allocated(compute.device) - before)
        return

    of: Any = torch.autograd  # its profiler of allocations alone, without the overhead and the files of torch.profiler
    flags = (False, True, False, False, False)  # only memory
    of._enable_profiler_legacy(of.ProfilerConfig(of.ProfilerState.CPU, *flags, torch._C._profiler._ExperimentalConfig()))
    records: Any = []
    try:
        yield found
    finally:
        records = of._disable_profiler_legacy()
    now = most = 0
    for thread in records:
        for event in thread:
            if event.kind() == "memory_alloc":
                now += event.cpu_memory_usage()
                most = max(most, now)
    found.append(most)


def main(names: list[str]) -> None:
    """Print records, or the names of all."""
    paths = [] if names else sorted(RESULTS.glob("*.json.gz"))
    for path in paths:
        print(*read_all(path.name.removesuffix(".json.gz")), sep="\n")
    for name in names:
        print(json.dumps(read(name), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
