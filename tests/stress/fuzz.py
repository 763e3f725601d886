"""Damage recordings and read them: `python -m tests.stress.fuzz`, some minutes.

Whatever a file holds, a reader must give events inside the sensor, in order of time, or a DataError that names the file,
and must take no more than 16 times the file's size + 64 MiB of memory. Mutants are read in a child process, so that a crash
or an endless loop of a library is seen and counted, not suffered. Each mutant follows from (seed, format, number) alone.
"""

import argparse
import collections
import contextlib
import ctypes
import functools
import json
import os
import select
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tests.stress.seeds import FORMATS, LARGE

OUTCOMES = ("events", "refused", "undocumented", "outside", "memory", "crash", "hang")
GOOD = ("events", "refused")
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x25, 0x23, 0x0A)
SIZES = (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**24, 255, 65, 2**30)
LARGE_EVERY = 50
HEAD = 400  # bytes in which most headers lie


class Mutator:
    """The ways in which a file is damaged; each method is one, and takes and gives the bytes."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def __call__(self, content: bytes) -> bytes:
        """Damage it once, twice or three times."""
        ways = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("way_")]
        for _ in range(int(self.rng.choice([1, 1, 1, 2, 2, 3]))):
            content = ways[int(self.rng.integers(len(ways)))](content)
        return content

    def place(self, content: bytes, room: int = 0) -> int:
        """Somewhere in the file; half of the time near its beginning."""
        end = max(1, len(content) - room)
        return int(self.rng.integers(min(end, HEAD) if self.rng.integers(2) else end))

    def block(self, content: bytes) -> tuple[int, int]:
        a = self.place(content)
        return a, a + 1 + int(self.rng.integers(min(len(content), int(self.rng.choice([2, 8, 64, 4096])))) if content else 0)

    def way_bits(self, content: bytes) -> bytes:
        data = bytearray(content)
        for _ in range(int(self.rng.integers(1, 9)) if data else 0):
            data[self.place(content)] ^= 1 << int(self.rng.integers(8))
        return bytes(data)

    def way_bytes(self, content: bytes) -> bytes:
        data = bytearray(content)
        for _ in range(int(self.rng.integers(1, 9)) if data else 0):
            data[self.place(content)] = int(self.rng.choice(EXTREMES))
        return bytes(data)

    def way_one_bit_late(self, content: bytes) -> bytes:
        data = bytearray(content)
        if data:
            data[int(self.rng.integers(len(data)))] ^= 1 << int(self.rng.integers(8))
        return bytes(data)

    def way_cut(self, content: bytes) -> bytes:
        return content[: self.place(content)]

    def way_empty(self, content: bytes) -> bytes:
        return content[: int(self.rng.integers(0, 3))]

    def way_cut_front(self, content: bytes) -> bytes:
        return content[self.place(content) :]

    def way_insert(self, content: bytes) -> bytes:
        a = self.place(content)
        return content[:a] + self.rng.bytes(int(self.rng.choice([1, 2, 4, 8, 5, 100]))) + content[a:]

    def way_delete(self, content: bytes) -> bytes:
        a, b = self.block(content)
        return content[:a] + content[b:]

    def way_repeat(self, content: bytes) -> bytes:
        a, b = self.block(content)
        return content[:b] + content[a:b] * int(self.rng.choice([1, 2, 50])) + content[b:]

    def way_swap(self, content: bytes) -> bytes:
        a, b = self.block(content)
        c = min(len(content), b + (b - a))
        return content[:a] + content[b:c] + content[a:b] + content[c:]

    def way_fill(self, content: bytes) -> bytes:
        a, b = self.block(content)
        b = min(b, len(content))
        return content[:a] + bytes([int(self.rng.choice(EXTREMES))]) * (b - a) + content[b:]

    def way_noise(self, content: bytes) -> bytes:
        a, b = self.block(content)
        b = min(b, len(content))
        return content[:a] + self.rng.bytes(b - a) + content[b:]

    def way_all_noise(self, content: bytes) -> bytes:
        a = self.place(content)
        return content[:a] + self.rng.bytes(len(content) - a)

    def way_size(self, content: bytes) -> bytes:
        width = int(self.rng.choice([2, 4, 8]))
        a = self.place(content, width) // 2 * 2
        value = (int(self.rng.choice(SIZES)) + int(self.rng.integers(-2, 3))) % (1 << 8 * width)
        order: Any = self.rng.choice(["little", "big"])
        return content[:a] + value.to_bytes(width, order) + content[a + width :]

    def way_append(self, content: bytes) -> bytes:
        return content + self.rng.bytes(int(self.rng.choice([1, 7, 8, 40, 4096])))

    def way_twice(self, content: bytes) -> bytes:
        return content + content

    def way_no_line_ends(self, content: bytes) -> bytes:
        return content[:HEAD].replace(b"\n", b"") + content[HEAD:]

    def way_digits(self, content: bytes) -> bytes:
        digit = str(int(self.rng.integers(10))).encode()
        places = [i for i in range(min(len(content), 4096)) if 48 <= content[i] < 58]
        a = places[int(self.rng.integers(len(places)))] if places else 0
        return content[:a] + digit * int(self.rng.choice([1, 2, 20])) + content[a + 1 :]


def mutant(form: str, number: int, seed: int, seeds: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    """(File name, content) of one damaged recording; every fiftieth is large."""
    rng = np.random.default_rng([seed, zlib.crc32(form.encode()), number])
    name, content = _large(form) if number % LARGE_EVERY == LARGE_EVERY - 1 else seeds[number % len(seeds)]
    return name, Mutator(rng)(content)


@functools.cache
def _large(form: str) -> tuple[str, bytes]:
    return LARGE[form]()


# ---- in the child process ----


def judge(path: Path, sensor: tuple[int, int] | None) -> dict[str, Any]:
    """Read one file, for a sensor or as it is, and say what came of it."""
    from lsgcli.data.readers import read
    from lsgcli.errors import DataError

    _give_back()
    size, before = path.stat().st_size, _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    detail = ""
    try:
        events = read(path, sensor)
    except DataError as error:
        named = str(path) in error.message
        outcome, detail = ("refused", "") if named else ("undocumented", f"the file is not named: {error}")
    except BaseException as error:
        outcome, detail = "undocumented", f"{type(error).__name__}: {error}"
    else:
        outcome = "events"
        width, height = sensor or events.sensor or (2**16, 2**16)
        inside = len(events) and int(events.x.max()) < width and int(events.y.max()) < height
        if not inside or not (events.t[1:] >= events.t[:-1]).all() or int(events.t[-1]) - int(events.t[0]) >= 2**63:
            outcome, detail = "outside", f"{len(events)} events"
    taken, allowed = 1024 * (_memory("VmHWM") - before), 16 * size + (64 << 20)
    if taken > allowed and outcome in GOOD:
        outcome, detail = "memory", f"{taken:,} bytes for a file of {size:,}"
    return {"outcome": outcome, "detail": detail[:300], "share": taken / allowed}


def _give_back() -> None:
    """Let the C library return what earlier reads left free, which would hide what the next one takes."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _memory(what: str) -> int:
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith(what))


