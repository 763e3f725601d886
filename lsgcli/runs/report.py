"""When ``report.html`` of a run is written: while it trains, and at its end. The page itself is handed in."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lsgcli.data.bundle import DataBundle
from lsgcli.errors import LsgError
from lsgcli.store.rundir import RunFiles
from lsgcli.system import files
from lsgcli.training.evaluate import Evaluation

log = logging.getLogger("lsg")
INTERVAL = 5.0  # seconds, at least, between pages of a run in progress


@dataclass(frozen=True)
class Status:
    """What a page shows besides the files of the run.

    Attributes:
        state: of the run.
        end: its final record, or that of its divergence.
        tested: evaluation of the resulting checkpoint on the test part of ``bundle``.
    """

    state: Literal["running", "stopped", "diverged", "finished"]
    end: dict[str, Any] = field(default_factory=dict)
    tested: Evaluation | None = None
    bundle: DataBundle | None = None


Page = Callable[[Path, Status], str]


class Reporter:
    """Writes ``report.html``. If that fails, it gives a warning: the run is worth more than its page.

    Args:
        page: the text of the page, from the run directory and the status.
    """

    def __init__(self, run: RunFiles, page: Page):
        self.run, self.page, self.written = run, page, -INTERVAL

    def follow(self, record: dict[str, Any]) -> None:
        """Write the page of the run in progress, at its start and after an epoch, from the record of either."""
        due = time.monotonic() - self.written >= INTERVAL
        if record["event"] == "start" or (record["event"] == "epoch" and due):
            self.write(Status("running"))

    def write(self, status: Status) -> None:
        """Write the page."""
        try:
            files.write_text(self.run.report, self.page(self.run.path, status))
        except (LsgError, OSError, MemoryError) as error:
            log.warning("%s: is not up to date: %s", self.run.report, error)
        self.written = time.monotonic()
