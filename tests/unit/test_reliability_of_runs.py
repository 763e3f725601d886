"""The rows of ranks, launchers, services and surroundings turn red where their promise is broken."""

import contextlib

import pytest

import lsgcli.cli.app
import lsgcli.cli.predict
from lsgcli.errors import DataError
from lsgcli.inference import stream as streaming
from lsgcli.loggers import base as loggers
from lsgcli.store import checkpoint, hub, rundir
from lsgcli.sweeps import jobs
from lsgcli.training.distributed import Failure, Failures
from tests.stress import ranks
from tests.stress.rows import measure, table


def no_report(monkeypatch):
    """A process that fails does not tell the others why."""
    monkeypatch.setattr(ranks, "STATUSES", {"raises": 3})
    monkeypatch.setattr(Failures, "_report", lambda self, rank, status: Failure(rank, status))


def not_repeated(monkeypatch):
    """A job that was killed counts as failed."""
    monkeypatch.setattr(jobs, "is_interruption", lambda status: False)


def no_error(monkeypatch):
    """The damage of a stream is passed over."""
    whole = streaming._slices

    def slices(*arguments):
        with contextlib.suppress(DataError):
            yield from whole(*arguments)

    monkeypatch.setattr(streaming, "_slices", slices)


def no_newline(monkeypatch):
    """A line is not written at once."""

    def write(line, stream):
        for part in (line, "\n"):
            stream.write(part if stream.fileno() == 1 else "")

    monkeypatch.setattr(lsgcli.cli.predict, "_write", write)


def unverified(monkeypatch):
    """A file from the Hub is used as it is."""
    monkeypatch.setattr(hub, "_problem", lambda path, sha256: None)


def not_caught(monkeypatch):
    """The exception of a logger ends the run."""
    monkeypatch.setattr(loggers.Loggers, "_each", lambda self, names, action: [action(name) for name in list(names)])


def utf8_only(monkeypatch):
    """A path goes to safetensors as it is."""
    monkeypatch.setattr(checkpoint, "_name_of", contextlib.nullcontext)


def not_noticed(monkeypatch):
    """A run directory that is gone is not noticed."""
    monkeypatch.setattr(rundir.RunDir, "__exit__", lambda self, *error: self.close())


def strict(monkeypatch):
    """A character that stdout lacks is an error."""
    monkeypatch.setattr(lsgcli.cli.app, "reopen_streams", lambda: None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "count", "fault"),
    [
        (40, 1, no_report),
        (41, 1, not_repeated),
        (42, 4, no_error),
        (43, 200, no_newline),
        (44, 24, unverified),
        (45, 1, not_caught),
        (46, 1, utf8_only),
        (47, 1, not_noticed),
        (48, 1, strict),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of huggingface_hub
def test_a_row_turns_red(number, count, fault, monkeypatch):
    fault(monkeypatch)
    record = measure(table()[number], count)
    print(record["problems"])
    assert 0 < record["failures"] <= record["cases"]
