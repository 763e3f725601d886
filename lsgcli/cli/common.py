"""Shared by several commands: common options, logging, and opening a checkpoint with its data."""

import dataclasses
import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from lsgcli import registry
from lsgcli.cli import completion
from lsgcli.config import RunConfig, from_checkpoint, without_effect
from lsgcli.errors import CheckpointError, ConfigError, DataError
from lsgcli.memory import check_address_space
from lsgcli.output import clean
from lsgcli.resolve import from_environment, warn_of_others

if TYPE_CHECKING:
    from lsgcli.compute import Compute
    from lsgcli.data.bundle import DataBundle
    from lsgcli.models.base import SpikingNet

log = logging.getLogger("lsg")
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print only errors to stderr.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print more details to stderr.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing output files.")]
CheckpointPath = Annotated[
    Path, typer.Argument(metavar="CKPT", help="Checkpoint written by lsg.", autocompletion=completion.checkpoints)
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        help="TOML file with settings, or a run directory or its config.json. Options and LSG_* variables override it."
    ),
]
DataDir = Annotated[str | None, typer.Option(help="Directory of the data set. Default: data/.")]
CacheDir = Annotated[str | None, typer.Option(help="Directory of prepared data. Default: ~/.cache/lsg.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Batch size. Default: as in training.")]
Timesteps = Annotated[
    int | None, typer.Option("-T", "--timesteps", min=1, max=1024, help="Timesteps. Default: as in training.")
]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or cuda:1.")]
Precision = Annotated[str | None, typer.Option(help="Precision: auto, fp32 or bf16. Default: as in training.")]
Html = Annotated[Path | None, typer.Option(help="Also write a self-contained HTML page with curves and figures.")]

# LSG_* variables that also apply to checkpoints: paths and computation, not the trained network.
AROUND = {"data_dir", "cache_dir", "batch_size", "device", "threads", "workers", "backend", "precision", "deterministic"}


def messages(quiet: bool, verbose: bool, takes: Collection[str] = ()) -> None:
    """Set up logging to stderr, and warn about ``LSG_*`` variables whose settings are not in ``takes``."""
    handler = logging.StreamHandler()
    handler.format = lambda record: clean(record.getMessage())  # type: ignore[method-assign]
    log.handlers[:] = [handler]
    log.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO)
    log.propagate = False
    warn_of_others(os.environ, takes)
    check_address_space()


def exclude(option: str, others: Mapping[str, Any]) -> None:
    """Raise a ConfigError if options of ``others``, name -> value, are given together with ``option``."""
    if given := _given(others):
        raise ConfigError(f"{given}: cannot be combined with {option}", hint=f"Omit {option} or {given}.")


def require(option: str, others: Mapping[str, Any]) -> None:
    """Raise a ConfigError if options of ``others``, name -> value, are given, which need ``option``."""
    if given := _given(others):
        raise ConfigError(f"{given}: found without {option}, expected both", hint=f"Add {option}, or omit {given}.")


def _given(options: Mapping[str, Any]) -> str:
    return ", ".join(name for name, value in options.items() if value is not None and value is not False)


class Opened(NamedTuple):
    """A checkpoint and its data, ready to use."""

    model: "SpikingNet"  # in evaluation mode, on the device
    stored: dict[str, Any]  # configuration of the checkpoint
    config: RunConfig  # settings of the run, updated by the command line
    bundle: "DataBundle"  # prepared as in training
    compute: "Compute"


def open_checkpoint(path: Path, changes: dict[str, Any], splits: tuple[str, ...], quiet: bool) -> Opened:
    """Load a checkpoint and prepare its data set, or the one given in ``changes``."""
    from lsgcli import checkpoint

    model, stored = checkpoint.load(path)
    config, bundle, compute = open_data(stored, changes, splits, quiet)
    model.spec = dataclasses.replace(model.spec, T=config.T)
    return Opened(model.to(compute.device), stored, config, bundle, compute)


def open_data(
    stored: Mapping[str, Any], changes: dict[str, Any], splits: tuple[str, ...], quiet: bool
) -> tuple[RunConfig, "DataBundle", "Compute"]:
    """The settings of a stored configuration with ``changes``, the data prepared accordingly, and device and precision."""
    from lsgcli.compute import set_up
    from lsgcli.data.prepare import prepare
    from lsgcli.report.terminal import preparing

    trained_on, data = stored["settings"].get("dataset"), stored["data"]
    if trained_on is None or not {"mean", "std"} <= data.keys():
        raise CheckpointError(
            "found a checkpoint without a description of its training data, expected one written by `lsg train`"
        )
    given = {name: value for name, value in changes.items() if value is not None}
    of_its_own = {}
    if other := given.get("dataset", trained_on) != trained_on:  # how a data set is read is not taken over from another
        preset = registry.get("dataset", given["dataset"]).preset
        of_its_own = {name: preset.get(name) for name in ("split", "sensor")}
    config = from_checkpoint(stored, {**of_its_own, **around(changes)})
    if problems := without_effect(given, [config]):
        raise ConfigError("\n".join(problems), hint="Omit the settings without effect.")
    compute = set_up(config)
    try:
        with preparing(quiet) as progress:
            classes = tuple(stored["classes"])
            bundle = prepare(config, splits, classes=classes, progress=progress, expected=None if other else data)
    except DataError as error:
        if error.hint and "--split" in error.hint:  # an option of training only
            error.hint = f"Give --data-dir data laid out as in training (--split {config.split or 'not given'})."
        raise
    for key in ("sensor", "orientation") if other else ():  # releases and split rules are not comparable
        found, expected = bundle.info.get(key, "not stated"), data.get(key, "not stated")
        if found != expected:
            log.warning("%s: found %s %s, but %s has %s; results may differ", config.dataset, key, found, trained_on, expected)
    return config, dataclasses.replace(bundle, mean=data["mean"], std=data["std"]), compute


def around(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from the environment that apply to checkpoints, updated with those of ``changes`` that are not None."""
    return {**from_environment(os.environ, AROUND), **{key: value for key, value in changes.items() if value is not None}}


def on_cpu(device: str, precision: str | None) -> None:
    """Raise a ConfigError for a device or precision other than those of exported networks, the CPU and float32."""
    for flag, found, taken in (("--device", device, ("auto", "cpu")), ("--precision", precision, (None, "auto", "fp32"))):
        if found not in taken:
            raise ConfigError(
                f"{flag}: found {found}, but exported networks run on the CPU in float32",
                hint="Use the checkpoint, or omit the option.",
            )
