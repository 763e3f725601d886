"""`--log`: every log equals the records of the run, also after the process was killed, and no logger stops a run."""

import csv
import os
import signal
import time
from functools import partial
from types import SimpleNamespace

import pytest

from benchmarks.stress.services import INSTALLED
from lsgcli.loggers.trackers import CSV, MLflow
from lsgcli.runs.report import Epoch
from lsgcli.system import schema


def points(run):
    """Name -> [(epoch, value)], from the files of the run, and without the code of the loggers."""
    found = {}
    for line in schema.read_lines(run / "metrics.jsonl"):
        for name in line.keys() - {"epoch"}:
            found.setdefault(name, []).append((line["epoch"], line[name]))
    for line in schema.read_lines(run / "gradient-flow.jsonl"):
        for layer in line["layers"]:
            for name in layer.keys() - {"name"}:
                found.setdefault(f"{name}/{layer['name']}", []).append((line["epoch"], layer[name]))
    return found


def of_csv(run):
    with open(run / "logs" / "metrics.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {name: [(int(row["epoch"]), float(row[name])) for row in rows] for name in rows[0] if name != "epoch"}


def of_tensorboard(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run / "logs" / "tensorboard"))
    read.Reload()
    return {name: [(event.step, event.value) for event in read.Scalars(name)] for name in read.Tags()["scalars"]}


def of_wandb(run):
    from wandb.proto.wandb_internal_pb2 import Record

    found, artifacts = {}, set()
    (file,) = (run / "logs" / "wandb").glob("offline-run-*/*.wandb")
    for record in map(Record.FromString, chunks(file.read_bytes())):
        artifacts |= {entry.path for entry in record.request.log_artifact.artifact.manifest.contents}
        artifacts |= {entry.path for entry in record.artifact.manifest.contents}
        items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        for name in items.keys() & points(run).keys():
            found.setdefault(name, []).append((int(items["_step"]), float(items[name])))
    assert {"report.html", "best.safetensors"} <= artifacts
    return found


def chunks(content):
    """The records of a .wandb file, a log as LevelDB writes it: blocks of 32 KiB, each with parts of records."""
    at, record = 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield record
            record = b""


def of_mlflow(run):
    from mlflow import MlflowClient

    client = MlflowClient("sqlite:///mlflow.db")
    (one,) = client.search_runs([client.get_experiment_by_name("lsg").experiment_id])
    assert one.info.status == "FINISHED"
    names = {file.path for file in client.list_artifacts(one.info.run_id)}
    assert {"report.html", "best.safetensors"} <= names
    return {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(one.info.run_id, name)]
        for name in points(run)
    }


READERS = {"csv": of_csv, "tensorboard": of_tensorboard, "wandb": of_wandb, "mlflow": of_mlflow}


def test_every_log_can_be_read():
    assert READERS.keys() >= set(INSTALLED)


def approximately(expected):
    """TensorBoard stores float32."""
    return {name: [(step, pytest.approx(value, rel=1e-6)) for step, value in own] for name, own in expected.items()}


def test_csv_has_measures_that_the_first_epoch_lacks(tmp_path):
    """A gradient norm may not be finite at first."""
    log = CSV(SimpleNamespace(folder=tmp_path))
    log.epoch(Epoch(0, 0.0, {"train_loss": 1.0}))
    log.epoch(Epoch(1, 1.0, {"train_loss": 0.5, "grad_norm/conv1": 0.1}))
    assert (tmp_path / "metrics.csv").read_text() == "epoch,train_loss,grad_norm/conv1\n0,1.0,\n1,0.5,0.1\n"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of mlflow
@pytest.mark.skipif("mlflow" not in INSTALLED, reason="needs mlflow")
def test_mlflow_says_which_epochs_it_has(tmp_path, monkeypatch):
    """A resumed run does not send them again."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    source = SimpleNamespace(id="1", name="run", settings={})
    MLflow(source).epoch(Epoch(0, 0.0, {"train_loss": 1.0, "val_loss": 2.0}))
    assert MLflow(source).logged == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the libraries that read the logs
def test_killed_twice_and_resumed(process, tiny, tmp_path, monkeypatch):
    for name, folder in {"WANDB_DATA_DIR": "staging", "WANDB_CACHE_DIR": "wandb"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    run = tmp_path / "run"
    start = partial(process, "train", *tiny, "--epochs", "7", "--out", run, "--log", ",".join(INSTALLED))
    for count in (2, 4):  # epochs when it is killed, while it copies the last of them
        killed = start()
        until = time.monotonic() + 120
        while len(schema.read_lines(run / "metrics.jsonl")) < count and time.monotonic() < until:
            assert killed.poll() is None, killed.stderr.read()
            time.sleep(0.005)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
    last = start()
    out, err = last.communicate(timeout=120)
    assert last.returncode == 0, err
    assert out.strip() == str(run / "best.safetensors")
    assert "--log" not in err
    expected = points(run)
    assert [step for step, _ in expected["train_loss"]] == list(range(7))
    for name in INSTALLED:
        found = READERS[name](run)
        assert {key: found[key] for key in expected} == approximately(expected), name


def test_a_table_of_all_epochs(train, lsg, tmp_path):
    """Row 45 of the fault table has loggers that fail."""
    train("--out", tmp_path / "run", "--log", "csv", "-q", status=0)
    assert of_csv(tmp_path / "run") == points(tmp_path / "run")
    longer = lsg("train", "--resume", tmp_path / "run", "--epochs", "3", "--log", "csv", "-q")  # not one of its settings
    assert longer.exit_code == 0, longer.stderr
    assert of_csv(tmp_path / "run") == points(tmp_path / "run")
    train("--out", tmp_path / "run", "--force", "-q", "--epochs", "1", status=0)
    assert not (tmp_path / "run" / "logs").exists()


def test_a_missing_package(train, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = train("--log", "tensorboard", status=2)
    assert "pip install 'lsgcli[tensorboard]'" in result.stderr
