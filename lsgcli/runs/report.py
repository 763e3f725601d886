"""What a run reports besides its records: ``report.html``, while it trains and at its end, and copies of its epochs to loggers.

The text of the page is handed in. Loggers (``--log csv,tensorboard,...``) copy nothing that is not in the run directory. An epoch is copied
after its checkpoint is saved, so no log contains an epoch that a resumed run repeats; the epochs that a killed process did not copy are
added when the log is opened again.
"""

import contextlib
import datetime
import io
import secrets
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lsgcli import registry
from lsgcli.errors import LsgError, Stopped, log
from lsgcli.store import flows
from lsgcli.store.rundir import LOGS, RunFiles, read_config, read_facts, read_metrics
from lsgcli.system import files
from lsgcli.system.interpreter import __version__
from lsgcli.system.schema import Record

if TYPE_CHECKING:  # importing them takes torch
    from lsgcli.data.bundle import DataBundle
    from lsgcli.training.evaluate import Evaluation

INTERVAL = 5.0  # seconds, at least, between pages of a run in progress
SHARE = 20  # and so many times as long as one takes: at most 5 % of the time of a run with short epochs


@dataclass(frozen=True)
class Status:
    """What a page shows besides the files of the run.

    Attributes:
        state: of the run.
        end: its final record, or that of its divergence.
        tested: evaluation of the resulting checkpoint on the test part of ``bundle``.
    """

    state: Literal["running", "stopped", "diverged", "finished"]
    end: Record = field(default_factory=dict)
    tested: "Evaluation | None" = None
    bundle: "DataBundle | None" = None


Page = Callable[[Path, Status], str]


class Reporter:
    """Writes ``report.html``. If that fails, it gives a warning: the run is worth more than its page.

    Args:
        page: the text of the page, from the run directory and the status.
    """

    def __init__(self, run: RunFiles, page: Page):
        self.run = run
        self.page = page
        self.due = 0.0

    def follow(self, record: Record) -> None:
        """Write the page of the run in progress, at its start and after an epoch, from the record of either."""
        if record["event"] == "start" or (record["event"] == "epoch" and time.monotonic() >= self.due):
            self.write(Status("running"))

    def write(self, status: Status) -> None:
        """Write the page."""
        begin = time.monotonic()
        try:
            files.write_text(self.run.report, self.page(self.run.path, status))
        except (LsgError, OSError, MemoryError) as error:
            log.warning("%s: is not up to date: %s", self.run.report, error)
        end = time.monotonic()
        self.due = end + max(INTERVAL, SHARE * (end - begin))


@dataclass(frozen=True)
class Epoch:
    """Records of an epoch.

    Attributes:
        number: from 0.
        time: of its end, in seconds since 1970, without the time in which the run was stopped.
        values: fields of ``metrics.jsonl`` by their names, and those of ``gradient-flow.jsonl`` as ``MEASURE/LAYER``.
    """

    number: int
    time: float
    values: Mapping[str, float]


class LoggedRun:
    """The run that loggers copy, read from its directory."""

    def __init__(self, run: RunFiles):
        self.path = run.path
        self.name = "-".join(run.path.resolve().parts[-2:])

    @property
    def folder(self) -> Path:
        """The folder for files of loggers in the run directory, which exists."""
        folder = self.path / LOGS
        files.make_folder(folder, self.path)
        return folder

    def new_folder(self, name: str) -> Path:
        """A folder in :attr:`folder`, without the files of an earlier log."""
        folder = self.folder / name
        files.check_no_link(folder)
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    @cached_property
    def settings(self) -> Record:
        """Settings of the run, and the version of lsg."""
        return {**read_config(self.path).to_dict(), "lsg": __version__}

    @cached_property
    def id(self) -> str:
        """Identifier of the run in programs that record many; a run that replaces another has a new one."""
        file = self.folder / "id"
        if not file.exists():
            files.write_text(file, secrets.token_hex(4))
        return file.read_text(encoding="utf-8")

    def epochs(self) -> list[Epoch]:
        """The completed epochs."""
        time = datetime.datetime.fromisoformat(read_facts(self.path)["started"]).timestamp()
        flow = {line["epoch"]: line["layers"] for line in flows.read_lines(self.path) if "event" not in line}
        epochs = []
        for values in read_metrics(self.path):
            number = values.pop("epoch")
            time += values.get("seconds", 0.0)
            for layer in flow.get(number, ()):
                values |= {f"{key}/{layer['name']}": value for key, value in layer.items() if key != "name"}
            epochs.append(Epoch(number, time, {name: float(value) for name, value in values.items() if value is not None}))
        return epochs


class Loggers(contextlib.AbstractContextManager["Loggers"]):
    """Receives the records of a training, copies them to the loggers, and passes them on.

    A logger that fails gives one warning, and is not used again.

    Args:
        names: of the loggers.
        emit: receives each record after the loggers.
    """

    def __init__(self, names: Sequence[str], run: RunFiles, emit: Callable[[Record], None]):
        self.names, self.source, self.emit = names, LoggedRun(run), emit
        self.loggers: Record = {}  # each a lsgcli.loggers.base.Logger

    def __call__(self, record: Record) -> None:
        if record["event"] == "start":
            for name in self.names:
                with self._calling(name):
                    self.loggers[name] = registry.get("logger", name)(self.source)
        if record["event"] in ("start", "epoch", "end"):
            for name, logger in list(self.loggers.items()):
                with self._calling(name):
                    self._copy(logger, record)
        self.emit(record)

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        state = "finished" if kind is None else "stopped" if issubclass(kind, Stopped) else "failed"
        for name, logger in list(self.loggers.items()):
            with self._calling(name):
                logger.close(state)

    def _copy(self, logger: Any, record: Record) -> None:
        epochs = self.source.epochs()
        for epoch in epochs[logger.logged :]:
            logger.epoch(epoch)
            logger.logged += 1
        if record["event"] == "end":
            results = {name: value for name, value in record.items() if "accuracy" in name and value is not None}
            last = epochs[-1]
            report = RunFiles(self.source.path).report
            logger.end(Epoch(last.number, last.time, results), (report, Path(record["checkpoint"])))

    @contextlib.contextmanager
    def _calling(self, name: str) -> Iterator[None]:
        """Context of calls of a logger, without what it prints to stdout, and with its warnings and its error as messages."""
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("ignore")
            warnings.simplefilter("once", UserWarning)
            try:
                yield
            except Exception as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                log.warning("--log %s: failed: %s; the run continues without it", name, reason)
                with contextlib.suppress(Exception):
                    self.loggers.pop(name).close("failed")
        for warning in warned:
            log.warning("--log %s: %s", name, warning.message)
