"""A complete run, from settings to report, as in ``lsg train`` and each cell of ``lsg ablate``."""

import dataclasses
import datetime
import itertools
import logging
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from lsgcli import registry
from lsgcli.analysis import gradflow, raster, running
from lsgcli.config.fields import all_at_once, listed
from lsgcli.config.run import CONFIG, FIELDS, MAY_CHANGE, PATHS, RunConfig, check_equal
from lsgcli.data.augment.base import chain
from lsgcli.data.batches import Batches, batches
from lsgcli.data.bundle import DataBundle, spread
from lsgcli.data.datasets.base import SPLITS, dataset_of
from lsgcli.data.prepare import prepare
from lsgcli.errors import ConfigError, DataError, DivergedError, LsgError, RunInUseError, require
from lsgcli.models.base import SpikingNet
from lsgcli.runs.advise import advise
from lsgcli.runs.packages import version_of
from lsgcli.runs.report import Page, Reporter, Status
from lsgcli.store import checkpoint, hub, rundir
from lsgcli.store.rundir import (
    FULL_FLOW,
    LAST,
    RunDir,
    RunFiles,
    is_run,
    read_config,
    read_facts,
    read_precision,
    read_result,
    read_sources,
    write_config,
)
from lsgcli.system import files, memory
from lsgcli.system.device import Compute, check_gradients, pick_device, pick_precision, set_up
from lsgcli.system.ranks import here
from lsgcli.system.version import __version__
from lsgcli.training.distributed import ALONE, Group, joined
from lsgcli.training.freeze import freeze
from lsgcli.training.initialise import initialise
from lsgcli.training.loop import Emit, Trainer, new_model
from lsgcli.training.losses import observed_backbone, of_run
from lsgcli.training.optim import schedule
from lsgcli.training.signals import StopRequest

log = logging.getLogger("lsg")
HERE = "RUN"  # what the files of a run call its directory, because they do not depend on it
Existing = Literal["refuse", "replace", "resume"]  # what a new training does with the run in its directory


def check(config: RunConfig, fresh: bool = True, last: Path | None = None) -> None:
    """Check that the settings are compatible, before any expensive work.

    Args:
        fresh: whether the run starts from the beginning. A resumed run does not read ``--init-from`` and ``--width-from``.
        last: checkpoint of a resumed run.

    Raises:
        ConfigError: with one line for each problem.
        CheckpointError: the file of ``--init-from`` or ``--width-from`` is not a checkpoint, or of a different network.
    """
    dataset = dataset_of(config)

    def build() -> None:
        with torch.device("meta"):  # shapes only, no memory
            model = new_model(config, classes=2, channels=2, height=1 if dataset.line else None, last=last)
        if model.images_only and not dataset.static:
            raise ConfigError(
                f"arch: found {config.arch} with the recordings of {config.dataset}, expected a --dataset of images",
                hint="This network makes its timesteps from an image: use another --arch for recordings.",
            )
        if fresh:
            initialise(model, config)

    def check_parts() -> None:
        if fresh and config.accumulate > config.batch_size:
            raise ConfigError(
                f"accumulate: found {config.accumulate}, expected at most the batch size, {config.batch_size}",
                hint="Each part needs at least one sample.",
            )
        if config.leak and config.accumulate > 1:
            raise ConfigError(
                f"accumulate: found {config.accumulate} with --leak, expected 1, because neurons do not pass their state from part to part"
            )

    def check_schedule() -> None:
        cooldown = config.cooldown_epochs if config.schedule == "cosine" else 0
        if (edges := config.warmup_epochs + cooldown) and edges >= config.epochs:
            raise ConfigError(
                f"epochs: found {config.epochs}, expected more than the {edges} of warm-up and cool-down",
                hint="Increase --epochs, or decrease --warmup-epochs and --cooldown-epochs.",
            )

    def check_loggers() -> None:
        for name in listed(config.log):
            logger = registry.get("logger", name)
            require(logger.packages, f"--log {name}", logger.extra)

    all_at_once(
        lambda: check_gradients(config.precision),
        dataset.check,
        check_schedule,
        lambda: registry.get("backend", config.backend).check(pick_device(config.device)),
        lambda: chain(config.augment, dataset.static),
        check_parts,
        check_loggers,
        build,
    )


