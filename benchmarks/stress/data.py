"""Rows of data: recordings, images, archives and caches that are damaged, changed, hostile, or interrupted."""

import contextlib
import ctypes
import dataclasses
import functools
import hashlib
import itertools
import os
import random
import shlex
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.stress import seeds
from benchmarks.stress.program import Command
from benchmarks.stress.rows import Case, fork, killed_after, refused, row
from lsgcli.config.data import DataConfig
from lsgcli.config.resolve import resolve
from lsgcli.config.run import FIELDS
from lsgcli.data import frames, manifest, parallel, summary
from lsgcli.data.datasets import base, class_folders
from lsgcli.data.download import RemoteFile, fetch, unpack
from lsgcli.data.folders import scan_folders
from lsgcli.data.prepare import prepare
from lsgcli.data.readers import base as readers
from lsgcli.errors import ConfigError, DataError
from lsgcli.system import files
from tests import networks
from tests.tiny import images
from tests.unit.data import hostile, recordings_of

CLASSES = ("cup", "pen")
DATA = {field.name for field in dataclasses.fields(DataConfig)}


def recording(seed: int, count: int = 60) -> bytes:
    return seeds.aedat2(seeds.rows(seed, count, 128, 128))


def recordings(
    folder: Path, train: int = 3, test: int = 2, suffix: str = ".aedat", make: Callable[[int], bytes] = recording
) -> Path:
    """``train/<class>/`` and ``test/<class>/`` with such files, of which ``make`` gives the content for a seed."""
    for (part, count), name in itertools.product((("train", train), ("test", test)), CLASSES):
        (folder / part / name).mkdir(parents=True)
        for number in range(count):
            seed = 1000 * (part == "test") + 100 * CLASSES.index(name) + number
            (folder / part / name / f"{number}{suffix}").write_bytes(make(seed))
    return folder


def prepared(dataset: str, folder: Path, cache: Path, **settings: Any) -> Any:
    given = {"dataset": dataset, "data_dir": str(folder), "cache_dir": str(cache), "workers": 0, "T": 2, "size": 16}
    return prepare(resolve({**given, **settings}, environment={}))


def content(bundle: Any) -> dict[str, tuple[list[str], bytes]]:
    """Names and bytes of the samples of each part."""
    return {name: (split.keys, np.asarray(split.x).tobytes()) for name, split in bundle.parts.items()}


# Row 18


def state(folder: Path) -> dict[str, tuple[int, ...]]:
    """Mode, size and times of everything below a folder, which any write changes, even one that is undone."""
    found = [folder, *folder.rglob("*")]
    return {str(p): (s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for p in found for s in [p.lstat()]}


def drop_capabilities() -> None:
    """Without them, root may only do what the permissions of a file allow its owner."""
    nothing = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice
    assert ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), nothing) == 0, "capabilities cannot be dropped"


