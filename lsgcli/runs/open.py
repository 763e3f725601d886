"""Opening a checkpoint with its data, prepared as in training."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from lsgcli import registry
from lsgcli.config.fields import Values
from lsgcli.config.run import CONFIG, RunConfig, check_effect, from_checkpoint
from lsgcli.data.bundle import DataBundle
from lsgcli.data.parallel import NamedProgress
from lsgcli.data.prepare import prepare
from lsgcli.errors import ConfigError, DataError, log
from lsgcli.models.base import SpikingNet
from lsgcli.store import checkpoint, hub, rundir
from lsgcli.system.device import Compute, set_up
from lsgcli.system.schema import Record


class Opened(NamedTuple):
    """A checkpoint and its data, ready to use."""

    model: SpikingNet  # in evaluation mode, on the device
    stored: Record  # configuration of the checkpoint
    config: RunConfig  # settings of the run, with changes
    bundle: DataBundle
    compute: Compute


def open_checkpoint(
    path: Path | str,
    changes: Values,
    splits: tuple[str, ...] = ("train", "test"),
    *,
    buffers_finite: bool = True,
    environment: Values | None = None,
    progress: NamedProgress | None = None,
) -> Opened:
    """Load a checkpoint and prepare its data set, or the one given in ``changes``; arguments and errors as :func:`open_data`.

    Args:
        path: as for :func:`lsgcli.store.hub.local`.
        buffers_finite: as for :func:`lsgcli.store.checkpoint.restored`.

    Raises:
        CheckpointError: not a valid checkpoint.
    """
    path = hub.local(path)
    model, stored = checkpoint.load(path, buffers_finite=buffers_finite)
    checkpoint.check_described(stored, path)
    config, bundle, compute = open_data(path, stored, changes, splits, environment=environment, progress=progress)
    model.spec = dataclasses.replace(model.spec, T=config.T)
    return Opened(model.to(compute.device), stored, config, bundle, compute)


def open_data(
    path: Path,
    stored: Values,
    changes: Values,
    splits: tuple[str, ...],
    *,
    environment: Values | None = None,
    progress: NamedProgress | None = None,
) -> tuple[RunConfig, DataBundle, Compute]:
    """Prepare the data of a stored configuration, without downloading any; set up device and precision.

    If ``path`` is in the directory of a run, the folder of the run's data is the default of ``data_dir``.

    Args:
        path: of the checkpoint or export.
        stored: its configuration, which passed :func:`lsgcli.store.checkpoint.check_described`.
        changes: settings that replace the stored ones; None means not given. Each must have an effect.
        splits: parts of the data to read.
        environment: settings of lower precedence, which need no effect.
        progress: as for :func:`lsgcli.data.prepare.prepare`.

    Returns:
        The resulting settings, the data, and device and precision.

    Raises:
        CheckpointError: a setting in it is invalid in this version.
        ConfigError: a setting is invalid or has no effect.
        DataError: the data are missing, damaged, or differ from the training data.
    """
    trained_on = stored["settings"]["dataset"]
    data = stored["data"]
    given = {name: value for name, value in changes.items() if value is not None}
    given_around = {**(environment or {}), **given}
    of_its_own = Record()
    if other := given.get("dataset", trained_on) != trained_on:  # how a data set is read is not taken over from another
        preset = registry.get("dataset", given["dataset"]).preset
        of_its_own = {name: preset.get(name) for name in ("split", "sensor")}
    elif "data_dir" not in given_around and (of_run := _folder_of_run(path, trained_on)):
        of_its_own = {"data_dir": of_run}
    config = from_checkpoint(path, stored, {**of_its_own, **given_around})
    check_effect(given, config)
    compute = set_up(config)
    try:
        bundle = prepare(
            config,
            splits,
            classes=tuple(stored["classes"]),
            progress=progress,
            expected=None if other else data,
            may_download=False,
        )
    except DataError as error:
        if error.hint and "--split" in error.hint:  # an option of training only
            fold = f", --fold {config.fold}" if config.fold else ""
            error.hint = f"Give --data-dir data laid out as in training (--split {config.split or 'not given'}{fold})."
        raise
    for key in ("sensor", "orientation") if other else ():  # releases and split rules are not comparable
        found = bundle.info.get(key, "not stated")
        expected = data.get(key, "not stated")
        if found != expected:
            log.warning("%s: found %s %s, but %s has %s; results may differ", config.dataset, key, found, trained_on, expected)
    return config, dataclasses.replace(bundle, mean=data["mean"], std=data["std"]), compute


def _folder_of_run(path: Path, dataset: str) -> str | None:
    """The folder of the data of the run beside a checkpoint; None without a run, or of another data set.

    Raises:
        DataError: the folder does not exist.
    """
    run = path.parent
    facts = rundir.facts_of_run(run)
    if facts is None:
        return None
    try:
        of_run = rundir.config_of(run, facts)
    except ConfigError as error:
        log.warning("%s; the folder of the run's data is not known", error.message)
        return None
    folder = rundir.data_folder_of(facts, of_run) if of_run.dataset == dataset else None
    if folder is not None:
        log.info("data: %s, from %s", folder, run / CONFIG)
        if not Path(folder).is_dir():
            raise DataError(
                f"{folder}: found no such folder, expected the data of the run {run}",
                "Set --data-dir to their current folder.",
            )
    return folder
