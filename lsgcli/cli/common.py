"""Shared by several commands: common options and logging."""

import logging
import os
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, NamedTuple

from typer import Argument, Option

from lsgcli.config.fields import Values
from lsgcli.config.resolve import from_environment, warn_of_others
from lsgcli.errors import ConfigError, clean, log
from lsgcli.system.memory import check_address_space
from lsgcli.system.schema import Record

Json = Annotated[bool, Option("--json", help="Print the result as JSON.")]
Force = Annotated[bool, Option("--force", help="Overwrite existing output files.")]
CHECKPOINT = "Checkpoint or run directory: a path or hf:USER/NAME[@REVISION]"
CheckpointPath = Annotated[  # for lsgcli.store.hub.local
    str, Argument(metavar="CKPT", help=CHECKPOINT)
]
ConfigFile = Annotated[
    Path | None,
    Option(help="TOML file with settings, or a run directory or its config.json. Options and LSG_* variables override it."),
]
Timesteps = Annotated[int | None, Option("-T", "--timesteps", min=1, max=1024, help="Timesteps. Default: as in training.")]
Html = Annotated[Path | None, Option(metavar="FILE", help="Also write a self-contained HTML page with curves and figures.")]


class Verbosity(NamedTuple):
    """How much a command prints to stderr."""

    quiet: Annotated[bool, Option("-q", "--quiet", help="Print only errors to stderr.")] = False
    verbose: Annotated[bool, Option("-v", "--verbose", help="Print more details to stderr.")] = False


class Gate(NamedTuple):
    """Findings that fail the command, and the limits of rules."""

    fail_on: Annotated[
        str | None,
        Option(
            help="Exit with status 9 on a finding of these rules or severities (comma-separated), such as silent,vanishing or error; "
            "`lsg list rules` lists them."
        ),
    ] = None
    limit: Annotated[
        list[str] | None,
        Option(metavar="NAME=X", help="Limit of a rule, such as vanishing=1e-4; repeatable."),
    ] = None

    def parsed(self) -> tuple[set[str], dict[str, float]]:
        """The rules and severities of ``--fail-on``, and the limits by rule.

        Raises:
            ConfigError: an unknown name, or an invalid number.
        """
        from lsgcli.analysis.advice import parse_gates, parse_limits

        return parse_gates(self.fail_on) if self.fail_on is not None else set(), parse_limits(self.limit or [])


class Folders(NamedTuple):
    """Directories of data for a checkpoint."""

    data_dir: Annotated[
        str | None,
        Option(
            help="Directory of the data set. Default: that of the run, if the checkpoint is in its directory; otherwise data/."
        ),
    ] = None
    cache_dir: Annotated[
        str | None, Option(help="Directory of prepared data. Default: $XDG_CACHE_HOME/lsg, or ~/.cache/lsg.")
    ] = None


class Data(NamedTuple):
    """Other data for a checkpoint."""

    dataset: Annotated[
        str | None,
        Option(
            help="Another data set with the same classes and shape.",
        ),
    ] = None
    T: Timesteps = None
    folders: Folders = Folders()

    def changes(self) -> Record:
        """The settings of these options."""
        return {"dataset": self.dataset, "T": self.T, **self.folders._asdict()}


class Compute(NamedTuple):
    """How the network of a checkpoint is computed."""

    batch_size: Annotated[int | None, Option(min=1, help="Batch size. Default: as in training.")] = None
    device: Annotated[str, Option(help="Device: auto, cpu, cuda or cuda:1.")] = "auto"
    precision: Annotated[
        str | None,
        Option(
            help="Precision: auto, fp32, bf16, fp16, or int8, which rounds weights to 8 bits and multiplies integers, on CPUs. "
            "Default: fp32.",
        ),
    ] = None
    synapses: Annotated[
        str | None,
        Option(
            help="Convolutions of spikes, and linear layers of mlp, on CPUs: dense, spikes, or auto, the faster of both. Default: as in training.",
        ),
    ] = None

    def check_on_cpu(self) -> None:
        """Raise a ConfigError for a device, precision or synapses other than those of exported networks."""
        others = {
            "--device": self.device not in ("auto", "cpu"),
            "--precision": self.precision not in (None, "auto", "fp32"),
            "--synapses": self.synapses not in (None, "auto", "dense"),
        }
        exclude("an exported CKPT, which runs on the CPU in float32, with dense synapses", others)


# LSG_* variables that also apply to checkpoints: paths and computation, not the trained network.
AROUND = {
    "data_dir",
    "cache_dir",
    "batch_size",
    "device",
    "threads",
    "workers",
    "backend",
    "precision",
    "synapses",
    "deterministic",
}


def messages(verbosity: Verbosity, takes: Collection[str] = ()) -> None:
    """Set up logging to stderr, and warn about ``LSG_*`` variables whose settings are not in ``takes``."""
    handler = logging.StreamHandler()
    handler.format = lambda record: clean(record.getMessage())  # type: ignore[method-assign]
    log.handlers[:] = [handler]
    log.setLevel(logging.ERROR if verbosity.quiet else logging.DEBUG if verbosity.verbose else logging.INFO)
    log.propagate = False
    warn_of_others(os.environ, takes)
    check_address_space()


def say_next(*words: object) -> None:
    """Name the command that usually follows, on a terminal."""
    if sys.stderr.isatty():
        log.info("next: %s", shlex.join(map(str, words)))


def exclude(option: str, others: Values) -> None:
    """Raise a ConfigError if options of ``others``, name -> value, are given together with ``option``."""
    if given := _given(others):
        raise ConfigError(f"{given}: cannot be combined with {option}", "Omit one of them.")


def require(option: str, others: Values) -> None:
    """Raise a ConfigError if options of ``others``, name -> value, are given, which need ``option``."""
    if given := _given(others):
        raise ConfigError(f"{given}: found without {option}, expected both", f"Add {option}, or omit {given}.")


def _given(options: Values) -> str:
    return ", ".join(name for name, value in options.items() if value is not None and value is not False)


def around(changes: Values | None = None) -> Record:
    """Settings from the environment that apply to checkpoints, updated with those of ``changes`` that are not None."""
    given = {key: value for key, value in (changes or {}).items() if value is not None}
    return {**from_environment(os.environ, AROUND), **given}