def child(form: str, begin: int, end: int, seed: int, data: Path | None, folder: Path) -> None:
    """Read mutants ``begin`` to ``end``, one line of JSON before and one after each."""
    from lsgcli import registry
    from lsgcli.data.readers import read

    sensor, make = FORMATS[form]
    seeds = make(data)
    for name in registry.names("reader"):
        registry.get("reader", name)
    for name, content in seeds:  # what libraries take when they are imported is not the file's
        (folder / name).write_bytes(content)
        assert len(read(folder / name, sensor)), name
    out = os.fdopen(os.dup(1), "w", buffering=1)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    for number in range(begin, end):
        name, content = mutant(form, number, seed, seeds)
        path = folder / f"{number}-{name}"
        path.write_bytes(content)
        print(json.dumps({"number": number}), file=out)
        print(json.dumps({"number": number, **judge(path, None if number % 3 == 2 else sensor)}), file=out)
        path.unlink()


# ---- in the parent process ----


def fuzz(form: str, mutants: int, seed: int = 0, data: Path | None = None, limit: float = 30.0) -> dict[str, Any]:
    """Read ``mutants`` damaged recordings of a format.

    Args:
        data: a folder of real recordings to damage as well.
        limit: seconds that one file may take before it counts as a hang.

    Returns:
        Counts of outcomes, the largest share of the allowed memory that a file took, and the failures.
    """
    counts: collections.Counter[str] = collections.Counter()
    failures: list[dict[str, Any]] = []
    share, begin, started = 0.0, 0, time.monotonic()
    while begin < mutants:
        folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        arguments = ["--child", form, str(begin), str(mutants), str(seed), str(data or ""), str(folder)]
        run = subprocess.Popen([sys.executable, "-m", "tests.stress.fuzz", *arguments], stdout=subprocess.PIPE, text=False)
        assert run.stdout is not None
        reading, outcome = None, "crash"
        for line in _lines(run.stdout.fileno(), limit):
            if line is None:
                outcome = "hang"
                break
            report = json.loads(line)
            if "outcome" not in report:
                reading = report["number"]
                continue
            counts[report["outcome"]] += 1
            share = max(share, report["share"])
            if report["outcome"] not in GOOD:
                failures.append(report)
            begin, reading = report["number"] + 1, None
        run.kill()
        run.stdout.close()
        status = run.wait()
        shutil.rmtree(folder)
        if begin < mutants:
            if reading is None:
                raise RuntimeError(f"{form}: the child process ended with status {status} while it read no mutant")
            counts[outcome] += 1
            failures.append({"number": reading, "outcome": outcome, "detail": f"status {status}"})
            begin = reading + 1
    return {
        "format": form,
        "mutants": mutants,
        **{outcome: counts[outcome] for outcome in OUTCOMES},
        "memory_share": round(share, 3),
        "seconds": round(time.monotonic() - started, 1),
        "failures": failures[:50],
    }


