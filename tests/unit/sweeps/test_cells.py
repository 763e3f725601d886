"""Each cell is run once, whoever runs it."""

import contextlib
import logging

import pytest

import lsgcli.runs.run
from lsgcli.errors import DivergedError, RunInUseError, Stopped
from lsgcli.store.rundir import RESULT, RunDir, write_config
from lsgcli.sweeps.cells import check_same
from lsgcli.sweeps.schedule import InProcess, Strategy, run
from lsgcli.system import files
from lsgcli.training.signals import StopRequest
from tests.unit.sweeps.helpers import plan, record, write_run


@pytest.fixture
def cells(tmp_path):
    return plan(tmp_path / "abl", {"method": "fixed"}, {"method": "lsg"}).cells()


@pytest.fixture
def trained(monkeypatch):
    """Replace the training by a result; ``trained.calls`` are (path, whether resumed), ``trained.before`` runs first."""

    def train(config, path, emit, stop, *, existing, test, page):
        train.calls.append((path, existing == "resume"))
        train.before(path)
        files.make_folder(path)
        files.write_json(path / RESULT, record(0.5))

    train.calls, train.before = [], lambda path: None
    monkeypatch.setattr(lsgcli.runs.run, "train", train)
    monkeypatch.setattr(InProcess, "pause", 0)
    return train


def complete(cells, stop=None):
    """Run the cells in this process; their accuracies, in order."""
    strategy, stop = Strategy(cells[0].path.parents[1], cells), StopRequest() if stop is None else stop
    states = run(strategy, InProcess(strategy, stop, lambda title: contextlib.nullcontext(lambda record: None), None), stop)
    return [states[cell].accuracy for cell in cells]


def paths(trained):
    return [path for path, _ in trained.calls]


def test_what_another_process_runs_is_left_to_it(cells, trained, monkeypatch):
    told = []
    other = RunDir(cells[1].path)
    write_config(other, cells[1].config, {})

    def info(*message):
        told.append(message)
        files.write_json(other.result, record(0.9))
        other.__exit__(None, None, None)

    monkeypatch.setattr(logging.getLogger("lsg"), "info", info)
    assert complete(cells) == [0.5, 0.9, 0.5, 0.5]
    assert paths(trained) == [cells[0].path, cells[2].path, cells[3].path]
    assert told == [("waiting for other processes: %s done", "3 of 4 runs")]


def test_what_another_process_took_in_between_is_left_to_it(cells, trained):
    def before(path):
        if len(trained.calls) == 1:
            write_run(cells[0])
            raise RunInUseError("already contains a run")

    trained.before = before
    assert complete(cells[:1]) == [0.5]
    assert len(trained.calls) == 2


def test_a_folder_of_somebody_else_is_an_error(cells, trained):
    def before(path):
        raise RunInUseError("is not empty and not a run")

    trained.before = before
    with pytest.raises(RunInUseError, match="not empty"):
        complete(cells)


def test_a_signal_ends_it_even_while_waiting(cells, trained, monkeypatch):
    stop = StopRequest()
    monkeypatch.setattr(InProcess, "pause", 60)
    monkeypatch.setattr(logging.getLogger("lsg"), "info", lambda *message: setattr(stop, "signal_name", "SIGTERM"))
    with RunDir(cells[0].path), pytest.raises(Stopped, match="SIGTERM after 3 of 4"):
        complete(cells, stop)


def test_new_stopped_and_finished_cells(cells, trained):
    write_run(cells[1])
    write_run(cells[2], 0.7)
    write_run(cells[3], None)
    assert complete(cells) == [0.5, 0.5, 0.7, None]
    assert trained.calls == [(cells[0].path, False), (cells[1].path, True)]


def test_divergence_is_a_result(cells, trained):
    def before(path):
        files.make_folder(path)
        files.write_json(path / RESULT, record(None))
        raise DivergedError("loss nan")

    trained.before = before
    assert complete(cells[:1]) == [None]


def test_runs_of_other_settings_are_refused(cells):
    write_run(cells[0], 0.5, lr=0.3, T=5)
    with pytest.raises(RunInUseError, match=r"-T 5, expected 3; --lr 0\.3, expected 0\.05"):
        check_same(cells[0])
    write_run(cells[1], 0.5, data_dir="elsewhere", workers=3)
    check_same(cells[1])
    check_same(cells[2])  # nothing is there


def test_a_precision_that_was_chosen_is_the_same_as_one_that_was_asked_for(cells):
    write_run(cells[0], 0.5, precision="auto", used="fp32")
    check_same(cells[0])
    write_run(cells[1], 0.5, precision="auto", used="bf16")
    with pytest.raises(RunInUseError, match="--precision 'auto', expected 'fp32'"):
        check_same(cells[1])
