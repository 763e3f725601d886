"""Each cell is run once, whoever runs it."""

import pytest

from lsgcli.errors import DivergedError, RunInUseError, Stopped
from lsgcli.store.rundir import RESULT, RunDir, write_config
from lsgcli.sweeps import cells as cells_module
from lsgcli.sweeps.cells import check_same, complete, run_cell
from lsgcli.system import files
from lsgcli.training.signals import StopRequest
from tests.unit.sweeps.helpers import plan, record, write_run


@pytest.fixture
def cells(tmp_path):
    return plan(tmp_path / "abl", {"method": "none"}, {"method": "lsg"}).cells()


def attempts(done):
    """Something that runs a cell, and remembers which."""

    def attempt(cell):
        done.append(cell)
        return record(0.5)

    return attempt


def test_cells_are_run_in_order(cells):
    done = []
    assert complete(cells, attempts(done), StopRequest()) == [record(0.5)] * 4
    assert done == cells


def test_what_another_process_runs_is_left_to_it(cells):
    done, told = [], []
    other = RunDir(cells[1].path)
    write_config(other, cells[1].config, {})

    def finishes(left):
        told.append(list(left))
        files.write_json(other.result, record(0.9))
        other.close()

    def attempt(cell):
        done.append(cell)
        return run_cell(cell, None, StopRequest()) if cell is cells[1] else record(0.5)

    records = complete(cells, attempt, StopRequest(), finishes, pause=0)
    assert told == [[cells[1]]]  # after all others
    assert [r["accuracy"] for r in records] == [0.5, 0.9, 0.5, 0.5]
    assert done == [cells[0], cells[2], cells[3], cells[1]]


def test_what_another_process_took_in_between_is_left_to_it(cells):
    tries = []

    def attempt(cell):
        tries.append(cell)
        if tries == [cells[0]]:
            write_run(cell)
            raise RunInUseError("already contains a run")
        return record(0.5)

    assert complete(cells[:1], attempt, StopRequest(), pause=0) == [record(0.5)]
    assert len(tries) == 2


def test_a_folder_of_somebody_else_is_an_error(cells):
    def attempt(cell):
        raise RunInUseError("is not empty and not a run")

    with pytest.raises(RunInUseError, match="not empty"):
        complete(cells, attempt, StopRequest(), pause=0)


def test_a_signal_ends_it_even_while_waiting(cells):
    stop = StopRequest()
    with RunDir(cells[0].path):

        def waiting(left):
            stop.signal_name = "SIGTERM"

        with pytest.raises(Stopped, match="SIGTERM after 3 of 4"):
            complete(cells, attempts([]), stop, waiting, pause=0)


def trained(monkeypatch, error=None):
    """Let run.train note how it was called."""
    calls = []

    def train(config, path, emit, stop, *, existing, outlets):
        calls.append((path, existing == "resume"))
        if error:
            files.make_folder(path)
            files.write_json(path / RESULT, record(None))
            raise error
        return record(0.5)

    monkeypatch.setattr(cells_module.run, "train", train)
    return calls


def test_new_stopped_and_finished_cells(cells, monkeypatch):
    calls = trained(monkeypatch)
    write_run(cells[1])
    write_run(cells[2], 0.7)
    write_run(cells[3], None)
    found = [run_cell(cell, None, StopRequest())["accuracy"] for cell in cells]
    assert found == [0.5, 0.5, 0.7, None]
    assert calls == [(cells[0].path, False), (cells[1].path, True)]


def test_divergence_is_a_result(cells, monkeypatch):
    trained(monkeypatch, DivergedError("loss nan"))
    assert run_cell(cells[0], None, StopRequest()) == record(None)


def test_runs_of_other_settings_are_refused(cells):
    write_run(cells[0], 0.5, lr=0.3, T=5)
    with pytest.raises(RunInUseError, match=r"-T 5, expected 3; --lr 0\.3, expected 0\.05"):
        check_same(cells[0])
    write_run(cells[1], 0.5, data_dir="elsewhere", workers=3)
    check_same(cells[1])
    check_same(cells[2])  # nothing is there


def test_a_precision_that_was_chosen_is_the_same_as_one_that_was_asked_for(cells, monkeypatch):
    monkeypatch.setattr(cells_module.run, "pick_precision", lambda name, device: ("fp32" if name == "auto" else name, ""))
    write_run(cells[0], 0.5, precision="fp32", used="fp32")  # a run that was told fp32, now auto, which is fp32 here
    check_same(cells[0])
    write_run(cells[1], 0.5, precision="bf16", used="bf16")
    with pytest.raises(RunInUseError, match="--precision 'bf16', expected 'auto'"):
        check_same(cells[1])