def _lines(descriptor: int, limit: float) -> Any:
    """Lines as they come; None if none comes in time. Before the first, libraries are imported, which may take longer."""
    buffer, patience = b"", max(limit, 120.0)
    while True:
        if not select.select([descriptor], [], [], patience)[0]:
            yield None
            return
        patience = limit
        if not (read := os.read(descriptor, 1 << 16)):
            return
        *lines, buffer = (buffer + read).split(b"\n")
        yield from lines


def main() -> int:
    """Fuzz every format that is asked for; print a table, and JSON; 1 if anything was not as documented."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=10_000, help="of each format")
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="folder of real AEDAT 4 recordings; else from LSGCLI_TEST_DATA, if set")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--keep", type=Path, help="folder to write the mutants to that failed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments.data = arguments.data or _unpacked(Path(folder))
        return _run(arguments)


def _unpacked(folder: Path) -> Path | None:
    """The AEDAT 4 recordings of the test data, if there are any."""
    archives = sorted(Path(os.environ.get("LSGCLI_TEST_DATA", folder)).glob("dvs128-objects-dev.tar.*"))
    for archive in archives[:1]:
        with tarfile.open(archive) as stream:
            members = [member for member in stream.getmembers() if member.name.endswith(".aedat4")]
            stream.extractall(folder, members, filter="data")
    return folder if archives else None


def _run(arguments: argparse.Namespace) -> int:
    print(f"{'format':<16}{'mutants':>8}" + "".join(f"{name:>14}" for name in (*OUTCOMES, "memory share", "seconds")))
    results = []
    for form in arguments.formats.split(","):
        result = fuzz(form, arguments.mutants, arguments.seed, arguments.data)
        results.append(result)
        values = [*(result[name] for name in OUTCOMES), result["memory_share"], result["seconds"]]
        print(f"{form:<16}{result['mutants']:>8}" + "".join(f"{value:>14}" for value in values), flush=True)
        for failure in result["failures"]:
            print(f"  {form} {failure['number']}: {failure['outcome']}: {failure['detail']}")
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                name, content = mutant(form, failure["number"], arguments.seed, FORMATS[form][1](arguments.data))
                (arguments.keep / f"{form}-{failure['number']}-{name}").write_bytes(content)
    text = json.dumps(results, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return int(any(result[name] for result in results for name in OUTCOMES if name not in GOOD))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        form, begin, end, seed, data, folder = sys.argv[2:]
        child(form, int(begin), int(end), int(seed), Path(data) if data else None, Path(folder))
    else:
        raise SystemExit(main())
