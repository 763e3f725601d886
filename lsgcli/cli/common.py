"""What several commands do: set up messages, and open a checkpoint with its data."""

import dataclasses
import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors on stderr.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="More on stderr.")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Replace output files that exist.")]
CheckpointPath = Annotated[
    Path, typer.Argument(metavar="CKPT", help="Checkpoint that lsg wrote.", autocompletion=completion.checkpoints)
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        help="Settings: a TOML file, or a run (its directory or config.json); options and LSG_* variables override it."
    ),
]
DataDir = Annotated[
    str | None, typer.Option(help="Folder of the data; as in the data set's own settings, or data/, if not given.")
]
CacheDir = Annotated[str | None, typer.Option(help="Folder of prepared data; ~/.cache/lsg if not given.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Samples at a time; as in training if not given.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Precision = Annotated[str | None, typer.Option(help="auto, fp32 or bf16; as in training if not given.")]

# Settings of LSG_* variables that also matter to a checkpoint: where things are and how to compute, not what was trained.
AROUND = {"data_dir", "cache_dir", "batch_size", "device", "threads", "workers", "backend", "precision", "deterministic"}


def messages(quiet: bool, verbose: bool, takes: Collection[str] = ()) -> None:
    """Send warnings, and with ``verbose`` more, to stderr; the first is of ``LSG_*`` variables for other settings than ``takes``."""
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler()
    handler.format = lambda record: clean(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("lsg")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    warn_of_others(os.environ, takes)
    check_address_space()


@dataclasses.dataclass(frozen=True)
class Opened:
    """A checkpoint, ready to be used on data.

    Attributes:
        model: in evaluation mode, on the device.
        stored: the checkpoint's configuration.
        config: the run's settings, with what the command line changed.
        bundle: data prepared as in training.
        compute: device and precision.
    """

    model: "SpikingNet"
    stored: dict[str, Any]
    config: RunConfig
    bundle: "DataBundle"
    compute: "Compute"


def open_checkpoint(path: Path, changes: dict[str, Any], splits: tuple[str, ...], quiet: bool) -> Opened:
    """Load a checkpoint and prepare the data it was trained on, or those that ``changes`` point to.

    Raises:
        CheckpointError, DataError, ConfigError: as the parts do.
    """
    from lsgcli import checkpoint

    model, stored = checkpoint.load(path)
    config, bundle, compute = open_data(stored, changes, splits, quiet)
    model.spec = dataclasses.replace(model.spec, T=config.T)
    return Opened(model.to(compute.device), stored, config, bundle, compute)


def open_data(
    stored: Mapping[str, Any], changes: dict[str, Any], splits: tuple[str, ...], quiet: bool
) -> tuple[RunConfig, "DataBundle", "Compute"]:
    """The settings of a stored configuration with ``changes``, the data as they say, and where to compute.

    Raises:
        DataError, ConfigError: as the parts do.
        CheckpointError: it does not say what the data are.
    """
    from lsgcli.compute import set_up
    from lsgcli.data.prepare import prepare
    from lsgcli.report.terminal import preparing

    given = {key: value for key, value in changes.items() if value is not None}
    if "dataset" not in stored["settings"] or not {"mean", "std"} <= stored["data"].keys():
        raise CheckpointError("found a checkpoint that does not say what data it was trained on, expected one of `lsg train`")
    trained_on = stored["settings"]["dataset"]
    same = given.get("dataset", trained_on) == trained_on
    config = from_checkpoint(stored, {**({} if same else _of_its_own(given["dataset"])), **around(changes)})
    if problems := without_effect(given, [config]):
        raise ConfigError("\n".join(problems), hint="Omit what has no effect.")
    compute = set_up(config)
    with preparing(quiet) as progress:
        expected = stored["data"] if same else None
        try:
            bundle = prepare(config, splits, classes=tuple(stored["classes"]), progress=progress, expected=expected)
        except DataError as error:
            if error.hint and "--split" in error.hint:  # which is for training
                error.hint = f"Give --data-dir data laid out as in training (--split {config.split or 'not given'})."
            raise
    if not same:
        _compare(config.dataset, bundle.info, trained_on, stored["data"])
    return config, dataclasses.replace(bundle, mean=stored["data"]["mean"], std=stored["data"]["std"]), compute


def around(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the environment that matter to a checkpoint, and ``changes`` where they are given."""
    return {**from_environment(os.environ, AROUND), **{key: value for key, value in changes.items() if value is not None}}


def on_cpu(device: str, precision: str | None) -> None:
    """Refuse a device or precision for an exported network.

    Raises:
        ConfigError: another than the CPU, or than float32.
    """
    for flag, found, taken in (("--device", device, ("auto", "cpu")), ("--precision", precision, (None, "auto", "fp32"))):
        if found not in taken:
            raise ConfigError(
                f"{flag}: found {found}, expected none: exported networks run on the CPU in float32",
                hint="Use the checkpoint, or omit the option.",
            )


def _of_its_own(name: str) -> dict[str, Any]:
    """Settings that say how a data set is read, and so do not carry over from another: its own."""
    preset = registry.get("dataset", name).preset
    return {name: preset.get(name) for name in ("split", "sensor")}


def _compare(name: str, found: Mapping[str, Any], trained_on: str, expected: Mapping[str, Any]) -> None:
    """Warn where another data set than the one trained on shows things otherwise. Releases and rules do not compare."""
    for key in ("sensor", "orientation"):
        one, other = found.get(key, "not stated"), expected.get(key, "not stated")
        if one != other:
            log.warning("%s: found %s %s, %s had %s in training: results may differ", name, key, one, trained_on, other)
