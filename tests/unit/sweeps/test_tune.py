"""The search of `lsg tune`: what is searched, and what becomes of trials that end before their time. Runs are made up."""

import contextlib
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from optuna.storages import RDBStorage
from sqlalchemy import Engine, NullPool, event

from lsgcli.config.fields import formerly
from lsgcli.config.resolve import resolve
from lsgcli.errors import ConfigError, DivergedError, RunInUseError, Stopped, StorageError
from lsgcli.runs import run
from lsgcli.store.rundir import CONFIG, LOCK, METRICS, RESULT, SCHEMA, read_metrics
from lsgcli.sweeps import schedule, search
from lsgcli.sweeps.jobs import name_of
from lsgcli.sweeps.launchers import Submitted, job_of
from lsgcli.sweeps.schedule import InProcess
from lsgcli.sweeps.tune import STUDY, Trials, conclude, open_study
from lsgcli.system import files
from lsgcli.training.signals import StopRequest
from tests.unit.sweeps.helpers import Cluster

WIDE = {"width_multiplier": 0.03125, "size": 16, "T": 2, "epochs": 3}


@pytest.fixture(scope="module", autouse=True)
def empty_database(tmp_path_factory):
    """A database with Optuna's tables, which is copied sooner than created; and none waits for the disk."""

    def connected(connection, record):
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", connected)
    path = tmp_path_factory.mktemp("empty") / STUDY
    RDBStorage(f"sqlite:///{path}", {"poolclass": NullPool})
    yield path
    event.remove(Engine, "connect", connected)


def searched(*texts, **settings):
    return search.plan({**WIDE, **settings}, texts, None)


def accuracies(config):
    """Validation accuracy of each epoch: higher with a higher learning rate."""
    return [config.lr * (epoch + 1) / config.epochs for epoch in range(config.epochs)]


@pytest.fixture
def train(monkeypatch):
    """Replace the training by a formula; ``train.calls`` are (path, settings, whether resumed), ``train.before`` runs first."""

    def fake(config, path, emit, stop, *, existing, test, page=None):
        assert not test
        fake.calls.append((path, config, existing == "resume"))
        files.make_folder(path)
        files.write_json(path / CONFIG, {"schema": SCHEMA, "settings": config.to_dict()})
        try:
            for epoch, accuracy in enumerate(accuracies(config)):
                fake.before(config, path, stop)
                if epoch == len(read_metrics(path)):
                    files.append_json_line(path / METRICS, {"epoch": epoch, "val_accuracy": accuracy})
                emit({"event": "epoch", "epoch": epoch, "val_accuracy": accuracy})
        except DivergedError as error:
            files.write_json(path / RESULT, {"accuracy": None, "diverged": error.message})
            raise
        files.write_json(path / RESULT, {"accuracy": None, "best_accuracy": max(accuracies(config))})

    fake.calls, fake.before = [], lambda config, path, stop: None
    monkeypatch.setattr(run, "train", fake)
    monkeypatch.setattr(InProcess, "pause", 0.01)
    return fake


@dataclass
class Worker:
    """A process of a study."""

    trials: Trials
    stop: StopRequest

    study = property(lambda self: self.trials.study)
    root = property(lambda self: self.trials.root)

    def complete(self):
        display = lambda title: contextlib.nullcontext(lambda record: None)  # noqa: E731
        schedule.run(self.trials, InProcess(self.trials, self.stop, display, None), self.stop)

    def conclude(self):
        return conclude(self.study, self.trials.search, self.root)


@pytest.fixture
def worker(tmp_path, empty_database):
    """``worker(search, trials)``: a process of the study in tmp_path."""

    def make(planned, trials, prune=False):
        if not (tmp_path / "tune").exists():
            files.make_folder(tmp_path / "tune")
            shutil.copy(empty_database, tmp_path / "tune")
        opened = open_study(planned, tmp_path / "tune", prune)
        return Worker(Trials(opened, planned, tmp_path / "tune", trials), StopRequest())

    return make


def states(worker):
    return [trial.state.name for trial in worker.study.get_trials()]


@pytest.mark.parametrize(
    ("text", "values", "scale"),
    [
        ("lr=log:1e-3:0.3", (1e-3, 0.3), "log"),
        ("weight-decay=0:1", (0.0, 1.0), "linear"),
        ("batch_size=16:64", (16, 64), "linear"),
        ("batch_size=log:16:64", (16, 64), "log"),
        ("lr=0.1,0.2", (0.1, 0.2), ""),
        ("method=lsg,fixed", ("lsg", "fixed"), ""),
        ("deterministic=no,yes", (False, True), ""),
    ],
)
def test_grammar(text, values, scale):
    (axis,) = searched(text).axes.values()
    assert (axis.values, axis.scale) == (values, scale)


