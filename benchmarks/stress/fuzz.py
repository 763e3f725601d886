"""Rows of damaged recordings and images.

Whatever a file holds, a reader must give events inside the sensor, in order of time, or a DataError that names the file, within a bound of
memory. Mutants are read in a forked process, so that a crash or an endless loop of a library is seen and counted, not suffered. Each
mutant follows from (seed, format, number) alone.
"""

import contextlib
import ctypes
import functools
import io
import json
import os
import random
import select
import signal
import struct
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks.stress.rows import Case, fork, refused, row
from benchmarks.stress.seeds import FORMATS, LARGE
from lsgcli import registry
from lsgcli.data import manifest
from lsgcli.data.images import read_image
from lsgcli.data.readers import base as readers
from lsgcli.errors import DataError

GOOD = ("events", "refused")  # further outcomes: undocumented, outside, memory, crash, hang
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x25, 0x23, 0x0A)
SIZES = (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**24, 255, 65, 2**30)
LARGE_EVERY = 50
LIMIT = 30.0  # seconds that one file may take before it counts as a hang
HEAD = 400  # bytes in which most headers lie
MIB = 1 << 20
AEDAT, OTHERS = (8, 16 * MIB), (16, 64 * MIB)  # allowed bytes of memory: times the size of the file, plus


class Report(NamedTuple):
    """What came of a mutant."""

    number: int
    outcome: str
    detail: str = ""


