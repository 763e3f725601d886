"""Rows of files of strangers: HDF5 files that lead to other files, images that are none, and caches that others have written."""

import contextlib
import ctypes
import io
import itertools
import logging
import os
import pwd
import random
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import h5py
import numpy as np
from PIL import Image

from benchmarks.stress.data import recording
from benchmarks.stress.program import Command
from benchmarks.stress.rows import Case, forked, refused, row
from lsgcli import registry
from lsgcli.config.resolve import resolve
from lsgcli.data.images import FORMATS, image_suffixes, read_image
from lsgcli.data.readers import base as readers
from lsgcli.errors import CheckpointError, DataError
from lsgcli.export.nir import NIR
from tests import exports, networks
from tests.hostile_hdf5 import FAULTS, SECRET, datasets
from tests.unit.data import recordings_of

IN_OPEN, IN_NONBLOCK = 0x20, 0o4000
SECONDS = 1.0  # of processor time to refuse a file
TRAPS = ("gs", "gsc", "gswin32c", "gswin64c", "djpeg", "magick", "convert", "xdg-open")
Started = Callable[[], str]  # what traps noted since the last call: names of programs, empty if there is none
SHD_SETS = ("labels", "spikes/times", "spikes/units", "extra/keys", "extra/speaker")


class Opens:
    """Notices when files are opened, by any process (inotify)."""

    def __init__(self, *paths: Path):
        libc = ctypes.CDLL(None)
        self.handle = libc.inotify_init1(IN_NONBLOCK)
        assert self.handle >= 0
        for path in paths:
            assert libc.inotify_add_watch(self.handle, os.fsencode(path), IN_OPEN) >= 0

    def problem(self) -> str:
        """How often, if at all; stops watching."""
        try:
            return f"{len(os.read(self.handle, 1 << 16)) // 16} opens of another file"
        except BlockingIOError:
            return ""
        finally:
            os.close(self.handle)


