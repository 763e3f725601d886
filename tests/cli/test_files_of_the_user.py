"""No command loses a file of the user: outputs given by mistake end with one message, and everything is as it was."""

import json
import shutil

import pytest

from lsgcli.store import checkpoint
from tests.exports import exported


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
    (["inspect-gradients", "a.safetensors", "--plot", "new.png"], "suffix .png, expected a folder"),
    (["export", "A/best.safetensors", "-o", "B/best.safetensors", "--force"], "belongs to the run in B"),
    (["export", "a.safetensors", "-o", "a.safetensors"], "a.safetensors, which the command reads"),
    (["ablate", "--collect", ".", "--plot", "."], "sheet.png: the file exists"),
    (["data", "show", "--dataset", "digits-dvs", "-o", "sheet.png"], "-o sheet.png: the file exists"),
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
