import functools
import os
import time

import pytest

from lsgcli.data import parallel
from lsgcli.errors import DataError


def square(x):
    return x * x


def process(x):
    return x, os.getpid()


def fail_at(bad, x):
    if x == bad:
        raise DataError(f"{x}: is bad", hint="Leave it out.")
    return x


def die_elsewhere(home, x):
    if os.getpid() != home and x >= 30:
        time.sleep(0.5)  # the others' results are there by then
        os._exit(3)
    return x


@pytest.fixture
def always(monkeypatch):
    """Start processes after the first item, whatever it took, on one CPU as well."""
    monkeypatch.setattr(parallel.cpus, "limited", lambda name, given: given)
    monkeypatch.setattr(parallel, "PROBE", -1.0)
    monkeypatch.setattr(parallel, "WORTH", -1.0)
    monkeypatch.setattr(parallel, "BUSY", -1.0)


@pytest.mark.parametrize("workers", [None, 0, 1, 2])
def test_every_item_once(always, workers):
    told = []
    found = list(parallel.each(square, range(1, 41), workers, progress=lambda *args: told.append(args)))
    assert found == [(i + 1) ** 2 for i in range(40)]
    assert told == [(i, 40) for i in range(1, 41)]


def test_several_processes_share_the_work(always):
    results = list(parallel.each(process, range(60), 2))
    assert [x for x, _ in results] == list(range(60))
    assert os.getpid() in {pid for _, pid in results}
    assert len({pid for _, pid in results} - {os.getpid()}) >= 1


def test_work_that_is_almost_done_stays_here(monkeypatch):
    monkeypatch.setattr(parallel, "PROBE", -1.0)
    assert {pid for _, pid in parallel.each(process, range(60), 2)} == {os.getpid()}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_keeps_its_kind_and_hint(always, workers):
    with pytest.raises(DataError, match="30: is bad") as caught:
        list(parallel.each(functools.partial(fail_at, 30), range(40), workers))
    assert caught.value.hint == "Leave it out."


def test_processes_that_die_are_done_without(always, caplog):
    told = []
    found = list(parallel.each(functools.partial(die_elsewhere, os.getpid()), range(60), 2, lambda *args: told.append(args)))
    assert found == list(range(60))
    assert told == [(i, 60) for i in range(1, 61)]
    assert "continuing in one process" in caplog.text


def numbers(drawn, closed):
    try:
        for i in range(100):
            drawn.append(i)
            if i == 20:
                raise DataError("20: is bad")
            yield i
    finally:
        closed.append(True)


def test_ahead_draws_a_few_in_advance_and_closes_what_it_draws_from():
    drawn, closed = [], []
    items = parallel.ahead(numbers(drawn, closed), 3)
    assert [next(items) for _ in range(4)] == [0, 1, 2, 3]
    deadline = time.monotonic() + 10
    while len(drawn) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert drawn == list(range(7))
    items.close()
    assert closed == [True]


def test_ahead_passes_errors_on_in_their_place():
    found, drawn, closed = [], [], []
    with pytest.raises(DataError, match="20: is bad"):
        found.extend(parallel.ahead(numbers(drawn, closed), 3))
    assert found == list(range(20))
    assert closed == [True]
