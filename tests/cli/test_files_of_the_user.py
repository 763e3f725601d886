"""No command loses a file of the user: outputs given by mistake end with one message, and everything is as it was."""

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lsgcli.store import checkpoint
from tests.exports import exported


class Attack:
    """Creates the file ``canary`` where it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("canary"),)


@pytest.fixture
def run(lsg, home):
    """Run a command in ``home``: ``run("export", ...)`` -> (exit status, stdout, stderr)."""

    def run(*arguments):
        result = lsg(*arguments)
        assert "Traceback" not in result.stderr
        return result.exit_code, result.stdout, result.stderr

    return run


@pytest.fixture
def home(tmp_path, trained, monkeypatch):
    """The working directory: two runs, a checkpoint outside of them, a page, pictures and prose."""
    home = tmp_path / "home"
    for name in ("A", "B"):
        shutil.copytree(trained, home / name)
    shutil.copy(trained / "best.safetensors", home / "a.safetensors")
    (home / "page.html").write_text("<p>mine</p>")
    (home / "notes.txt").write_text("mine")
    (home / "sheet.png").write_bytes(b"\x89PNG\r\n")
    (home / "images" / "cats").mkdir(parents=True)
    (home / "images" / "SHA256SUMS").write_text("mine")
    monkeypatch.chdir(home)
    return home


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# tests/unit/system/test_files.py has the rule; here is that each command keeps it.
OUTPUTS = [
    (["inspect-gradients", "a.safetensors", "--html", "B/report.html", "--force"], "belongs to the run in B"),
    (["inspect-gradients", "a.safetensors", "--plot", "."], "sheet.png: the file exists"),
    (["export", "A/best.safetensors", "-o", "B/best.safetensors", "--force"], "belongs to the run in B"),
    (["export", "a.safetensors", "-o", "a.safetensors"], "a.safetensors, which the command reads"),
    (["ablate", "--collect", ".", "--plot", "."], "sheet.png: the file exists"),
    (["data", "show", "--dataset", "digits-dvs", "-o", "sheet.png"], "-o sheet.png: the file exists"),
    (["data", "simulate", "A", "images"], "OUT images: the folder contains files"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "message"), OUTPUTS)
def test_outputs(run, home, command, message):
    before = contents(home)
    status, out, err = run(*command)
    assert (status, out) == (2, "")
    assert message in err
    assert contents(home) == before


def test_only_a_run_is_a_run(run, home):
    """A folder of `lsg export --format hf` has a config.json, too."""
    exported(home / "a.safetensors", "hf", home / "hf")
    (home / "hf" / "report.html").write_text("mine")
    before = contents(home)
    for command in (["--resume", "hf"], ["--out", "hf", "--force"]):
        status, out, err = run("train", *command)
        assert (status, out) == (2 if "--resume" in command else 6, "")
        assert "hf: found no config.json written by `lsg train`" in err or "hf: is not empty and not a run" in err
    status, out, err = run("ablate", "--collect", ".", "--json")
    assert status == 0, err
    assert [row["accuracies"] for row in json.loads(out)["rows"]] == [
        [json.loads((home / "A" / "result.json").read_text())["accuracy"]]
    ]
    assert "2 runs have the same settings and seed 0: A is used, B ignored." in json.loads(out)["notes"]
    assert contents(home) == before


def test_data_run_nothing(run, home):
    """Pickles where CIFAR-10 has its batches, and in an array of objects."""
    cifar = home / "cifar-10-batches-py"
    cifar.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (cifar / name).write_bytes(pickle.dumps(Attack()))
    (home / "recordings").mkdir()
    np.savez(home / "recordings" / "a.npz", x=np.array([Attack()], dtype=object), y=[0], t=[0], p=[0])
    before = contents(home)
    for command in (["--dataset", "cifar10", "--data-dir", "."], ["recordings/a.npz"]):
        status, _, err = run("data", "info", *command)
        assert status == 3, err
    assert contents(home) == before


@pytest.mark.parametrize("command", [["eval"], ["predict"], ["inspect-gradients"]])
def test_no_command_loads_a_program(run, home, command):
    """torch.export.load would run the pickle in it."""
    with zipfile.ZipFile(home / "bad.pt2", "w") as archive:
        archive.writestr("archive/data/sample_inputs/model.pt", pickle.dumps(Attack()))
    before = contents(home)
    status, out, err = run(*command, "bad.pt2", *(["sheet.png"] if command == ["predict"] else []))
    assert (status, out) == (4, "")
    assert "bad.pt2: found" in err
    assert contents(home) == before


def test_a_checkpoint_does_not_say_where_files_are(run, home, images):
    """Nor how many processes and threads there are."""
    content = checkpoint.read(home / "a.safetensors")
    places = {"cache_dir": str(home / "canary"), "data_dir": str(home), "width_from": str(home / "notes.txt")}
    content.config["settings"] |= {**places, "workers": 1 << 20, "threads": 1024, "device": "cuda:7"}
    checkpoint.save(home / "forged.safetensors", content)
    before = contents(home)
    status, _, err = run("eval", "forged.safetensors", "--data-dir", images)
    assert status == 0, err
    assert contents(home) == before
    assert not (home / "canary").exists()


def test_a_sheet_replaces_no_image_of_its_data_set(lsg, images, tmp_path):
    shutil.copytree(images, tmp_path / "data")
    image = next(path for path in sorted((tmp_path / "data").rglob("*.png")))
    before = image.read_bytes()
    result = lsg("data", "show", "--dataset", "image-folder", "--data-dir", tmp_path / "data", "-o", image, "--force", status=2)
    assert "which the command reads" in result.stderr
    assert image.read_bytes() == before
