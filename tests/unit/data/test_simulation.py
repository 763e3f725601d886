import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lsgcli.data import camera, manifest, parallel, simulate
from lsgcli.data.datasets.cifar_dvs import CifarDvs
from lsgcli.data.readers import base as readers
from lsgcli.data.simulate import MODEL, numbers, shown, simulate_folder
from lsgcli.errors import ConfigError, DataError
from lsgcli.system import files
from tests.unit.data.conftest import unchanged


def pictures(root, classes=("cat", "pen"), count=3):
    rng = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Images, and a camera that records them for a tenth of the time; worker processes have the usual one."""
    monkeypatch.setattr(simulate, "MODEL", camera.Camera(120_000, frames=9, amplitude=4.0, threshold=0.2, around="edge"))
    return pictures(tmp_path / "source")


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("count", [1, 2, 5, 7, 9, 10, 60, 999, 1000, 1001, 3000])
def test_numbers_are_spread(count):
    found = numbers(count)
    assert len(set(found)) == count
    assert found == sorted(found)
    if count >= 1000:
        assert found == list(range(count))
    else:
        assert max(found) < 1000
        assert count == 1 or max(found) >= 900  # the test part of the default split


def test_names_and_folders(source, tmp_path):
    result = simulate_folder(source, tmp_path / "out", per_class=2, workers=0)
    assert result["classes"] == {"cat": 2, "pen": 2}
    assert (result["recordings"], result["kept"]) == (4, 0)
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.aedat"))
    assert found == ["cat/cifar10_cat_0.aedat", "cat/cifar10_cat_999.aedat", "pen/pen_0.aedat", "pen/pen_999.aedat"]
    assert result["events"] == sum(len(readers.read(tmp_path / "out" / name)) for name in found)
    assert unchanged(tmp_path / "out")
    assert set(manifest.read(tmp_path / "out")) == {*found, "simulation.json"}


def test_a_recording_depends_on_seed_class_and_image_alone(tmp_path, monkeypatch):
    source = pictures(tmp_path / "source", count=2)
    simulate_folder(source, tmp_path / "a", workers=0)
    monkeypatch.setattr(parallel, "PROBE", -1.0)
    monkeypatch.setattr(parallel, "WORTH", -1.0)
    simulate_folder(source, tmp_path / "b", workers=2)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    simulate_folder(source, tmp_path / "fewer", per_class=1, workers=0)
    assert (tmp_path / "fewer/cat/cifar10_cat_0.aedat").read_bytes() == (tmp_path / "a/cat/cifar10_cat_0.aedat").read_bytes()
    simulate_folder(source, tmp_path / "other", per_class=1, seed=1, workers=0)
    one, other = (readers.read(tmp_path / name / "cat/cifar10_cat_0.aedat") for name in ("a", "other"))
    assert not np.array_equal(one.t, other.t)


def ramp(axis):
    """Bright in the first half along an axis, dark in the second."""
    image = np.zeros((32, 32), np.uint8)
    image[(slice(None),) * axis + (slice(0, 16),)] = 255
    return image


def test_upright_for_cifar_dvs(tmp_path, config):
    """A horizontal edge, bright above, moves: its events lie in rows around 64, in every column, and as image and path say."""
    (tmp_path / "source/ship").mkdir(parents=True)
    picture = ramp(0)
    picture[:8, 24:] = 0  # and something that no turn or mirroring leaves as it is
    Image.fromarray(picture).save(tmp_path / "source/ship/a.png")
    simulate_folder(tmp_path / "source", tmp_path / "raw", workers=0)
    path = tmp_path / "raw/ship/cifar10_ship_0.aedat"
    upright = CifarDvs(config("cifar-dvs"), expected={"sensor": [128, 128]}).read(path)
    counts = np.zeros((128, 128), int)
    np.add.at(counts, (upright.y, upright.x), 1)
    assert counts[56:72, 8:120].sum() > 0.5 * counts.sum()
    assert counts[:24, 88:104].sum() > 10 * counts[:24, 24:40].sum()  # the notch is above, on the right


def test_colours_become_luminance(tmp_path):
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0], pixels[0, 1], pixels[1, 0], pixels[1, 1] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = shown(tmp_path / "a.png")
    assert found.shape == (128, 128)
    assert found.dtype == np.float32
    corners = found[[0, 0, 127, 127], [0, 127, 0, 127]]
    np.testing.assert_allclose(corners, [0.299, 0.587, 0.114, 1.0], atol=1e-6)
    share = (np.arange(128) + 0.5) / 64 - 0.5  # place between the two pixels' centres
    expected = 0.299 + (0.587 - 0.299) * np.clip(share, 0, 1)
    np.testing.assert_allclose(found[0], expected, atol=2e-3)


def test_finished_recordings_are_kept_and_damaged_ones_made_again(source, tmp_path):
    out = tmp_path / "out"
    simulate_folder(source, out, workers=0)
    before = content(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.aedat")}
    (out / "cat/cifar10_cat_499.aedat").unlink()
    (out / "pen/pen_0.aedat").write_bytes(before["pen/pen_0.aedat"][:-3])
    (out / "pen/.partial-0123-pen_0.aedat").write_bytes(b"left by a killed process")
    result = simulate_folder(source, out, workers=0)
    assert (result["kept"], result["recordings"]) == (4, 6)
    assert content(out) == before
    again = simulate_folder(source, out, workers=0)
    assert (again["kept"], again["events"], again["classes"]) == (6, result["events"], result["classes"])
    made = {path.name for path in times if path.stat().st_mtime_ns != times[path]}
    assert made == {"cifar10_cat_499.aedat", "pen_0.aedat"}


def test_a_stopped_run_does_not_look_finished(source, tmp_path):
    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        simulate_folder(source, out, workers=0, progress=stop)
    assert not (out / manifest.NAME).exists()
    assert simulate_folder(source, out, workers=0)["kept"] == 2
    simulate_folder(source, tmp_path / "whole", workers=0)
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("change", "options", "told"),
    [
        (None, {"seed": 1}, "--seed 0, expected 1"),
        (None, {"per_class": 2}, "--per-class None, expected 2"),
        (lambda source, _: shutil.copy(source / "cat/0.png", source / "cat/9.png"), {}, "--images"),
        (lambda _, out: (out / simulate.NOTE).write_text("[]"), {}, "simulation.json: found a list, expected object"),
        (lambda _, out: (out / simulate.NOTE).unlink(), {}, r"without a simulation\.json"),
    ],
)
def test_recordings_of_another_origin_are_refused(source, tmp_path, change, options, told):
    out = tmp_path / "out"
    simulate_folder(source, out, workers=0)
    if change:
        change(source, out)
    before = content(out)
    with pytest.raises(ConfigError, match=told):
        simulate_folder(source, out, workers=0, **options)
    assert content(out) == before


def test_a_second_process_waits_for_the_first(source, tmp_path, caplog):
    """Otherwise each would remove the temporary files of the other."""
    out = tmp_path / "out"
    out.mkdir()
    with ThreadPoolExecutor(1) as second:
        with files.locked(out / ".lock", ""):
            result = second.submit(simulate_folder, source, out, workers=0)
            until = time.monotonic() + 30
            while not caplog.text and time.monotonic() < until:
                time.sleep(0.01)
            assert "waiting for another process that simulates" in caplog.text
            assert not list(out.rglob("*.aedat"))
        assert result.result(timeout=60)["recordings"] == 6
    assert not (out / ".lock").exists()


def test_touched_or_copied_images_are_the_same(source, tmp_path):
    simulate_folder(source, tmp_path / "out", workers=0)
    os.utime(source / "cat" / "0.png", (1, 1))
    assert simulate_folder(source, tmp_path / "out", workers=0)["kept"] == 6
    assert simulate_folder(Path(shutil.move(source, tmp_path / "elsewhere")), tmp_path / "out", workers=0)["kept"] == 6


def test_out_inside_the_images_is_refused(source):
    for place in (source, source / "cat", source / "new"):
        with pytest.raises(ConfigError, match="is inside the folder of images"):
            simulate_folder(source, place, workers=0)
    assert not (source / "simulation.json").exists()


def test_a_class_may_be_called_train(tmp_path):
    source = pictures(tmp_path / "source", ("train", "tank"), 1)
    assert simulate_folder(source, tmp_path / "out", workers=0)["classes"] == {"tank": 1, "train": 1}


def test_no_images(source, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("missing", "source/cat/0.png", "empty"):
        with pytest.raises(DataError, match=name):
            simulate_folder(tmp_path / name, tmp_path / "out", workers=0)
    (source / "pen/1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"pen/1\.png"):
        simulate_folder(source, tmp_path / "out", workers=0)
    assert not (tmp_path / "out" / manifest.NAME).exists()


@pytest.mark.slow
def test_statistics_are_those_of_cifar10_dvs(shared):
    """About 1.2 s and 200,000 events, from the images that it was made of."""
    root = shared("cifar10-png-dev") / "train"
    images = [path for folder in sorted(root.iterdir()) for path in sorted(folder.iterdir())[::250]]
    counts = []
    for i, path in enumerate(images):
        rng = np.random.Generator(np.random.PCG64(i))
        events = camera.simulate(shown(path), rng, MODEL)
        counts.append(len(events))
        assert 1_150_000 < events.t[-1] - events.t[0] <= 1_200_000
        assert 0.4 < events.on.mean() < 0.6
    assert len(counts) == 40
    assert 160_000 < np.mean(counts) < 250_000
