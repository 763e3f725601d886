import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from lsgcli.config.resolve import resolve
from lsgcli.config.run import RunConfig
from lsgcli.data import download, manifest
from lsgcli.data.readers import base as readers
from tests.unit.data.serving import Site

HEADER = b"#!AER-DAT2.0\r\n# a comment\r\n"


def aedat2_bytes(events, header=HEADER):
    """events: (x, y, t, on) as a reader should give them back."""
    body = b"".join(struct.pack(">II", (127 - y) << 8 | (127 - x) << 1 | (not on), t % 2**32) for x, y, t, on in events)
    return header + body


def blob(seed, count=60, side=128):
    """Made-up events, in order of time."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 100_000, count))
    return [(int(rng.integers(side)), int(rng.integers(side)), int(i), bool(rng.integers(2))) for i in t]


def listed(events):
    """Events as rows (x, y, t, on)."""
    return list(zip(events.x.tolist(), events.y.tolist(), events.t.tolist(), events.on.tolist(), strict=True))


def write(path, content):
    path.write_bytes(content)
    return path


def unchanged(folder):
    """Whether a folder has all files of its manifest, unchanged."""
    report = manifest.check(folder)
    return not (report.missing or report.changed)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    """Downloads are repeated at once, and ask this machine."""
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0, 0.0))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site():
    """A server of files on this machine."""
    with Site().running() as running:
        yield running


@pytest.fixture
def config(tmp_path):
    def make(dataset="digits", **settings) -> RunConfig:
        options = {"dataset": dataset, "cache_dir": str(tmp_path / "cache"), "workers": 0, **settings}
        return resolve(options, environment={})

    return make


@pytest.fixture
def reader_version(monkeypatch):
    """Give a reader another version, until the test ends."""

    def set_version(name: str, version: int, patch=monkeypatch) -> None:
        known = readers._readers()
        patch.setattr(readers, "_readers", lambda: {**known, name: known[name]._replace(version=version)})

    return set_version


@pytest.fixture
def recordings(tmp_path):
    """A folder of two classes: train 4 and 3 recordings, test 2 and 2."""
    root = tmp_path / "recordings"
    for split, counts in {"train": (4, 3), "test": (2, 2)}.items():
        for name, count in zip(("cup", "pen"), counts, strict=True):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                (root / split / name / f"{i}.aedat").write_bytes(aedat2_bytes(blob(len(name) + 10 * len(split) + 100 * i)))
    return root


@pytest.fixture
def images(tmp_path):
    """A folder of two classes of 6 + 2 PNG images each, 10x8 pixels."""
    from PIL import Image

    rng = np.random.default_rng(0)
    root = tmp_path / "images"
    for split, count in {"train": 6, "test": 2}.items():
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)).save(root / split / name / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """Unpack an archive of real data, once per session; skip where there are none."""
    base = Path(os.environ.get("LSGCLI_TEST_DATA") or Path(__file__).parents[4] / "shared" / "data")
    unpacked = {}

    def get(name: str) -> Path:
        found = sorted(base.glob(f"{name}.tar.*"))
        if not found:
            pytest.skip(f"no {name} archive in {base}: set LSGCLI_TEST_DATA to the folder of real data")
        if name not in unpacked:
            target = tmp_path_factory.mktemp(name)
            with tarfile.open(found[0]) as archive:
                archive.extractall(target, filter="data")
            inner = list(target.iterdir())
            unpacked[name] = inner[0] if len(inner) == 1 else target
        return unpacked[name]

    return get