@row(
    18,
    fault="read-only data",
    promise="works, with the cache elsewhere or in memory; the data are not written to",
    quick=3,
    full=36,
)
def read_only(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Commands that read data, in a forked process without rights to write them (root gives up its capabilities), with a cache folder that
    can be written and with one that cannot; and with data that can be written. Afterwards, mode, size and times of all files and folders
    of the data must be the same."""
    data, made = folder / "data", folder / "made"
    recordings(data / "events")
    images(data / "images", 2, 2)
    recordings_of.write_nmnist(data)
    recordings_of.write_shd(data / "SHD" / "shd_train.h5", [[(0.1, 5)], [(0.2, 7)]], [0, 1])
    recordings_of.write_shd(data / "SHD" / "shd_test.h5", [[(0.1, 5)], [(0.2, 7)]], [0, 1])
    networks.saved(data / "net.safetensors")
    file = str(data / "events" / "test" / "cup" / "0.aedat")
    small, net = ["-T", "2", "--size", "16", "--workers", "0"], str(data / "net.safetensors")
    where = ["--data-dir", str(data / "events")]
    training = shlex.split(
        "--epochs 1 --batch-size 4 --width-multiplier 0.03125 --backend reference --threads 1 --val-fraction 0"
    )
    sets = {"event-folder": data / "events", "image-folder": data / "images", "n-mnist": data, "shd": data}
    lines = {
        **{f"prepare {k}": ["data", "prepare", "--dataset", k, "--data-dir", str(v), *small[:-2]] for k, v in sets.items()},
        "info": ["data", "info", str(data / "events")],
        "verify": ["data", "verify", str(data / "events")],
        "show": ["data", "show", file, "-o", "sheet.png"],
        "train": ["train", "--dataset", "event-folder", *where, *small, *training],
        "eval": ["eval", net, *where],
        "predict": ["predict", net, file],
        "inspect-gradients": ["inspect-gradients", net, *where, "--batches", "1"],
        "export": ["export", net, "-o", "out.safetensors"],
    }
    ways = list(itertools.product(lines, ("read-only", "read-only, no cache", "writable")))
    chance.shuffle(ways)
    for name, way in ways[:count]:
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        if way == "read-only, no cache":
            (made / "cache").write_text("in the way")
        for path in (data, *data.rglob("*")):
            path.chmod(path.stat().st_mode | 0o222 if way == "writable" else path.stat().st_mode & ~0o222)

        before = state(data)
        drop: Callable[[], object] = drop_capabilities if way != "writable" else lambda: None
        one = Command(lines[name], made, {"HOME": str(made)}, drop).run()
        after = state(data)
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        problem = f"{name}: wrote to {changed}" if changed else ""
        expected = 7 if way == "read-only, no cache" and name.startswith("prepare") else 0  # it is for the cache alone
        yield Case(way, problem or ((problem := one.ended(expected)) and f"{name}: {problem}"))


# Row 24


@row(
    24,
    fault="data changed in place",
    promise="`lsg data verify` ends with status 3 and names the file; prepared data of it are not used",
    quick=60,
    full=1000,
)
def changed_in_place(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """One byte of a recording, an image or an archive is changed, at any place; size and modification time stay. Verification must name
    this file alone, the samples must have another fingerprint, and an archive must not be unpacked. Every fiftieth case runs the
    command."""
    data = recordings(folder / "data")
    manifest.write(data)
    archive = folder / "all.tar"
    with tarfile.open(archive, "w") as stream:
        stream.add(data, "all")
    remote = RemoteFile(
        archive.name,
        ("https://localhost/all.tar",),
        hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest(),
        10_000,
    )
    fetch([remote], folder)
    paths = [*sorted(data.rglob("*.aedat")), archive]

    def samples() -> str:
        return base.digests(scan_folders(data, {"train": "train", "test": "test"}, (".aedat",))[1])["stamps"]

    for number in range(count):
        path = paths[number % len(paths)]
        whole, status, before = path.read_bytes(), path.stat(), samples()
        time.sleep(0.01)  # the clock of change times may tick in steps of 4 ms
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= chance.randrange(1, 256)
        path.write_bytes(damaged)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        if path == archive:
            yield refused("archive", lambda: fetch([remote], folder), DataError, archive)
        else:
            name = str(path.relative_to(data))
            faults = [
                fault
                for fault in summary.faults(summary.verify(summary.found(data), workers=0))
                if not fault.startswith("unreadable")
            ]
            problem = "" if faults == [f"changed: {name}"] else f"{name}: verified as {faults}"
            yield Case("recording", problem or ("the fingerprint is the same" if samples() == before else ""))
            if number % 50 == 0:
                yield Case("command", Command(["data", "verify", data], folder).run().ended(3, name))
        path.write_bytes(whole)


# Row 25


@row(
    25,
    fault="SIGKILL while data are unpacked or prepared",
    promise="the next run completes it, bit-identical to an undisturbed one; nothing is left over",
    quick=12,
    full=50,
)
def killed_preparation(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A forked process unpacks an archive, or prepares recordings, alone or with two worker processes, and is killed at a random moment of
    its duration. What it leaves must not be taken for complete."""
    data, whole = recordings(folder / "data", 40, 10), content(prepared("event-folder", folder / "data", folder / "whole"))
    archive = folder / "all.tar.gz"
    with tarfile.open(archive, "w:gz") as stream:
        stream.add(data, "all")
    expected = {path.relative_to(data): path.read_bytes() for path in data.rglob("*.aedat")}

    def prepare_in(cache: Path, workers: int = 0) -> Any:
        return content(prepared("event-folder", data, cache, workers=workers))

    def unpack_in(place: Path) -> Any:
        if not (place / "all").exists():  # as a data set decides
            place.mkdir(exist_ok=True)
            unpack(archive, place / "all")
        return {path.relative_to(place / "all"): path.read_bytes() for path in place.rglob("*.aedat")}

    lengths: dict[str, float] = {}
    for number in range(count):
        place, kind = folder / str(number), ("unpacking", "preparation", "preparation")[number % 3]
        if number % 10 == 9:
            kind = "preparation, 2 workers"
        work, result = (unpack_in, expected) if kind == "unpacking" else (prepare_in, whole)

        def killed(place: Path = place, work: Any = work, kind: str = kind) -> None:
            if "workers" in kind:
                parallel.PROBE = parallel.WORTH = -1.0  # start processes at once
                prepare_in(place, 2)
            else:
                work(place)

        if kind not in lengths:
            begin = time.monotonic()
            os.waitpid(fork(killed), 0)
            lengths[kind] = time.monotonic() - begin
            shutil.rmtree(place)
        killed_after(chance.uniform(0, lengths[kind]), fork(killed))
        left = [path for path in place.rglob("*") if path.is_file()]
        problem, found = "", work(place)
        if found != result:
            problem = f"{len(left)} files left, then another result"
        strays = [str(path) for path in place.rglob(".*") if path.name.startswith((files.PARTIAL, ".lsg-"))]
        yield Case(kind if left else f"{kind}, before any file", problem or (f"left over: {strays}" if strays else ""))
        shutil.rmtree(place)


# Row 26

BASES: dict[str, dict[str, Any]] = {  # settings with which others have an effect
    "window_us": {"slicing": "window"},
    "window_start": {"slicing": "window"},
    "split_seed": {"split": "stratified"},
}
PATHS = {"dataset", "data_dir"}


def others(name: str) -> list[Any]:
    field = FIELDS[name]
    about, default = field.metadata, field.default
    known = [*about["choices"]] or {
        "sensor": ["128x128", "200x200"],
        "augment": ["flip"],
        "size": [15, 24],
        "T": [3, 4],
        "fold": ["1/3", "3/3"],
    }.get(name)
    if known is None:
        known = [not default] if isinstance(default, bool) else [0.5, 0.25] if isinstance(default, float) else [7000, 3]
    return [value for value in known if value != default]


@row(
    26,
    fault="prepared data of other settings, sources or code",
    promise="never used: every setting, file and version has its own file of the cache",
    quick=25,
    full=400,
)
def stale_cache(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Each setting of data in turn, then random pairs of settings, are changed from and to each of their values; the data prepared with a
    cache that has them all must be those prepared with an empty one. The same for a recording that is changed (with its size and
    modification time kept), added, removed, renamed or moved to another class. Another version of a reader, of the frames or of a data
    set, whose result differs, must not read the old file."""
    data, cache = recordings(folder / "data"), folder / "cache"
    flat = data / "train"
    changes = [{name: value} for name in FIELDS if name in DATA and name not in PATHS for value in others(name)]
    chance.shuffle(changes)
    pairs = [chance.choice(changes) | chance.choice(changes) for _ in range(max(0, count - len(changes)))]

    def compare(kind: str, what: object, source: Path = data, **settings: Any) -> Case:
        settings = functools.reduce(lambda found, name: BASES.get(name, {}) | found, settings, settings)
        used = source if settings.keys().isdisjoint({"split", "fold"}) else flat
        try:
            found = content(prepared("event-folder", used, cache, **settings))
            apart = content(prepared("event-folder", used, folder / "empty", **settings))
        except (ConfigError, DataError) as error:
            expected = isinstance(error, ConfigError) or not settings.keys().isdisjoint({"sensor", "split", "fold"})
            return Case(f"{kind}, refused", "" if expected else str(error))
        finally:
            shutil.rmtree(folder / "empty", ignore_errors=True)
        return Case(kind, "" if found == apart else f"{what}: stale")

    for change in (changes + pairs)[:count]:
        yield compare("one setting" if len(change) == 1 else "two settings", change, **change)

    one, moved = data / "train" / "cup" / "0.aedat", data / "train" / "pen" / "9.aedat"
    actions: dict[str, Callable[[], object]] = {
        "another recording": lambda: one.write_bytes(recording(99)),
        "added": lambda: (one.parent / "7.aedat").write_bytes(recording(7)),
        "removed": lambda: (one.parent / "7.aedat").unlink(),
        "renamed": lambda: one.rename(one.with_name("8.aedat")),
        "moved": lambda: one.with_name("8.aedat").rename(moved),
        "moved back": lambda: moved.rename(one),
    }
    for name, act in actions.items():
        compare("", "")
        before = one.stat() if one.exists() else None
        time.sleep(0.01)
        act()
        if before and one.exists():
            os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
        yield compare("source", name)

    original = frames.frames
    for name, owner, attribute in (
        ("frames", base, "FRAMES_VERSION"),
        ("data set", class_folders.EventFolder, "version"),
        ("reader", None, ""),
    ):
        compare("", "")
        known = readers._readers()
        newer = {**known, "aedat2": known["aedat2"]._replace(version=99)}
        with contextlib.ExitStack() as stack:
            if owner is None:
                stack.enter_context(mock.patch.object(readers, "_readers", lambda newer=newer: newer))
            else:
                stack.enter_context(mock.patch.object(owner, attribute, 99))
            stack.enter_context(mock.patch.object(base, "frames", lambda *a, **k: original(*a, **k) + 1))
            yield compare("version", name)


# Row 27


@row(
    27,
    fault="hostile archives",
    promise="refused with the name of the archive; nothing is written or changed, anywhere",
    full=20,
)
def evil_archives(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Tar and zip files with names outside the folder, links, devices, bombs, wrong sizes, damage: unpacked to a folder that is there, and
    to one that is not, beside files that must stay as they are."""
    for name, (kind, make) in hostile.HOSTILE.items():
        for there in (False, True):
            place = folder / "place"
            for each in ("outside", "place", *(["place/data"] if there else [])):
                (folder / each).mkdir()
                (folder / each / "x").write_bytes(b"mine")
            archive = make(folder / kind)
            before = hostile.tree(folder)
            case = refused(
                "zip" if kind == "a.zip" else "tar", lambda a=archive, p=place: unpack(a, p / "data"), DataError, archive
            )
            after = hostile.tree(folder)
            wrote = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
            outside = os.path.exists("/evil")
            problem = case.problem or (f"wrote {wrote}" if wrote or outside else "")
            yield Case(case.kind, problem and f"{name}: {problem}")
            archive.unlink()
            shutil.rmtree(folder / "outside")
            shutil.rmtree(place)