def check_place(path: Path, config: RunConfig) -> None:
    """Check that a run, or a folder of runs, is not in a folder whose subfolders are the classes of the data.

    Raises:
        ConfigError: it is.
    """
    dataset_of(config).check_outside("--out", path)


@dataclass(frozen=True)
class Outlets:
    """Where a run reports, besides its records.

    Attributes:
        page: the text of ``report.html``, from the run directory and the status of the run.
        loggers: a context that copies records to the loggers of ``--log`` before it passes them on, from their names, the run and
            the receiver of the records.
    """

    page: Page
    loggers: Callable[[list[str], RunDir, Emit], AbstractContextManager[Emit]]


def _check_shares(config: RunConfig, bundle: DataBundle, group: Group) -> None:
    """Check that a batch can be divided among the processes, and that each gets a sample of each part of it."""
    if config.leak and group.size > 1:
        raise ConfigError(
            f"leak: found {group.size} devices, expected one, because neurons pass their state from each sample of a batch to the next"
        )
    samples = min(config.batch_size, len(bundle.named("train")))
    if samples // min(config.accumulate, samples) < group.size:
        raise ConfigError(
            f"batch_size: found {samples} samples in {min(config.accumulate, samples)} parts, expected at least {group.size} in each, "
            "one for each device",
            hint="Use a larger --batch-size, fewer parts (--accumulate) or fewer devices.",
        )


def _first_batches(config: RunConfig, bundle: DataBundle) -> DataBundle:
    """The samples of the first ``overfit`` batches of an epoch, as training and as validation part, without a test part."""
    assert config.overfit is not None
    order = batches(bundle, "train", config.batch_size, seed=config.seed, shuffle=True).order
    part = bundle.named("train").part(order[: config.overfit * config.batch_size])
    return dataclasses.replace(bundle, train=part, val=part, test=None)


def _tell_overfit(end: dict[str, Any], findings: list[dict[str, Any]], samples: int) -> None:
    """Say whether a network learned the samples of ``overfit`` completely, and otherwise what may stand in the way."""
    share = f"{100 * end['best_accuracy']:.2f} % of {samples} samples are classified correctly"
    if end["best_accuracy"] == 1:
        log.info("overfit: %s, in epoch %d: the network can learn", share, end["best_epoch"] + 1)
        return
    causes = "".join(f"\n  {one['rule']}: {one['cause']} {one['remedy']['text']}" for one in findings)
    found = f"In the way, with commands in `lsg inspect-gradients {shlex.quote(end['run'])} --advise`:{causes}"
    log.warning(
        "overfit: %s, expected 100 %%. %s", share, found if findings else "Nothing is found in the way: try more --epochs."
    )


def identity(config: RunConfig) -> dict[str, Any]:
    """The settings that must not change on resume, with the path of an initial checkpoint replaced by its digest.

    Raises:
        CheckpointError: the initial checkpoint cannot be read.
    """
    settings = {name: value for name, value in config.to_dict().items() if name not in MAY_CHANGE}
    named = [name for name in settings if FIELDS[name].metadata["path"] == "checkpoint" and settings[name] is not None]
    return settings | {name: checkpoint.read_digest(hub.local(settings[name])) for name in named}


