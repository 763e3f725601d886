"""The simulated recordings of CIFAR10-DVS."""

import struct

import numpy as np
import pytest
from PIL import Image

from benchmarks import simulate
from lsgcli.config.resolve import resolve
from lsgcli.data.datasets.published import CifarDvs
from lsgcli.data.events import Events
from lsgcli.data.readers.base import read


@pytest.mark.parametrize("count", [1, 2, 9, 10, 60, 999, 1000, 3000])
def test_numbers_are_spread(count):
    found = simulate.numbers(count)
    assert found == sorted(set(found))
    if count < 1000:
        assert max(found) < 1000
        assert count == 1 or max(found) >= 900  # the test part of the default split


def test_aedat2_bytes(tmp_path):
    """Against bytes put together by hand from the format's description."""
    rows = [(0, 0, 0, True), (127, 1, 5, False), (64, 63, 2**32 - 1, False)]
    x, y, t, on = (np.array(column) for column in zip(*rows, strict=True))
    simulate.write_aedat2(tmp_path / "a.aedat", Events(x, y, t, on), "of two\nlines")
    body = b"".join(struct.pack(">II", (127 - y) * 256 + (127 - x) * 2 + (0 if on else 1), t) for x, y, t, on in rows)
    assert (tmp_path / "a.aedat").read_bytes() == b"#!AER-DAT2.0\r\n# of two\\nlines\r\n" + body


def test_upright_for_cifar_dvs(tmp_path):
    """A horizontal edge, bright above, moves: its events lie in rows around 64, and a notch above, on the right."""
    picture = np.zeros((32, 32), np.uint8)
    picture[:16] = 255
    picture[:8, 24:] = 0  # and something that no turn or mirroring leaves as it is
    (tmp_path / "source/ship").mkdir(parents=True)
    Image.fromarray(picture).save(tmp_path / "source/ship/a.png")
    made = simulate.simulate_folder(tmp_path / "source", tmp_path / "raw")
    path = tmp_path / "raw/ship/cifar10_ship_0.aedat"
    assert made["events"] == len(read(path))
    upright = CifarDvs(resolve({"dataset": "cifar-dvs"}, environment={}), expected={"sensor": [128, 128]}).read(path)
    counts = np.zeros((128, 128), int)
    np.add.at(counts, (upright.y, upright.x), 1)
    assert counts[56:72, 8:120].sum() > 0.5 * counts.sum()
    assert counts[:24, 88:104].sum() > 10 * counts[:24, 24:40].sum()


def test_a_recording_depends_on_seed_class_and_image_alone(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "pen"):
        (tmp_path / "source" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "source" / name / f"{i}.png")
    content = {}
    for out, options in {"all": {}, "few": {"per_class": 1}, "other": {"per_class": 1, "seed": 1}}.items():
        simulate.simulate_folder(tmp_path / "source", tmp_path / out, **options)
        files = sorted((tmp_path / out).rglob("*.aedat"))
        content[out] = {str(path.relative_to(tmp_path / out)): path.read_bytes()[-8000:] for path in files}
    assert list(content["all"]) == [f"{name}_{k}.aedat" for name in ("cat/cifar10_cat", "pen/pen") for k in (0, 999)]
    assert content["few"].items() < content["all"].items()
    assert content["other"].keys() == content["few"].keys()
    assert not content["other"].items() & content["few"].items()
