"""No command loses a file of the user: outputs given by mistake end with one message, and everything is as it was."""

import json
import shutil

import pytest

from lsgcli.store import checkpoint
from lsgcli.store.rundir import LOGS
from tests.exports import exported


@pytest.fixture
def run(lsg, home):
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
    content = checkpoint.read(home / "a.safetensors")
    places = {"cache_dir": str(home / "canary"), "data_dir": str(home), "width_from": str(home / "notes.txt")}
    content.config["settings"] |= {**places, "workers": 1 << 20, "threads": 1024, "device": "cuda:7"}
    checkpoint.save(home / "forged.safetensors", content)
    before = contents(home)
    status, _, err = run("eval", "forged.safetensors", "--data-dir", images)
    assert status == 0, err
    assert contents(home) == before
    assert not (home / "canary").exists()


def test_a_logger_names_its_source_when_config_json_alone_asks_for_it(lsg, trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    config = json.loads((run / "config.json").read_text())
    config["settings"]["log"] = "csv"
    (run / "config.json").write_text(json.dumps(config))
    result = lsg("train", "--resume", run, "--epochs", "5", status=0)
    assert "--log csv: as in config.json" in result.stderr
    assert (run / LOGS / "metrics.csv").exists()
    assert "as in config.json" not in lsg("train", "--resume", run, "--epochs", "6", "--log", "csv").stderr


def test_a_run_directory_may_be_a_link(train, tmp_path):
    """To another disk: it is what the user named."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    assert train("--out", tmp_path / "run").exit_code == 0
    assert (tmp_path / "disk" / "best.safetensors").exists()


@pytest.mark.parametrize(("below", "options", "status"), [
    ("train/x", [], 2), ("", [], 0), ("", ["--split", "stratified"], 2),
])  # fmt: skip
def test_a_run_in_the_data_would_be_a_class(lsg, tiny, images, tmp_path, below, options, status):
    shutil.copytree(images / "train" if options else images, tmp_path / "data")
    before = sorted((tmp_path / "data").rglob("*"))
    words = [*tiny, "--data-dir", tmp_path / "data", *options]
    result = lsg("train", *words, "--out", tmp_path / "data" / below / "run", status=status)
    if status:
        where = (tmp_path / "data" / below.partition("/")[0]).relative_to(tmp_path)
        assert f"run: is inside the folder of the data {tmp_path / where}, where it would be read as a class" in result.stderr
        out = ["--out", tmp_path / "data" / below / "other"]
        assert lsg("ablate", *words, "--grid", "method=fixed,lsg", "--seeds", "0", *out).exit_code == status
        result = lsg("train", *words, "--cache-dir", tmp_path / "data" / below / "cache")
        assert (result.exit_code, "Choose another --cache-dir." in result.stderr) == (status, True)
        assert lsg("tune", *words, "--search", "lr=0.1,0.2", "--val-fraction", "0.2", *out).exit_code == status
        assert sorted((tmp_path / "data").rglob("*")) == before


@pytest.mark.parametrize("below", ["train/cache", "test/cache"])
def test_the_cache_of_other_commands_would_be_a_class(lsg, tiny, trained, images, tmp_path, below):
    shutil.copytree(images, tmp_path / "data")
    before, best = sorted((tmp_path / "data").rglob("*")), trained / "best.safetensors"
    where = ["--data-dir", tmp_path / "data", "--cache-dir", tmp_path / "data" / below]
    for words in (
        ("eval", best),
        ("inspect-gradients", best, "--batches", 1),
        ("export", best, "-o", tmp_path / "net.safetensors", "--verify", 1),
        ("data", "prepare", "--dataset", "image-folder"),
    ):
        result = lsg(*words, *where)
        assert (result.exit_code, "Choose another --cache-dir." in result.stderr) == (2, True), result.stderr
    assert sorted((tmp_path / "data").rglob("*")) == before