def check_same(path: Path, config: RunConfig) -> None:
    """Check that the run in ``path`` has the settings of ``config``, except those that may change on resume.

    Raises:
        RunInUseError: the settings differ.
        CheckpointError: as :func:`identity`.
    """
    there, wanted = {**read_config(path).to_dict(), **read_sources(path)}, identity(config)
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
    stored = read_facts(path)
    began, where = stored.get("data_files"), config.data_dir or config.dataset
    if began is None or began == bundle.files:  # of an earlier version, or unchanged
        return
    others = began["sizes"] != bundle.files["sizes"]
    if others or stored.get("data_digest") != bundle.content_digest():
        found = "other files, or files of other sizes" if others else "files with other contents"
        raise DataError(
            f"{where}: found {found}, expected those with which the run {path} began",
            hint="Restore them (`lsg data verify` names changed files, if there is a SHA256SUMS), or start a new run.",
        )
    log.warning(
        "%s: found files with other times than at the start of the run, but equal sizes and, in a sample, equal contents", where
    )


def is_stopped(path: Path, config: RunConfig) -> bool:
    """Whether ``path`` contains an unfinished run with the same settings, which repeating its command continues.

    Raises:
        RunInUseError: it contains an unfinished run with different settings.
    """
    if not is_run(path) or read_result(path) is not None:
        return False
    check_same(path, config)
    return True


def train(
    config: RunConfig,
    path: Path,
    emit: Emit,
    stop: StopRequest,
    *,
    outlets: Outlets,
    existing: Existing = "refuse",
    group: Group = ALONE,
    test: bool = True,
) -> dict[str, Any] | None:
    """Prepare the data, train in the run directory ``path``, and write the reports.

    Args:
        emit: called with each record (preparing, start, step, epoch, end, ...).
        stop: checked between steps, with the time of ``config.max_time`` and of the job; while the data are prepared, a signal interrupts.
        outlets: where the run reports.
        existing: what happens to a run in ``path``; only ``resume`` needs one.
        group: the processes that train together; rank 0 writes the run directory.
        test: whether the test part is read and evaluated.

    Returns:
        The final record, as :meth:`lsgcli.training.loop.Trainer.train`; None in processes other than rank 0.

    Raises:
        LsgError: the settings, data, run directory or a checkpoint are invalid, or training failed or was stopped.
    """
    resume = existing == "resume"
    stop.limit(config.max_time)

    def progress(what: str, done: int, total: int) -> None:
        emit({"event": "preparing", "what": what, "done": done, "total": total})

    with stop.at_once() if group.size == 1 else nullcontext():  # several processes stop together, before the same step
        if resume:
            check_unchanged(path, config)
        check_place(path, config)
        last = path / LAST if resume and (path / LAST).exists() else None
        check(config, fresh=last is None, last=last)
        compute = set_up(config.replace(precision=read_precision(path)) if resume else config)
        with group.one_by_one():
            bundle = prepare(
                config,
                SPLITS if test and config.overfit is None else ("train",),
                progress=progress,
                expected=_trained_on(path) if resume else None,
                strict=resume,
            )
        if config.overfit is not None:
            bundle = _first_batches(config, bundle)
        if resume:
            check_data(path, config, bundle)
    _check_shares(config, bundle, group)
    if not group.is_main:
        group.agree("opened", lambda: None)  # rank 0 has opened the run
        Trainer(config, bundle, compute, RunFiles(path, resumed=resume), emit, stop, group).train()
        return None
    with (
        RunDir(path, force=existing == "replace", resume=resume) as run,
        outlets.loggers(listed(config.log), run, emit) as emit,
    ):
        group.agree("opened", lambda: None)
        reporter = Reporter(run, outlets.page)

        def report(record: dict[str, Any]) -> None:
            reporter.follow(record)
            emit(record)

        trainer = Trainer(config, bundle, compute, run, report, stop, group)
        if resume:
            run.result.unlink(missing_ok=True)  # rewritten at the end
            _record_processes(run, config, trainer.state.epoch, group.size)
            if read_config(path).epochs != config.epochs:
                emit(_extend(run, config, trainer))
        else:
            run.clear()
            counts = [{"from_epoch": 0, "processes": group.size}]
            how = _evaluation(trainer.model, bundle)
            write_config(run, config, {**facts(compute, bundle), **how, "sources": trainer.sources, "processes": counts})
        try:
            end = trainer.train()
        except DivergedError as error:
            end = {"run": str(path), "accuracy": None, "diverged": error.message}
            files.write_json(run.result, end)
            reporter.write(Status("diverged", end | {"cause": error.hint}))
            raise
        except LsgError:
            reporter.write(Status("stopped"))
            raise
        if (done := end["epochs_done"]) < config.epochs:
            log.info(
                "finished after %d of %d epochs: no better validation accuracy in %d epochs",
                done,
                config.epochs,
                config.patience,
            )
        advice: list[dict[str, Any]] = []
        flow = memory.if_it_fits(lambda: full_flow(trainer.model, bundle, config, compute))
        if flow is None:
            log.warning(
                "no gradient flow in the report: it needs more memory than training; use lsg inspect-gradients --batch-size"
            )
        else:
            flow["findings"] = advice = advise(flow, config, path, len(bundle.classes), name=HERE)
            for found in [one for one in advice if one["severity"] == "error"][:1]:
                log.warning(
                    "%s: %s See: lsg inspect-gradients %s --advise", found["rule"], found["cause"], shlex.quote(str(path))
                )
            files.write_json(run.path / FULL_FLOW, flow)
        if config.overfit is not None:
            _tell_overfit(end, advice, len(bundle.named("train")))
        reporter.write(Status("finished", end, trainer.tested, bundle))
        files.write_json(run.result, end)
        emit(end)
    return end


