"""Links and data folders that a user names; what a command finds in them, row 51 of the fault table replaces by links."""

import json
import shutil

import pytest

from lsgcli.store.rundir import LOGS


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