def test_all_problems_at_once():
    wrong = {
        "lr": "expected KEY=LOW:HIGH",
        "speed=1:2": "unknown setting 'speed'",
        "seed=0:9": "seed, expected another setting",
        "val_fraction=0.1:0.2": "changes what the accuracy is measured on",
        "workers=0:2": "does not affect results",
        "method=lsg,lgs": "did you mean lsg",
        "loss=ce:tet": "unknown loss 'ce:tet'",
        "momentum=0.5:1": "momentum: found 1.0, expected at least 0 and below 1",
        "batch_size=0.5:2": "batch_size: found '0.5', expected an integer",
        "clip_grad=1:1": "expected LOW:HIGH with LOW below HIGH",
        "epochs=1:2:3": "expected LOW:HIGH with LOW below HIGH",
        "weight_decay=log:0:1": "expected LOW above 0 on a logarithmic scale",
        "T=2": "-T: cannot be given, because --search varies it",
        "arch=vggsnn": "expected several different values",
        "surrogate=rectangular,rectangular": "expected several different values",
        "depth=9:19": "found depth=9:19, expected a list of values, because not every number in between is valid",
    }
    with pytest.raises(ConfigError) as error:
        searched(*wrong)
    for line in wrong.values():
        assert line in error.value.message
    assert len(error.value.message.splitlines()) == len(wrong) + 2  # of T and epochs


def test_a_setting_with_an_effect_within_a_range_is_kept():
    """At mixup = 0, the low end, mix_prob has none."""
    found = searched("mixup=0:1", "cutmix=0,1", mix_prob=0.5)
    assert found.config({"mixup": 0.7, "cutmix": 0.0}).mix_prob == 0.5
    assert set(searched("mixup=0:1", "mix_prob=0.5:1").axes) == {"mixup", "mix_prob"}
    with pytest.raises(ConfigError, match=r"--search: --width: found 2\.0, which has no effect"):
        searched("width=0.5:2", method="lsg")
    with pytest.raises(ConfigError, match="val_fraction: found 0"):
        searched("lr=0.1:0.2", val_fraction=0.0)


def test_only_axes_with_an_effect_are_searched(train, worker):
    mine = worker(searched("width=0.5:2", "decay_per=layer,channel", "method=lsg,fixed"), 6)
    mine.complete()
    found = {frozenset(trial.params) for trial in mine.study.trials}
    assert found == {frozenset({"method", "width"}), frozenset({"method", "decay_per"})}
    for trial, (_, config, _) in zip(mine.study.trials, train.calls, strict=True):
        assert {name: getattr(config, name) for name in trial.params} == trial.params
        if config.method == "lsg":
            assert config.width == 1.0
        else:
            assert config.decay_per == "layer"
            assert 0.5 <= config.width <= 2


def test_values_do_not_depend_on_interruptions(train, worker, tmp_path):
    mine = worker(searched("lr=log:1e-3:0.3", "batch_size=2:64"), 5)
    mine.complete()
    whole = [(trial.params, trial.value) for trial in mine.study.trials]
    assert len({params["lr"] for params, _ in whole}) == 5
    (tmp_path / "tune").rename(tmp_path / "whole")
    for trials in (1, 4, 5):
        parts = worker(searched("lr=log:1e-3:0.3", "batch_size=2:64"), trials)
        parts.complete()
    assert [(trial.params, trial.value) for trial in parts.study.trials] == whole


def test_the_result(train, worker, tmp_path):
    planned = searched("lr=log:1e-3:0.3", "method=lsg,fixed", "width=0.5:2", cache_dir='a "b" \\ é', seed=3)
    mine = worker(planned, 4)
    mine.complete()
    found = mine.conclude()
    best = max(mine.study.trials, key=lambda trial: trial.value)
    assert (found["best"]["trial"], found["best"]["val_accuracy"]) == (best.number, best.value)
    assert [record["val_accuracy"] for record in found["trials"]] == sorted((t.value for t in mine.study.trials), reverse=True)
    assert {record["epochs"] for record in found["trials"]} == {3}
    (config,) = (config for path, config, _ in train.calls if path.name == str(best.number))
    assert resolve({}, file=mine.root / "best.toml", environment={}) == config
    assert tomllib.loads((mine.root / "best.toml").read_text())["cache_dir"] == 'a "b" \\ é'