@row(
    49,
    fault="HDF5 files with external storage, links, virtual data sets, or data that are larger than the file",
    promise="exit status 4 or 3 before any read, within 1 s; no byte of another file is read or printed",
    peers="nir, tonic and h5py follow all of them",
    quick=40,
    full=1494,
)
def hostile_hdf5(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Each data set of an exported NIR graph, and of SHD, as read by `shd` and by `tonic:SHD`, is replaced in nine ways: by external storage,
    an external link, a soft link to one, a virtual data set, 8 GB of which nothing is stored, a chunk of 2 GB; or a group beside it
    contains the group above, a billion paths, or 2,000 groups in one another. The other
    files are watched: none may be opened. Every hundredth case runs the command, whose output may not have a byte of them."""
    secret = folder / "secret"
    secret.write_bytes(SECRET)
    networks.saved(folder / "net.safetensors")
    exports.exported(folder / "net.safetensors", "nir", folder / "net.nir")
    for part in ("train", "test"):
        recordings_of.write_shd(folder / f"shd_{part}.h5", [[(0.1, 5)], [(0.2, 7)]], [3, 12])
    (folder / "a.aedat").write_bytes(recording(1))
    recordings_of.write_npz(folder / "a.npz", readers.read(folder / "a.aedat"))
    cases = [
        *(("nir", name, fault) for name in datasets(folder / "net.nir") for fault in FAULTS),
        *((kind, name, fault) for kind in ("shd", "tonic:SHD") for name in SHD_SETS for fault in FAULTS),
    ]
    chance.shuffle(cases)
    for number, (kind, name, fault) in enumerate(itertools.islice(itertools.cycle(cases), count)):
        at = folder / str(number)
        at.mkdir()
        yield from _one_hdf5(folder, at, (kind, name, fault), command=number % 100 == 0)
        shutil.rmtree(at)


def _one_hdf5(folder: Path, at: Path, case: tuple[str, str, str], *, command: bool) -> Iterator[Case]:
    kind, name, fault = case
    path = at / ("net.nir" if kind == "nir" else "shd_test.h5")
    shutil.copy(folder / path.name, path)
    with h5py.File(path, "r+") as file:
        FAULTS[fault](file, name, folder / "secret")
    others = [one for one in (folder / "secret", folder / "secret.h5") if one.exists()]
    opens, begin = Opens(*others), time.process_time()

    def use() -> object:
        if kind == "nir":
            return NIR().open(path)
        (at / "SHD").mkdir()
        shutil.copy(path, at / "SHD")
        given = {"dataset": kind, "data_dir": str(at), "workers": 0, "cache_dir": str(at / "cache")}
        return registry.get("dataset", kind)(resolve(given, environment={}), may_download=False).scan(("test",))

    found = refused(f"{kind}, {fault}", use, CheckpointError if kind == "nir" else DataError, path.name)
    seconds = time.process_time() - begin
    slow = f"took {seconds:.1f} s" if seconds > SECONDS else ""
    yield Case(found.kind, found.problem or slow or opens.problem())
    if command:
        words = {"nir": ["predict", path, folder / "a.npz", "--json", "--logits"]}.get(
            kind, ["data", "info", "--dataset", kind, "--data-dir", at]
        )
        opens = Opens(*others)
        ran = Command(words, at / "run").run(60)
        leaked = SECRET[:8].decode() in ran.out + ran.err or ran.out
        problem = ran.ended(4 if kind == "nir" else 3, path.name) or ("stdout has a line" if leaked else "")
        yield Case(f"{kind}, command", problem or opens.problem())


@row(
    50,
    fault="an image whose content is of another format, such as a .png that contains EPS",
    promise="exit status 3 names the file; accepted formats are decoded under any suffix; no process is started",
    peers="Pillow, and torchvision's loaders, run Ghostscript on EPS, whatever the suffix",
    quick=150,
    full=1450,
)
def formats_of_images(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Content of every format that Pillow opens or writes, and of scripts, archives and a program, under every suffix that lsg accepts. Formats
    of the list must be decoded, others refused. Then all in one folder, as train and test part, for `lsg predict` and
    `lsg train` of `image-folder` and `torchvision:ImageFolder`. Programs such as `gs` on PATH leave a note when they are started."""
    contents = dict(_contents())
    cases = list(itertools.product(contents, image_suffixes()))
    chance.shuffle(cases)
    chosen = list(itertools.islice(itertools.cycle(cases), count))
    with _trapped(folder) as started:
        accepted: dict[str, bool] = {}
        for name, suffix in chosen:
            path = folder / f"{name.replace(' ', '-')}{suffix}"
            path.write_bytes(contents[name])
            if name in FORMATS:
                accepted[path.name] = True
                shape = read_image(path).shape
                yield Case(f"{name}, decoded", "" if shape == (16, 16, 3) else f"shape {shape}")
            else:
                accepted[path.name] = False
                yield refused(f"{name}, refused", lambda path=path: read_image(path), DataError, path)
            yield Case("process", f"{name}{suffix}: {started()}" if started() else "")
        yield from _commands(folder, accepted, started)


def _commands(folder: Path, accepted: dict[str, bool], started: Started) -> Iterator[Case]:
    data = folder / "data"
    for part, label in itertools.product(("train", "test"), ("cat", "dog")):
        (data / part / label).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(data / part / label / "0.png")
    for name in accepted:
        shutil.copy(folder / name, data / "test" / "cat" / name)
    network = networks.saved(folder / "net.safetensors", dataset="image-folder", backend="reference")
    found = Command(["predict", network, data / "test" / "cat"], folder / "predict").run()
    wanted = sorted(name for name, good in accepted.items() if good)
    answered = sorted(Path(line.split("\t")[0]).name for line in found.out.splitlines())
    errors = [line for line in found.err.splitlines() if line.startswith("error: ")]
    problem = found.ended(3 if len(wanted) < len(accepted) else 0)
    if answered != sorted([*wanted, "0.png"]) or len(errors) != len(accepted) - len(wanted):
        problem = problem or f"{len(answered)} answers, {len(errors)} errors"
    yield Case("predict", problem or started())
    bad = next((name for name, good in accepted.items() if not good), None)
    for dataset, root in (("image-folder", data), ("torchvision:ImageFolder", data / "test")):
        words = ["train", "--dataset", dataset, "--data-dir", root, "--arch", "mlp", "-T", 1, "--size", 8, "--epochs", 1]
        options = ["--out", folder / "run", "--workers", 0, "--backend", "reference", "--width-multiplier", 0.1]
        found = Command([*words, *options], folder / f"train {dataset[:5]}").run()
        yield Case(dataset, (found.ended(3) if bad else "") or started())


@contextlib.contextmanager
def _trapped(folder: Path) -> Iterator[Started]:
    """Programs on PATH that leave a note."""
    traps, note = folder / "traps", folder / "started"

    def started() -> str:
        found = note.read_text() if note.exists() else ""
        note.unlink(missing_ok=True)
        return found and f"started {found}"

    traps.mkdir()
    for name in TRAPS:
        (traps / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{note}"\n')
        (traps / name).chmod(0o755)
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{traps}{os.pathsep}{path}"
    try:
        with contextlib.suppress(OSError):  # the traps close: without a list of formats, Pillow starts one
            Image.open(io.BytesIO(_saved("EPS"))).load()
        assert started(), "no trap was started"
        yield started
    finally:
        os.environ["PATH"] = path


def _saved(name: str) -> bytes:
    stream, picture = io.BytesIO(), np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    image = Image.fromarray(picture)
    for mode in ("RGB", "L", "1", "P", "F"):
        with contextlib.suppress(OSError, KeyError, ValueError):
            stream.seek(0)
            stream.truncate()
            image.convert(mode).save(stream, name)
            return stream.getvalue()
    return b""


def _contents() -> Iterator[tuple[str, bytes]]:
    """(Name of the format, content) of all formats that Pillow knows, and of others."""
    Image.init()
    heads = {  # formats that Pillow opens but does not write: what its plug-ins look for
        "BUFR": b"BUFR",
        "CUR": b"\0\0\2\0\1\0",
        "DCX": struct.pack("<I", 0x3ADE68B1),
        "FITS": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(80),
        "FLI": struct.pack("<IHHHHHH", 200, 0xAF11, 1, 16, 16, 8, 3),
        "FTEX": b"FTEX" + struct.pack("<6I", 1, 16, 16, 1, 1, 1),
        "GBR": struct.pack(">5I", 28, 2, 16, 16, 3) + b"GIMP\0\0\0\1",
        "GRIB": b"GRIB\0\0\0\1",
        "HDF5": b"\x89HDF\r\n\x1a\n",
        "IMT": b"\n*length 16\nwidth 16\nheight 16\n\x0c",
        "IPTC": b"\x1c\x01\x5a\0\1\0",
        "MCIDAS": b"\0\0\0\0\0\0\0\4",
        "MPEG": b"\0\0\1\xb3\x01\0\x10\x13",
        "PCD": b"PCD_" + bytes(2044) + b"PCD_",
        "PIXAR": b"\200\350\000\000",
        "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 16, 16, 8, 3),
        "QOI": b"qoif" + struct.pack(">IIBB", 16, 16, 3, 0),
        "SUN": struct.pack(">8I", 0x59A66A95, 16, 16, 24, 768, 1, 0, 0),
        "WMF": b"\xd7\xcd\xc6\x9a\0\0",
        "XPM": b'/* XPM */\nstatic char *a[] = {\n"16 16 1 1",\n"a c #000000",\n',
        "XVTHUMB": b"P7 332\n#END_OF_COMMENTS\n16 16 255\n",
    }
    for name in sorted(Image.OPEN.keys() | Image.SAVE.keys()):
        content = _saved(name) if name in Image.SAVE else b""
        if content := content or (heads[name].ljust(4096, b"\0") if name in heads else b""):
            # MPO is JPEG, and APNG is PNG; Pillow reads the first image.
            yield {"MPO": "JPEG"}.get(name, name), content
    yield "EPS with a preview", struct.pack("<IIIIIIIH", 0xC6D3D0C5, 30, 4000, 0, 0, 0, 0, 0xFFFF) + _saved("EPS")
    yield "script", b"#!/bin/sh\ntouch /tmp/trap\n"
    yield "SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "zip", b"PK\3\4" + bytes(60)
    yield "program", b"\x7fELF" + bytes(60)


EVIL = b"cos\nsystem\n(S'touch %s'\ntR."  # a pickle
OTHER = 54321  # a user


def _own(path: Path, user: int) -> None:
    for one in (path, *path.rglob("*")):
        os.lchown(one, user, user)


def _nameless(user: int) -> NoReturn:
    raise KeyError(f"getpwuid(): uid not found: {user}")


def _linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


# What is wrong with the folder of kernels, or with a file in it, below <cache>/lsg/kernels.
NOT_PRIVATE: dict[str, Callable[[Path, Path], object]] = {
    "writable to others": lambda folder, file: folder.chmod(0o777),
    "below a folder that is writable to others": lambda folder, file: folder.parents[1].chmod(0o777),
    "a link": lambda folder, file: _linked(folder),
    "a file is a link": lambda folder, file: _linked(file),
    "of another user": lambda folder, file: _own(folder, OTHER),
    "below a folder of another user": lambda folder, file: os.chown(folder.parents[2], OTHER, OTHER),
    "a file of another user": lambda folder, file: _own(file, OTHER),
}


@row(
    60,
    fault="a cache of kernels that others own, can write to, or link to; no home; a user without a name",
    promise="not unpickled, and one line says so; nothing in the working directory is read or written",
    peers="numba unpickles the files of its cache, whoever owns them",
    quick=3,
    full=9,
)
def kernel_caches(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A cache has a pickle that leaves a note. The folder or the file belongs to another user, is a link, or others can write to it or above
    it; or the cache is that of the working directory, `~/.cache`, of a process without HOME and name. In a private folder the note must be
    left, which shows that the pickle would run. As root; other users test what needs no other user."""
    cases = ["private", "no HOME and no name", *list(NOT_PRIVATE)[: None if os.geteuid() == 0 else 4]]
    folder.chmod(0o755)
    for number, kind in enumerate(cases[:count]):
        yield from forked(lambda kind=kind, at=folder / str(number): iter([_kernel_cache(kind, at)]))  # type: ignore[misc]


def _kernel_cache(kind: str, at: Path) -> Case:
    from lsgcli.neurons.kernels.cpu import build, workers

    at.mkdir()
    os.chdir(at)
    said: list[str] = []
    build.log.handlers[:], build.log.propagate = [logging.NullHandler()], False
    build.log.handlers[0].handle = lambda record: said.append(record.getMessage())  # type: ignore[method-assign,assignment,func-returns-value]
    os.environ.pop("NUMBA_CACHE_DIR", None)
    os.environ["XDG_CACHE_HOME"] = str(at / "~" / ".cache")

    def compiled() -> None:
        build.folder.cache_clear()
        build._announce.cache_clear()
        build.address.__wrapped__(workers.statistics, np.float32)

    compiled()
    place = build.folder()
    assert place is not None
    file = next(place.rglob("*.nbi"))
    file.write_bytes(EVIL % os.fsencode(at / "note"))
    if kind in NOT_PRIVATE:
        NOT_PRIVATE[kind](place, file)
    elif kind != "private":
        del os.environ["XDG_CACHE_HOME"], os.environ["HOME"]
        tempfile.tempdir = str(at / "tmp")
        (at / "tmp").mkdir()
        # Not by os.setuid, since another user may be unable to read this checkout.
        pwd.getpwuid = _nameless
    said.clear()
    compiled()
    if (at / "note").exists() != (kind == "private"):
        return Case(kind, "the pickle ran" if kind != "private" else "the pickle did not run")
    warned = [text for text in said if "compiling kernels in every run" in text]
    return Case(kind, "" if len(warned) == (kind in NOT_PRIVATE) else f"messages {said}")
