"""What must hold before a run begins, and before it goes on: settings that go together, and those and the data with which it began."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lsgcli import registry
from lsgcli.config.fields import all_at_once, listed
from lsgcli.config.run import CONFIG, FIELDS, MAY_CHANGE, PATHS, RunConfig, check_equal
from lsgcli.data.augment import chain
from lsgcli.data.bundle import DataBundle
from lsgcli.data.datasets.base import dataset_of
from lsgcli.errors import ConfigError, DataError, RunInUseError, log, refuse, require
from lsgcli.store import hub
from lsgcli.store.rundir import LAST, Facts, is_run, read_config, read_facts, read_precision, read_result, read_sources
from lsgcli.system.schema import Record

if TYPE_CHECKING:
    from lsgcli.training.distributed import Group


def check(config: RunConfig, fresh: bool = True, *, here: bool = True) -> None:
    """Check that the settings are compatible, before any expensive work.

    Args:
        fresh: whether the run starts from the beginning. A resumed run does not read ``--init-from`` and ``--width-from``.
        here: whether the run trains on this machine, whose device is then checked.

    Raises:
        ConfigError: with one line for each problem.
        CheckpointError: the file of ``--init-from`` or ``--width-from`` is not a checkpoint, or of a different network.
    """
    import torch

    from lsgcli.system.device import check_gradients, pick_device
    from lsgcli.training.initialise import initialise, new_model

    dataset = dataset_of(config)

    def build() -> None:
        with torch.device("meta"):  # shapes only, no memory
            model = new_model(config, classes=2, channels=2, height=1 if dataset.line else None)
        if model.images_only and not dataset.static:
            raise ConfigError(
                f"arch: found {config.arch} with the recordings of {config.dataset}, expected a --dataset of images",
                "This network makes its timesteps from an image: use another --arch for recordings.",
            )
        if fresh:
            initialise(model, config)

    def check_device() -> None:
        if here:
            registry.get("backend", config.backend).check(pick_device(config.device))

    all_at_once(
        lambda: check_settings(config, fresh),
        lambda: check_gradients(config.precision),
        check_device,
        build,
    )


def check_settings(config: RunConfig, fresh: bool = True) -> None:
    """The checks of :func:`check` that need neither the network nor a device, and so no torch.

    Raises:
        ConfigError: with one line for each problem.
    """
    dataset = dataset_of(config)
    problems = []
    if fresh and config.accumulate > config.batch_size:
        problems.append(f"accumulate: found {config.accumulate}, expected at most the batch size, {config.batch_size}")
    edges = config.warmup_epochs + (config.cooldown_epochs if config.schedule == "cosine" else 0)
    if edges and edges >= config.epochs:
        problems.append(f"epochs: found {config.epochs}, expected more than the {edges} of warm-up and cool-down")

    def check_loggers() -> None:
        for name in listed(config.log):
            logger = registry.get("logger", name)
            require(logger.packages, f"--log {name}", logger.extra)

    all_at_once(dataset.check, lambda: refuse(problems), lambda: chain(config.augment, dataset.static), check_loggers)


def check_folder(config: RunConfig) -> None:
    """Check that a folder given for data that can be downloaded exists, so that nothing is downloaded to a mistyped one.

    Raises:
        DataError: it does not.
    """
    dataset = dataset_of(config)
    if dataset.downloads and config.data_dir is not None and not dataset.root.exists():
        raise DataError(
            f"{dataset.root}: found no such folder, expected that of the data set {config.dataset}",
            f"Correct --data-dir; or {dataset.download_command} creates it and downloads the data.",
        )


def check_place(path: Path, config: RunConfig) -> None:
    """Check that a run, or a folder of runs, is not in a folder whose subfolders are the classes of the data.

    Raises:
        ConfigError: it is.
    """
    dataset_of(config).check_outside("--out", path)


def check_shares(config: RunConfig, bundle: DataBundle, group: "Group") -> None:
    """Check that a batch can be divided among the processes, and that each gets a sample of each part of it."""
    samples = min(config.batch_size, len(bundle.named("train")))
    if samples // min(config.accumulate, samples) < group.size:
        raise ConfigError(
            f"batch_size: found {samples} samples in {min(config.accumulate, samples)} parts, expected at least {group.size} in each, "
            "one for each device",
            "Use a larger --batch-size, fewer parts (--accumulate) or fewer devices.",
        )


def identity(config: RunConfig) -> Record:
    """The settings that must not change on resume, with the path of an initial checkpoint replaced by its digest.

    Raises:
        CheckpointError: the initial checkpoint cannot be read.
    """
    settings = {name: value for name, value in config.to_dict().items() if name not in MAY_CHANGE}
    named = [name for name in settings if FIELDS[name].metadata["path"] == "checkpoint" and settings[name] is not None]
    if not named:
        return settings
    from lsgcli.store import checkpoint

    return settings | {name: checkpoint.read_digest(hub.local(settings[name])) for name in named}


def check_same(path: Path, config: RunConfig) -> None:
    """Check that the run in ``path`` has the settings of ``config``, except those that may change on resume.

    Raises:
        RunInUseError: the settings differ.
        CheckpointError: as :func:`identity`.
    """
    from lsgcli.system.device import pick_device, pick_precision

    there = {**read_config(path).to_dict(), **read_sources(path)}
    wanted = identity(config)
    if (
        there["precision"] != wanted["precision"]
        and read_precision(path) == pick_precision(config.precision, pick_device(config.device))[0]
    ):
        del wanted["precision"]  # `auto` on one side selected the precision of the other
    check_equal(path, there, wanted, RunInUseError, "Choose another --out.")


def check_unchanged(path: Path, config: RunConfig) -> None:
    """Check that ``config``, read from config.json, has the settings of the last checkpoint of the run in ``path``.

    Raises:
        ConfigError: config.json was changed after the run began.
        CheckpointError: the checkpoint cannot be read.
    """
    if not (path / LAST).exists():
        return
    from lsgcli.store import checkpoint

    trained = checkpoint.read_config(path / LAST)["settings"]
    compared = FIELDS.keys() & trained.keys() - MAY_CHANGE - PATHS - {"epochs", "precision"}
    wanted = {name: trained[name] for name in FIELDS if name in compared}
    hint = f"{LAST} was trained with the expected ones. Restore them, or start a new run with these settings."
    check_equal(path / CONFIG, config.to_dict(), wanted, ConfigError, hint)


def check_data(path: Path, config: RunConfig, bundle: DataBundle) -> None:
    """Check that the files of the data are those with which the run in ``path`` began, by size, and if their times differ by content.

    Raises:
        DataError: a file has another size, or one of 32 samples per part has another content.
    """
    where = config.data_dir or config.dataset
    stored = read_facts(path)
    if found := changed_data(stored, bundle.files, bundle.content_digest):
        raise DataError(
            f"{where}: found {found}, expected those with which the run {path} began",
            "Restore them (`lsg data verify` names changed files, if there is a SHA256SUMS), or start a new run.",
        )
    if stored.get("data_files") not in (None, bundle.files):
        log.warning(
            "%s: found files with other times than at the start of the run, but equal sizes and, in a sample, equal contents",
            where,
        )


def changed_data(began: Facts, files: Mapping[str, str], content: Callable[[], str | None]) -> str:
    """How data differ from those with which a run began, such as ``other files``; empty if they do not, or the run does not record them.

    Args:
        began: facts of the run.
        files: digests of the files of the data, as in :class:`~lsgcli.data.bundle.DataBundle`.
        content: returns their ``content_digest``; called only if the files have equal names and sizes but other times, as copies do.
    """
    known = began.get("data_files")
    if known is None or known["stamps"] == files["stamps"]:
        return ""
    if known["sizes"] != files["sizes"]:
        return "other files, or files of other sizes"
    return "" if began.get("data_digest") == content() else "files with other contents"


def is_stopped(path: Path, config: RunConfig) -> bool:
    """Whether ``path`` contains an unfinished run with the same settings, which repeating its command continues.

    Raises:
        RunInUseError: it contains an unfinished run with different settings.
    """
    if not is_run(path) or read_result(path) is not None:
        return False
    check_same(path, config)
    return True