def test_pruned_after_an_epoch_below_the_median(train, worker):
    mine = worker(searched("lr=log:1e-3:0.3"), 8, prune=True)
    mine.complete()
    assert {"PRUNED", "COMPLETE"} == set(states(mine))
    for trial in mine.study.trials:
        earlier = [t for t in mine.study.trials[: trial.number] if t.state.name == "COMPLETE"]
        below = len(earlier) >= 5 and trial.intermediate_values[0] < np.median([t.intermediate_values[0] for t in earlier])
        assert (trial.state.name == "PRUNED") == below
        assert len(trial.intermediate_values) == (1 if below else 3)
    records = mine.conclude()["trials"]
    assert [record["state"] for record in records] == sorted(record["state"] for record in records)  # finished before pruned
    assert {record["epochs"] for record in records if record["state"] == "pruned"} == {1}


@pytest.mark.parametrize("error", [DivergedError("loss nan"), ConfigError("size: found 17"), MemoryError()])
def test_a_trial_that_fails_by_its_values(train, worker, error):
    def before(config, path, stop):
        if path.name == "1":
            raise error

    train.before = before
    mine = worker(searched("lr=0.1:0.2"), 3)
    mine.complete()
    assert states(mine) == ["COMPLETE", "PRUNED", "COMPLETE"]
    record = mine.conclude()["trials"][-1]
    assert (record["trial"], record["state"], record["val_accuracy"]) == (1, "failed", None)
    assert record["problem"] == (str(error) or "out of memory")


@pytest.mark.parametrize("error", [Stopped("stopped by SIGTERM"), StorageError("disk full"), KeyboardInterrupt()])
def test_a_trial_that_was_stopped_is_continued(train, worker, error):
    def before(config, path, stop):
        if path.name == "1" and not before.done:
            before.done = True
            raise error

    train.before, before.done = before, False
    planned = searched("lr=0.1:0.2")
    with pytest.raises(type(error)):
        worker(planned, 3).complete()
    mine = worker(planned, 3)
    mine.complete()
    assert [(path.name, resume) for path, _, resume in train.calls] == [("0", False), ("1", False), ("1", True), ("2", False)]
    assert train.calls[1][1] == train.calls[2][1]
    records = mine.conclude()["trials"]
    assert sorted(record["trial"] for record in records) == [0, 1, 2]


def test_no_trial_finishes(train, worker):
    def before(config, path, stop):
        raise DivergedError("loss nan")

    train.before = before
    mine = worker(searched("lr=0.1:0.2"), 1)
    mine.complete()
    with pytest.raises(ConfigError, match="found no trial that was trained to its end: loss nan"):
        mine.conclude()


def test_not_pruned_after_the_last_epoch(train, worker):
    mine = worker(searched("lr=log:1e-3:0.3", epochs=1), 7, prune=True)
    mine.complete()
    assert set(states(mine)) == {"COMPLETE"}


def trained(job, epochs=3):
    """What `lsg train` leaves after some of three epochs; accuracies are those of :func:`accuracies`."""
    assert "--no-test" in job.words
    lr = float(job.words[job.words.index("--lr") + 1])
    files.make_folder(Path(job.path))
    accuracies = [lr * (epoch + 1) / 3 for epoch in range(epochs)]
    for epoch, accuracy in enumerate(accuracies):
        files.append_json_line(Path(job.path) / METRICS, {"epoch": epoch, "val_accuracy": accuracy})
    if epochs == 3:
        files.write_json(Path(job.path) / RESULT, {"accuracy": None, "best_accuracy": max(accuracies)})
    return True


def follow(worker, cluster, show=lambda states: None, slots=1):
    """Run the trials of a process as jobs; ``show`` is called with their states by name."""
    cluster.slots = slots

    def named(states):
        show({name_of(cell.path): state for cell, state in states.items()})

    schedule.run(worker.trials, Submitted(worker.trials, "cluster", cluster), worker.stop, named)


def test_a_job_is_cancelled_when_its_trial_is_pruned(worker):
    def happens(job):
        first = int(Path(job.path).name) < 5
        trained(job, epochs=3 if first else 1)
        return first or None

    mine, cluster = worker(searched("lr=log:1e-3:0.3"), 8, prune=True), Cluster(happens)

    def show(states):
        for name, state in states.items():
            if state.kind == "waiting" and state.epochs:  # not pruned
                (cell,) = (cell for cell in mine.trials._running if name_of(cell.path) == name)
                files.write_json(cell.path / RESULT, {"accuracy": None, "best_accuracy": cell.config.lr})
                cluster.living.discard(name)

    follow(mine, cluster, show)
    pruned = [f"trials-{trial.number}" for trial in mine.study.trials if trial.state.name == "PRUNED"]
    assert pruned
    assert cluster.cancelled == pruned
    assert states(mine)[:5] == ["COMPLETE"] * 5