def train_together(
    config: RunConfig,
    emit: Emit,
    stop: StopRequest,
    *,
    outlets: Outlets,
    path: Path | None = None,
    force: bool = False,
    resume: bool = False,
    test: bool = True,
) -> dict[str, Any] | None:
    """:func:`train` in all processes that torchrun or srun started, or in this one alone.

    Args:
        outlets: where the run reports.
        path: default: a new directory below ``runs/``. An unfinished run with the same settings is continued.
        force: replace a run in ``path``, but not in a restart by torchrun, which continues it.
        resume: ``path`` contains a run that ``config`` continues.
        test: whether the test part is read and evaluated.

    Raises:
        RunInUseError: ``path`` contains another run, and neither ``force`` nor ``resume`` is given.
        LsgError: as :func:`train`.
    """
    with joined(here(), config.device) as group:
        path = Path(group.agree("path", lambda: str(path or rundir.new_path(config)), lasting=True))
        force = force and here().attempt == 0

        def existing() -> Existing:
            if resume:
                return "resume"
            stopped = not force and is_stopped(path, config)
            rundir.check_free(path, force=force, resume=stopped)
            return "resume" if stopped else "replace" if force else "refuse"

        return train(
            config, path, emit, stop, existing=group.agree("existing", existing), group=group, test=test, outlets=outlets
        )


def _extend(run: RunDir, config: RunConfig, trainer: Trainer) -> dict[str, Any]:
    """Record the new number of epochs in config.json; returns the record to emit."""
    state, facts = trainer.state, read_facts(run.path)
    record = {"from_epoch": state.epoch, "planned": facts["settings"]["epochs"], "epochs": config.epochs}
    record["lr"] = config.lr * schedule(state.epoch * trainer.steps + state.step, trainer.steps, config)
    write_config(run, config, {**facts, "extended": [*facts.get("extended", []), record]})
    return {"event": "extended", **record}


def _record_processes(run: RunDir, config: RunConfig, epoch: int, count: int) -> None:
    """Record in config.json that a run is resumed with another number of processes."""
    facts = read_facts(run.path)
    counts = facts.get("processes", [{"from_epoch": 0, "processes": 1}])
    if counts[-1]["processes"] != count:
        write_config(run, config, {**facts, "processes": [*counts, {"from_epoch": epoch, "processes": count}]})


def _trained_on(path: Path) -> dict[str, Any] | None:
    """The data description in the last checkpoint of a run; None if there is no checkpoint yet."""
    last = path / LAST
    return checkpoint.read_config(last)["data"] if last.exists() else None


