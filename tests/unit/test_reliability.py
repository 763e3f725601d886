"""Rows of the fault table hold for a few cases, and each turns red where the promise is broken."""

import contextlib
import os
import random

import pytest

from lsgcli.store import checkpoint
from lsgcli.system import files
from tests.stress.rows import Case, Row, measure, table


def direct_write(monkeypatch):
    """Save without a temporary file."""
    monkeypatch.setattr(checkpoint, "save", checkpoint.write)


def no_cleaning(monkeypatch):
    """Leave temporary files of failed writes."""

    @contextlib.contextmanager
    def replacing(target, *, folder=False):
        temporary = target.with_name(f"{files.PARTIAL}0-{target.name}")
        try:
            yield temporary
            os.replace(temporary, target)
        except OSError as error:
            raise files.storage_error(error, target) from error

    monkeypatch.setattr(files, "replacing", replacing)


def no_digest(monkeypatch):
    """Every file has the digest that is expected of it."""
    monkeypatch.setattr(checkpoint, "tensor_digest", lambda tensors: "the same")


def unmasked(monkeypatch):
    """New files keep the mode that their library gave them."""
    monkeypatch.setattr(files, "_umask", lambda: 0o177)


def converted(monkeypatch):
    """Tensors of another type are converted silently."""
    monkeypatch.setattr(checkpoint, "_differences", lambda found, expected: [])


@pytest.mark.parametrize(
    ("number", "count", "fault"),
    [
        pytest.param(2, 1, direct_write, marks=pytest.mark.slow),
        (3, 1, no_cleaning),
        (8, 40, no_digest),
        (12, 2, converted),
        (29, 1, unmasked),
    ],
)
def test_a_row_turns_red(number, count, fault, monkeypatch):
    row = table()[number]
    if number != 12:  # the slowest; the next test covers it
        assert measure(row, min(count, 5))["problems"] == []
    fault(monkeypatch)
    assert measure(row, count)["failures"] > 0


def test_a_row_that_raises_or_does_nothing_is_a_failure():
    def raises(count, chance, folder):
        yield Case("first")
        raise RuntimeError("broken row")

    for body, cases in ((raises, 1), (lambda count, chance, folder: iter(()), 0)):
        record = measure(Row(99, "", "", "", "", 1, 1, body), 1)
        assert (record["cases"], record["failures"]) == (cases, 1)


def test_the_seed_decides():
    seen = []

    def body(count, chance: random.Random, folder):
        seen.append(chance.random())
        return iter(())

    for seed in (0, 0, 1):
        measure(Row(99, "", "", "", "", 1, 1, body), 1, seed)
    assert seen[0] == seen[1] != seen[2]