class Mutator:
    """The ways in which a file is damaged; each method is one, and takes and gives the bytes."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng

    def __call__(self, content: bytes) -> bytes:
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


def judge(path: Path, sensor: tuple[int, int] | None, number: int, allowed: tuple[int, int]) -> Report:
    """Read one file, for a sensor or as it is."""
    size, memory, detail = path.stat().st_size, peak(), ""
    try:
        events = readers.read(path, sensor)
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
    taken, limit = memory(), allowed[0] * size + allowed[1]
    if taken > limit and outcome in GOOD:
        outcome, detail = "memory", f"{taken:,} bytes for a file of {size:,}"
    return Report(number, outcome, detail[:300])


def peak() -> Callable[[], int]:
    """A function that returns how many bytes of memory this process has taken at most since this call."""
    # The C library returns what earlier reads left free, which would hide what the next one takes.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    return lambda: 1024 * (_memory("VmHWM") - before)


def _memory(what: str) -> int:
    with open("/proc/self/status") as stream:
        return next(int(line.split()[1]) for line in stream if line.startswith(what))


def fuzz(form: str, mutants: int, seed: int, data: Path) -> Iterator[Report]:
    """Read ``mutants`` damaged recordings of a format, real ones in a folder among them."""
    sensor, make = FORMATS[form]
    seeds, number = make(data), 0
    for name in registry.names("reader"):
        registry.get("reader", name)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:

        def read_from(first: int, writer: int) -> None:
            os.environ.pop("RUST_BACKTRACE", None)  # for which the first error of a library reads 60 MB of symbols
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            for name, content in seeds:  # so that code of libraries is in memory
                (Path(folder) / name).write_bytes(content)
                assert len(readers.read(Path(folder) / name, sensor)), name
            with os.fdopen(writer, "w", buffering=1) as stream:
                for n in range(first, mutants):
                    name, content = mutant(form, n, seed, seeds)
                    path = Path(folder) / f"{n}-{name}"
                    path.write_bytes(content)
                    report = judge(path, None if n % 3 == 2 else sensor, n, AEDAT if form.startswith("aedat") else OTHERS)
                    path.unlink()
                    stream.write(json.dumps(report) + "\n")

        while number < mutants:
            reader, writer = os.pipe()
            pid = fork(lambda number=number, writer=writer: read_from(number, writer))
            os.close(writer)
            outcome = "crash"
            for line in _lines(reader):
                if line is None:
                    outcome = "hang"
                    break
                yield Report(*json.loads(line))
                number += 1
            os.close(reader)
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            if number < mutants:
                yield Report(number, outcome, f"status {status}")
                number += 1


def _lines(descriptor: int) -> Iterator[bytes | None]:
    """Lines as they come; None if none comes for :data:`LIMIT` seconds."""
    buffer = b""
    while True:
        if not select.select([descriptor], [], [], LIMIT)[0]:
            yield None
            return
        if not (read := os.read(descriptor, 1 << 16)):
            return
        *lines, buffer = (buffer + read).split(b"\n")
        yield from lines


# Row 22


@row(
    22,
    fault="malformed recordings",
    promise="a DataError that names the file, or events in bounds and in order; bounded memory, no crash, no hang",
    peers="32.7 % of damaged AEDAT files end in undocumented exceptions of tonic, 28.9 % in events outside the sensor",
    quick=900,
    full=1_000_000,
)
def malformed(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Recordings of nine formats (of a camera too, where LSGCLI_TEST_DATA has them), damaged in up to three of 18 ways: bits, bytes,
    cuts, parts moved or repeated, sizes inflated; every fiftieth is large. AEDAT may take 8 times its size + 16 MiB of memory, other
    formats 16 times + 64 MiB, and a file 30 s."""
    archives = sorted(Path(os.environ.get("LSGCLI_TEST_DATA", folder)).glob("dvs128-objects-dev.tar.*"))
    for archive in archives[:1]:
        with tarfile.open(archive) as stream:
            members = [member for member in stream if member.name.endswith(".aedat4")]
            stream.extractall(folder, members, filter="data")
    for form in FORMATS:
        for report in fuzz(form, count // len(FORMATS), chance.getrandbits(32), folder):
            good = report.outcome in GOOD
            problem = "" if good else f"mutant {report.number}: {report.outcome}: {report.detail}"
            yield Case(f"{form}, {report.outcome}", problem)


# Row 23


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (32, 24)) -> Image.Image:
    """A smooth image with some noise."""
    rng = np.random.default_rng(seed)
    wave = np.add.outer(np.sin(np.arange(size[1]) / 4), np.cos(np.arange(size[0]) / 3))
    pixels = 128 + 40 * wave[..., None] + rng.normal(0, 12, (size[1], size[0], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, lines: int = 0) -> bytes:
    """A PNG of grey pixels that are 0, with only some of its lines; ``more`` chunks before them."""
    packed = zlib.compressobj(9)
    data = b"".join([*(packed.compress(bytes(1 + width)) for _ in range(lines)), packed.flush()])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bombs() -> Iterator[tuple[str, bytes]]:
    """Small files that state or unpack to large content."""
    jpeg = encoded(picture(0), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    packed = zlib.compress(bytes(200 << 20), 9)
    yield "a.png", png(12_000, 12_000, lines=12_000)
    yield "a.png", png(20_000, 20_000)
    yield "a.png", png(2**31 - 1, 1)
    yield "a.png", png(9_000, 9_000)
    yield "a.png", png(8, 8, chunk(b"zTXt", b"text\0\0" + packed), lines=8)
    yield "a.png", png(8, 8, chunk(b"iCCP", b"icc\0\0" + packed), lines=8)
    yield "a.png", png(8, 8, chunk(b"iTXt", b"text\0\1\0\0\0" + packed), lines=8)
    yield "a.jpg", jpeg[:at] + struct.pack(">HH", 65_500, 65_500) + jpeg[at + 4 :]
    yield "a.jpg", jpeg[:at] + struct.pack(">HH", 9_900, 9_900) + jpeg[at + 4 :]


@row(
    23,
    fault="malformed JPEG or PNG, decompression bombs",
    promise="exit status 3 names the file, or the image as it was; what only a checksum can find is found by SHA256SUMS",
    quick=120,
    full=2000,
)
def malformed_images(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Nine kinds of JPEG and PNG, damaged like recordings (row 22), and nine bombs. A PNG with other pixels must be refused. A damaged JPEG
    may be the JPEG of another picture, as the format has no checksum: then `lsg data verify` must name it."""
    pictures = {mode: picture(1, mode) for mode in ("RGB", "L", "P", "RGBA")}
    pictures["16 bits"] = Image.fromarray(np.asarray(picture(1, "L"), np.uint16) * 257)
    files = [(f"{mode}.png", encoded(image, "PNG")) for mode, image in pictures.items()]
    files += [("grey.jpg", encoded(picture(2, "L"), "JPEG")), ("base.jpg", encoded(picture(3), "JPEG", quality=90))]
    files += [("progressive.jpg", encoded(picture(4), "JPEG", progressive=True))]
    files += [("restart.jpg", encoded(picture(5), "JPEG", restart_marker_blocks=2))]
    whole = {}
    for name, data in files:
        (folder / name).write_bytes(data)
        whole[name] = read_image(folder / name)
    manifest.write(folder)

    for number in range(count):
        name, data = files[number % len(files)]
        path, seed = folder / name, chance.getrandbits(32)
        path.write_bytes(damaged := Mutator(np.random.default_rng(seed))(data))
        kind = path.suffix[1:].upper()
        try:
            found = read_image(path)
        except DataError as error:
            yield Case(f"{kind}, refused", "" if str(path) in error.message else f"the file is not named: {error}")
        except BaseException as error:
            yield Case(kind, f"{name}, seed {seed}: {type(error).__name__}: {error}")
        else:
            equal = np.array_equal(found, whole[name])
            verified = damaged == data or name in manifest.check(folder).changed
            problem = "" if verified else "SHA256SUMS does not name it"
            if not equal and kind == "PNG":
                problem = "other pixels"
            yield Case(f"{kind}, {'as it was' if equal else 'another picture'}", problem and f"{name}, seed {seed}: {problem}")
        path.write_bytes(data)
    for name, data in bombs():
        (folder / name).write_bytes(data)
        with warnings.catch_warnings(action="ignore"):  # of Pillow: it reads images of less than 179 million pixels
            yield refused("bomb", lambda name=name: read_image(folder / name), DataError, folder / name)