def full_flow(
    model: SpikingNet,
    bundle: DataBundle,
    config: RunConfig,
    compute: Compute,
    n_batches: int = 4,
    shown: int = 0,
    *,
    detailed: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """The full gradient-flow record of a model on the first batches of its training data, without augmentation.

    It includes the accuracy in evaluation and with batch statistics, and a warning if they differ much, and the activity of the training
    sample ``shown``. With ``--accumulate``, batches have the size of the parts, of which training normalises each by itself. ``detailed`` and
    ``options`` are as for :func:`lsgcli.analysis.inspect`; ``detailed`` also measures ``batch_invariant``.

    Raises:
        ConfigError: there is no such sample, or the precision has no gradients.
    """
    check_gradients(config.precision)
    split = bundle.named("train")
    if config.freeze is not None and not model.frozen:  # of a checkpoint; as in training
        freeze(model, config.freeze)
    size = -(-config.batch_size // config.accumulate)
    if shown >= len(split):
        raise ConfigError(f"--sample: found {shown}, expected 0 to {len(split) - 1}, the samples of the training part")
    around = spread(split, size, first=shown)
    stream = batches(bundle, split, size, seed=config.seed, shuffle=True, drop_last=True)
    with observed_backbone(model, config):
        flow = gradflow.inspect(
            model,
            itertools.islice(stream, n_batches),
            loss=of_run(config, split.y, len(bundle.classes)),
            compute=compute,
            detailed=detailed,
            **options,
        )
    found = running.accuracies(model, stream, compute)
    running.warn_of_gap(found, "training samples")
    (batch,) = batches(bundle, around, size, seed=config.seed)
    flow["activity"] = {**raster.activity(model, batch, compute=compute), "sample": shown}
    flow |= {"accuracy": found and found._asdict(), "eval_gap": found and found.batch - found.evaluation}
    return flow | {"batch_invariant": _is_batch_invariant(model, stream, compute) if detailed else None}


def _is_batch_invariant(model: SpikingNet, stream: Batches, compute: Compute) -> bool:
    """Whether samples of the first batch have the same logits alone."""
    x = compute.move(next(iter(stream)).x)
    was_training = model.training
    try:
        with compute.context():
            return running.batch_invariant(model.eval(), x, axis=0 if x.dim() == 4 else 1)
    finally:
        model.train(was_training)


def facts(compute: Compute, bundle: DataBundle) -> dict[str, Any]:
    """Facts about a run: program, versions, command line, machine and data."""
    device = (
        torch.cuda.get_device_name(compute.device)
        if compute.device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "lsg": __version__,
        "git_revision": _git_revision(),
        "argv": sys.argv,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {
            "torch": str(torch.__version__),  # with its build, such as +cu132, which the package's metadata lacks
            **{name: version_of(name) for name in ("torchvision", "tonic", "numpy", "numba", "safetensors")},
        },
        "device": {"type": compute.device.type, "name": device, "threads": torch.get_num_threads(), "cores": os.cpu_count()},
        "precision": {"used": compute.precision, "because": compute.reason},
        "classes": list(bundle.classes),
        "samples": bundle.sizes(),
        "data": bundle.info,
        "data_digest": bundle.content_digest(),
        "data_files": dict(bundle.files) or None,  # none of embedded data
    }


def _evaluation(model: SpikingNet, bundle: DataBundle) -> dict[str, Any]:
    """Batches of the evaluation, if predictions depend on them: their size, and whether the samples are sorted by class, by part."""
    if model.fixed_batch is None:
        return {}
    by_class = {name: bool((np.diff(split.y) >= 0).all()) for name, split in bundle.parts.items() if name != "train"}
    return {"evaluation": {"batch_size": model.fixed_batch, "sorted_by_class": by_class}}


def _git_revision() -> str | None:
    """Git revision of the source tree; None if lsg does not run from a repository."""
    try:
        root = Path(__file__).resolve().parents[2]
        if not (root / ".git").exists():
            return None
        done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
