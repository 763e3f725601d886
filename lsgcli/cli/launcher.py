"""Cells as jobs: options that ``lsg ablate`` and ``lsg tune`` share."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from typer import Option

from lsgcli import registry
from lsgcli.cli import common
from lsgcli.errors import ConfigError, log

if TYPE_CHECKING:
    from lsgcli.sweeps.launchers import Submitted
    from lsgcli.sweeps.schedule import States, Strategy


class LauncherOptions(NamedTuple):
    """Where cells run: as jobs of a launcher, or one after another in this process."""

    launcher: Annotated[
        str | None,
        Option(
            metavar="NAME[:KEY=V,...]",
            help="Run the cells as jobs: local (processes on this machine) or slurm (lsgcli[slurm]). Default: one after another in "
            "this process.",
        ),
    ] = None
    jobs: Annotated[
        int | None,
        Option(
            min=1,
            help="With --launcher local: cells at a time. Default: one for each of --devices.",
        ),
    ] = None
    devices: Annotated[
        str | None,
        Option(
            help="With --launcher local: GPUs, one cell each: a number of them (4), or which (0-3 or 0,2).",
        ),
    ] = None
    slurm: Annotated[
        str | None,
        Option(
            metavar="KEY=V,...",
            help="With --launcher slurm: options of sbatch, such as partition=gpu,gres=gpu:1,time=4:00:00; also parallel (jobs at a time), "
            "grace (seconds between the signal and the time limit, default 90), setup (a shell command before each cell).",
        ),
    ] = None
    cancel: Annotated[
        bool,
        Option("--cancel", help="Cancel the jobs of the same command with --launcher."),
    ] = False

    def check(self) -> tuple[str, str]:
        """The name of the launcher and the text of its options; a ConfigError if it is unknown, or an option of another launcher."""
        name, _, text = (self.launcher or "").partition(":")
        if name != "local":
            common.require("--launcher local", {"--jobs": self.jobs, "--devices": self.devices})
        if name != "slurm":
            common.require("--launcher slurm", {"--slurm": self.slurm})
        if name:
            registry.get("launcher", name)
        else:
            common.require("--launcher", {"--cancel": self.cancel})
        jobs = f"jobs={self.jobs}" if self.jobs else ""
        devices = f"devices={self.devices}" if self.devices else ""
        return name, ",".join(filter(None, (text, self.slurm, jobs, devices)))

    def cancel_jobs(self, root: Path) -> None:
        """Cancel the jobs in a folder."""
        from lsgcli.sweeps.schedule import Strategy

        jobs = self._submitted(Strategy(root, ()))
        if not jobs.launcher.lasting:
            found = f"--cancel: found --launcher {jobs.name}, expected one whose jobs outlive the command"
            raise ConfigError(found, "Stop the command with Ctrl-C, which ends its jobs.")
        log.info("cancelled jobs: %d", jobs.cancel())

    def run(self, strategy: "Strategy", quiet: bool, begin: Callable[[], object] = lambda: None) -> None:
        """Run the cells of a strategy, except those that other processes are running; ``begin`` is called once the launcher is accepted."""
        from lsgcli.report.display import TrainingDisplay
        from lsgcli.report.run_page import run_page
        from lsgcli.sweeps.schedule import InProcess, run
        from lsgcli.training.signals import stop_on_signals

        with stop_on_signals() as stop:
            if self.launcher:
                jobs = self._submitted(strategy)
                begin()
                run(strategy, jobs, stop, changes_shown())
            else:
                begin()
                display = functools.partial(TrainingDisplay, quiet)
                run(strategy, InProcess(strategy, stop, display, run_page), stop)

    def _submitted(self, strategy: "Strategy") -> "Submitted":
        from lsgcli.sweeps.jobs import FOLDER
        from lsgcli.sweeps.launchers import Submitted, make

        name, options = self.check()
        return Submitted(strategy, name, make(name, options, strategy.root / FOLDER))


def changes_shown() -> Callable[["States"], None]:
    """A function that prints a line for each cell whose state has changed."""
    from lsgcli.sweeps.jobs import name_of

    shown = dict[Any, str]()

    def print_changes(states: "States") -> None:
        for cell, state in states.items():
            if state.text != shown.get(cell, "not started"):
                log.info("%s: %s", name_of(cell.path), state.text)
            shown[cell] = state.text

    return print_changes
