"""A checkpoint in the directory of a run has the run's data by default."""

import json
import shutil

import pytest
from typer.testing import CliRunner

import lsgcli
from lsgcli.cli.app import app
from lsgcli.errors import DataError
from tests.cli.conftest import TINY
from tests.unit.data.recordings_of import write_nmnist

SETTINGS = ["--dataset", "n-mnist", *TINY, "--epochs", "1", "--batch-size", "4", "-q", "--out"]


def told(result):
    """Lines on stderr, but for the note that the published set has more recordings."""
    return [line for line in result.stderr.splitlines() if "as published" not in line]


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    monkeypatch.setattr("lsgcli.data.datasets.downloaded.fetch", lambda *_: pytest.fail("tried to download"))


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A folder with a run on a few recordings of N-MNIST in the folder ``mine``, given as a relative path."""
    root = tmp_path_factory.mktemp("first")
    write_nmnist(root / "mine", range(10), 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        result = CliRunner().invoke(app, ["train", "--data-dir", "mine", *SETTINGS, str(root / "run")])
    assert result.exit_code == 0, result.stderr
    return root


@pytest.fixture
def run(first, tmp_path):
    """A copy of that run and its data, as if it had been made here."""
    shutil.copytree(first, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace(str(first), str(tmp_path)))
    return tmp_path / "run"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Another working directory, with other data in the default folder."""
    write_nmnist(tmp_path / "other" / "data", range(10), 7)
    monkeypatch.chdir(tmp_path / "other")


def test_every_command_takes_the_data_of_the_run(lsg, run, elsewhere, tmp_path):
    path, named = run / "last.safetensors", [f"data: {tmp_path / 'mine'}, from {run / 'config.json'}"]
    result = json.loads((run / "result.json").read_text())
    accuracy = result.get("test_accuracy_last_fp32", result["test_accuracy_last"])
    done = lsg("eval", path, "--json")
    assert (done.exit_code, told(done)) == (0, named)
    assert json.loads(done.stdout)["samples"] == 40
    assert json.loads(done.stdout)["accuracy"] == accuracy
    assert lsgcli.evaluate(path).samples == 40
    flow = lsg("inspect-gradients", path, "--json")
    assert (flow.exit_code, told(flow)) == (0, named)
    assert lsgcli.inspect(path)["layers"] == json.loads(flow.stdout)["layers"]
    export = lsg("export", path, "-o", run / "net.safetensors", "--verify", 50, "--json", status=0)
    assert named[0] in told(export)
    assert json.loads(export.stdout)["samples"] == 40
    graph = lsg("export", path, "-o", run / "net.nir")
    assert (graph.exit_code, graph.stderr) == (0, "")
    assert told(lsg("eval", run / "net.nir")) == named


def test_given_folders_take_precedence(lsg, run, elsewhere, tmp_path):
    path = run / "last.safetensors"
    for options, named in ((["--data-dir", "data"], {}), ([], {"env": {"LSG_DATA_DIR": "data"}})):
        done = lsg("eval", path, "--json", *options, **named)
        assert (done.exit_code, told(done)) == (0, [])
        assert json.loads(done.stdout)["samples"] == 70
    done = lsg("eval", path, "--dataset", "event-folder")  # the run's folder is that of its own data set
    assert done.exit_code == 2
    assert "--data-dir: not given" in done.stderr


def test_a_checkpoint_alone_has_no_folder(lsg, run, elsewhere, tmp_path):
    shutil.copy(run / "last.safetensors", tmp_path / "alone.safetensors")
    assert json.loads(lsg("eval", tmp_path / "alone.safetensors", "--json").stdout)["samples"] == 70
    assert b"mine" not in (run / "last.safetensors").read_bytes()


def test_analysis_never_downloads(lsg, run, tmp_path, monkeypatch):
    alone = tmp_path / "alone.safetensors"
    shutil.copy(run / "last.safetensors", alone)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for words, folder in (([], "data"), (["--data-dir", "tyop"], "tyop")):
        for command in (["eval"], ["inspect-gradients"], ["export", "-o", "net.safetensors", "--verify", "5"]):
            done = lsg(command[0], alone, *command[1:], *words, status=3)
            assert done.stdout == ""
            assert [line[:7] for line in done.stderr.splitlines() if not line.startswith("  ")] == ["error: "], command
            assert f"{folder}/NMNIST: found no data, expected the content of " in done.stderr
            assert f"`lsg data prepare --dataset n-mnist --data-dir {folder}` downloads" in done.stderr
            assert ("test.zip" in done.stderr, "--data-dir" in done.stderr) == (True, True)
    with pytest.raises(DataError, match=r"test\.zip"):
        lsgcli.evaluate(alone)
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_data_dir_that_does_not_exist_is_no_place_for_a_download(lsg, run, tmp_path, monkeypatch):
    monkeypatch.setattr("lsgcli.data.datasets.libraries.LibraryDataset.open", lambda *_, **__: pytest.fail("looked for data"))
    for words in (["n-mnist"], ["n-mnist", "--dry-run"], ["cifar10"], ["tonic:NMNIST", "-T", "2"]):
        done = lsg("train", *SETTINGS[2:], tmp_path / "new", "--dataset", *words, "--data-dir", "a typo", status=3)
        assert "a typo: found no such folder" in done.stderr
        assert f"`lsg data prepare --dataset {words[0]} --data-dir 'a typo'`" in done.stderr
    assert not (tmp_path / "a typo").exists()


def test_the_default_folder_is_that_of_the_training(lsg, run, tmp_path, elsewhere, monkeypatch):
    lsg("train", *SETTINGS, tmp_path / "two", status=0)
    monkeypatch.chdir(tmp_path)
    assert json.loads(lsg("eval", tmp_path / "two" / "last.safetensors", "--json").stdout)["samples"] == 70


def test_data_that_were_moved(lsg, run, elsewhere, tmp_path, monkeypatch):
    path = run / "last.safetensors"
    (tmp_path / "mine").rename(tmp_path / "other" / "mine")
    assert lsg("eval", path, "-q").exit_code == 0  # together with the working directory
    (tmp_path / "other" / "mine").rename(tmp_path / "gone")
    done = lsg("eval", path, status=3)
    assert f"{tmp_path / 'mine'}: found no such folder" in done.stderr
    assert "--data-dir" in done.stderr


def test_a_damaged_config_leaves_the_checkpoint_usable(lsg, run, elsewhere):
    facts = json.loads((run / "config.json").read_text())
    facts["settings"]["epochs"] = "many"
    (run / "config.json").write_text(json.dumps(facts))
    done = lsg("eval", run / "last.safetensors", "--json")
    assert json.loads(done.stdout)["samples"] == 70
    assert "epochs: found 'many'" in done.stderr


def test_resuming_elsewhere(lsg, run, elsewhere):
    lsg("train", "--resume", run, "--epochs", "2", "-q", status=0)
    assert json.loads((run / "config.json").read_text())["samples"]["test"] == 40
