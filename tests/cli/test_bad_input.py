"""Bad input: its exit status, one clear message, no traceback, nothing left behind."""

import contextlib
import shutil

import numpy as np
import pytest

from lsgcli.store.rundir import RunDir, write_config
from tests import tiny
from tests.cli.conftest import TINY


def image_folder(images, tmp_path):
    shutil.copytree(images, tmp_path / "data")
    return tmp_path / "data"


def unknown_data_set(images, tmp_path, stack):
    return ["--dataset", "cifra10"], 2, "did you mean cifar10"


def empty_folder(images, tmp_path, stack):
    (tmp_path / "data").mkdir()
    return ["--dataset", "image-folder", "--data-dir", tmp_path / "data"], 3, "data"


def one_class(images, tmp_path, stack):
    data = image_folder(images, tmp_path)
    for split in ("train", "test"):
        shutil.rmtree(data / split / "red")
        shutil.rmtree(data / split / "blue")
    return ["--dataset", "image-folder", "--data-dir", data], 3, "at least 2"


def no_timesteps(images, tmp_path, stack):
    return ["-T", "0"], 2, "-T: found 0, expected at least 1"


def corrupt_image(images, tmp_path, stack):
    data = image_folder(images, tmp_path)
    (data / "train" / "red" / "03.png").write_bytes(b"\x89PNG\r\n\x1a\nnot an image")
    return ["--dataset", "image-folder", "--data-dir", data], 3, "03.png"


def truncated_aedat(images, tmp_path, stack):
    for split in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            body = b"".join(bytes([0, 0, i, i, 0, 0, 0, i]) for i in range(100))
            (folder / "one.aedat").write_bytes(b"#!AER-DAT2.0\r\n" + body)
            (folder / "two.aedat").write_bytes(b"#!AER-DAT2.0\r\n" + body[: -3 if name == "b" else None])
    return ["--dataset", "event-folder", "--data-dir", tmp_path / "data"], 3, "two.aedat"


def unwritable_directory(images, tmp_path, stack):
    return ["--out", "/proc/nowhere/run"], 7, "/proc/nowhere/run"


def directory_in_use(images, tmp_path, stack):
    run = stack.enter_context(RunDir(tmp_path / "run"))
    write_config(run, tiny.config(), {})
    return ["--dataset", "image-folder", "--data-dir", images, "--out", tmp_path / "run", "--force"], 6, "another process"


def misspelt_key(images, tmp_path, stack):
    (tmp_path / "run.toml").write_text("learning_rat = 0.1\nbach_size = 4\n")
    return ["--config", tmp_path / "run.toml"], 2, "batch_size"


def size_that_the_network_cannot_have(images, tmp_path, stack):
    return ["--dataset", "image-folder", "--data-dir", images, "--arch", "vggsnn", "--size", "20"], 2, "multiple of 16"


def absent_device(images, tmp_path, stack):
    return ["--dataset", "image-folder", "--data-dir", images, "--device", "cuda:7"], 2, "--device"


def more_parts_than_samples(images, tmp_path, stack):
    options = ["--dataset", "image-folder", "--data-dir", images, "--batch-size", "4", "--accumulate", "5"]
    return options, 2, "--accumulate: found 5, expected at most the batch size, 4"


CASES = [
    unknown_data_set,
    empty_folder,
    one_class,
    no_timesteps,
    corrupt_image,
    truncated_aedat,
    unwritable_directory,
    directory_in_use,
    misspelt_key,
    size_that_the_network_cannot_have,
    absent_device,
    more_parts_than_samples,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_train(lsg, images, tmp_path, case):
    with contextlib.ExitStack() as stack:
        check(lsg, tmp_path, case, *case(images, tmp_path, stack))


def check(lsg, tmp_path, case, options, status, message):
    tiny_options = [] if case in (size_that_the_network_cannot_have, no_timesteps) else TINY
    before = sorted(p for p in tmp_path.rglob("*") if "cache" not in p.parts)
    result = lsg("train", *tiny_options, *options)
    assert result.exit_code == status, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""
    assert sorted(p for p in tmp_path.rglob("*") if "cache" not in p.parts) == before


def test_one_value_of_each_channel(lsg, images):
    data = ("--dataset", "image-folder", "--data-dir", images, "--arch", "mlp", "-T", "1", "--size", "16", "--batch-size", "1")
    result = lsg("train", *data, "--dry-run")
    assert result.exit_code == 2
    assert "found one value per channel" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["eval", "inspect-gradients", "export"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_wrong_checkpoint(lsg, tmp_path, command, content):
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    result = lsg(command, path, *(["-o", "y.onnx"] if command == "export" else []))
    assert result.exit_code == 4
    assert "x.safetensors" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "y.onnx").exists()


def test_data_of_other_classes(lsg, trained, images, tmp_path):
    data = image_folder(images, tmp_path)
    (data / "test" / "red").rename(data / "test" / "purple")
    result = lsg("eval", trained / "best.safetensors", "--data-dir", data)
    assert result.exit_code == 3
    assert "purple" in result.stderr


def test_recordings_of_another_sensor(lsg, tmp_path):
    rng = np.random.default_rng(0)
    for folder, side in (("small", 32), ("large", 64)):
        for split in ("train", "test"):
            for name in ("a", "b"):
                (tmp_path / folder / split / name).mkdir(parents=True)
                for index in range(8):
                    x, y = rng.integers(0, side, (2, 200))
                    events = {"x": x, "y": y, "t": np.arange(200) * 100, "p": rng.integers(0, 2, 200), "sensor": [side, side]}
                    np.savez(tmp_path / folder / split / name / f"{index}.npz", **events)
    path = lsg("train", "--dataset", "event-folder", "--data-dir", tmp_path / "large", *TINY, "-q").stdout.strip()
    assert lsg("eval", path, "--data-dir", tmp_path / "large").exit_code == 0
    result = lsg("eval", path, "--data-dir", tmp_path / "small")
    assert result.exit_code == 3
    assert "sensor [32, 32], expected [64, 64]" in result.stderr