@pytest.mark.parametrize("lasting", [True, False])
def test_jobs_of_an_earlier_command_are_followed(worker, lasting):
    first, mine = worker(searched("lr=0.1:0.2"), 4), Cluster(lambda job: None, lasting=lasting)
    with pytest.raises(Stopped, match="after 0 of 4 trials" + "; the other jobs continue" * lasting):
        follow(first, mine, lambda states: setattr(first.stop, "signal_name", "SIGTERM"), slots=2)
    assert mine.living == ({"trials-0", "trials-1"} if lasting else set())
    params = [trial.params for trial in first.study.trials[:2]]
    second, again = worker(searched("lr=0.1:0.2"), 4), Cluster(trained)
    again.living = mine.living

    def show(states):
        for cell in list(second.trials._running):
            if name_of(cell.path) in again.living:
                trained(job_of(cell))

    follow(second, again, show, slots=2)
    assert again.submitted == (["trials-2", "trials-3"] if lasting else [f"trials-{number}" for number in range(4)])
    assert [trial.params for trial in second.study.trials if trial.state.name == "COMPLETE"][:2] == params


def test_a_study_of_other_settings_is_refused(train, worker, tmp_path):
    worker(searched("lr=log:0.1:0.2", "method=lsg,fixed", width=0.5), 1)
    with pytest.raises(
        RunInUseError, match=r"--width \[1\.0, 0\.5\], expected 1\.0; --lr 'log:0\.1:0\.2', expected '0\.1:0\.2'"
    ):
        worker(searched("lr=0.1:0.2", "method=lsg,fixed"), 1)


def test_the_directory_holds_a_study_or_nothing(worker, tmp_path):
    files.make_folder(tmp_path / "tune")
    (tmp_path / "tune" / LOCK).touch()
    worker(searched("lr=0.1:0.2"), 1)
    (tmp_path / "tune" / STUDY).rename(tmp_path / "tune" / "best.toml")
    with pytest.raises(RunInUseError, match=r"best\.toml"):
        worker(searched("lr=0.1:0.2"), 1)


def test_a_killed_command_loses_nothing(train, worker):
    """It was killed before the first trial had values, and after the run of the second had finished."""
    planned = searched("lr=0.1:0.2")
    killed = worker(planned, 3)
    killed.study.ask()
    config = planned.suggest(killed.study.ask())
    run.train(config, killed.root / "trials" / "1", lambda record: None, None, existing="refuse", test=False)
    mine = worker(planned, 3)
    mine.complete()
    assert states(mine) == ["COMPLETE"] * 3
    assert [path.name for path, _, _ in train.calls] == ["1", "0", "2"]
    assert mine.study.trials[1].value == max(accuracies(config))


def test_a_study_goes_on_under_the_former_names_of_its_settings(train, worker):
    planned = searched("synapses=dense,spikes", "lr=0.1:0.2")
    begun = worker(planned, 2)
    begun.study.set_user_attr("search", formerly(planned.identity()))
    begun.study.ask().suggest_categorical("convolution", ("dense", "spikes"))
    mine = worker(planned, 2)
    mine.complete()
    assert [sorted(trial.params) for trial in mine.study.trials] == [["convolution", "lr"]] * 2
    assert {record["settings"]["synapses"] for record in mine.conclude()["trials"]} <= {"dense", "spikes"}


def test_one_command_at_a_time(train, worker):
    first, second = worker(searched("lr=0.1:0.2"), 1), worker(searched("lr=0.1:0.2"), 1)
    with first.trials.active(), pytest.raises(RunInUseError):
        second.complete()


def test_a_path_that_no_url_expresses_and_a_damaged_study(tmp_path):
    planned = searched("lr=0.1:0.2")
    for _ in range(2):
        assert open_study(planned, tmp_path / "a?{b}%", True).trials == []
    files.make_folder(tmp_path / "tune")
    (tmp_path / "tune" / "study.db").write_bytes(b"x" * 5000)
    with pytest.raises(StorageError, match="not a database"):
        open_study(planned, tmp_path / "tune", True)
