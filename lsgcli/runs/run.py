"""A complete run, from settings to report, as in ``lsg train`` and each cell of ``lsg ablate``."""

import dataclasses
import datetime
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import torch

from lsgcli import registry
from lsgcli.config.fields import listed
from lsgcli.config.run import RunConfig
from lsgcli.data.batches import batches
from lsgcli.data.bundle import DataBundle
from lsgcli.data.datasets.base import SPLITS
from lsgcli.data.prepare import prepare
from lsgcli.errors import DivergedError, LsgError, log, redacted
from lsgcli.runs.checks import check, check_data, check_folder, check_place, check_shares, check_unchanged, is_stopped
from lsgcli.runs.flow import advise, full_flow
from lsgcli.runs.report import Loggers, Page, Reporter, Status
from lsgcli.store import checkpoint, rundir
from lsgcli.store.names import canonical
from lsgcli.store.rundir import (
    FULL_FLOW,
    LAST,
    RunDir,
    RunFiles,
    read_facts,
    read_metrics,
    read_precision,
    write_config,
)
from lsgcli.system import files, memory
from lsgcli.system.device import Compute, set_up
from lsgcli.system.interpreter import __version__, version_of
from lsgcli.system.ranks import here
from lsgcli.system.schema import Record
from lsgcli.training.distributed import ALONE, Group, joined
from lsgcli.training.loop import Emit, Trainer
from lsgcli.training.optim import schedule
from lsgcli.training.signals import StopRequest

PLACEHOLDER = "RUN"  # for the directory of a run, in its own files, so that it can be moved
Existing = Literal["refuse", "replace", "resume"]  # what a new training does with the run in its directory


def parts_read(config: RunConfig, test: bool) -> tuple[str, ...]:
    """The parts of the data that a run reads, which may do without the test part."""
    return SPLITS if test and config.overfit is None else ("train",)


def data_of(config: RunConfig, test: bool, **options: Any) -> DataBundle:
    """The prepared data of a run; ``options`` and errors as for :func:`lsgcli.data.prepare.prepare`."""
    bundle = prepare(config, parts_read(config, test), **options)
    return bundle if config.overfit is None else _first_batches(config, bundle)


def _first_batches(config: RunConfig, bundle: DataBundle) -> DataBundle:
    """The samples of the first ``overfit`` batches of an epoch, as training and as validation part, without a test part."""
    assert config.overfit is not None
    order = batches(bundle, "train", config.batch_size, seed=config.seed, shuffle=True).order
    part = bundle.named("train").part(order[: config.overfit * config.batch_size])
    return dataclasses.replace(bundle, train=part, val=part, test=None)


def _inflation(end: Record, epochs: list[Record]) -> Record:
    """The best accuracy on the test part, if it was evaluated after each epoch, and by how much it would have flattered the run."""
    measured = [epoch["test_accuracy"] for epoch in epochs if "test_accuracy" in epoch]
    if not measured or end["accuracy"] is None:
        return {}
    return {"best_test_accuracy": max(measured), "inflation": max(measured) - end["accuracy"]}


def _tell_overfit(end: Record, findings: list[Record], samples: int) -> None:
    """Say whether a network learned the samples of ``overfit`` completely, and otherwise what may stand in the way."""
    share = f"{100 * end['best_accuracy']:.2f} % of {samples} samples are classified correctly"
    if end["best_accuracy"] == 1:
        log.info("overfit: %s, in epoch %d: the network can learn", share, end["best_epoch"] + 1)
        return
    log.warning("overfit: %s, expected 100 %%", share)
    for finding in findings:
        log.warning("  %s: %s %s", finding["rule"], finding["cause"], finding["remedy"]["text"])
    if not findings:
        log.warning("  Nothing is found in the way: try more --epochs.")


def train(
    config: RunConfig,
    path: Path,
    emit: Emit,
    stop: StopRequest,
    *,
    page: Page,
    existing: Existing = "refuse",
    group: Group = ALONE,
    test: bool = True,
) -> Record | None:
    """Prepare the data, train in the run directory ``path``, and write the reports.

    Args:
        emit: called with each record (preparing, start, step, epoch, end, ...).
        stop: checked between steps, with the time of ``config.max_time`` and of the job; while the data are prepared, a signal interrupts.
        page: the text of ``report.html``, from the run directory and the status of the run.
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
            test = test and "test" in read_facts(path).get("samples", {"test"})  # as it began: the files of both are compared
        check_place(path, config)
        check(config, fresh=not (resume and (path / LAST).exists()))
        check_folder(config)
        compute = set_up(config.replace(precision=read_precision(path)) if resume else config)
        with group.one_by_one():
            bundle = data_of(config, test, progress=progress, expected=_trained_on(path) if resume else None, strict=resume)
        if resume:
            check_data(path, config, bundle)
    if config.test_every_epoch and bundle.test is None:
        log.warning("--test-every-epoch: no effect, because the test part is not read")
    check_shares(config, bundle, group)
    if not group.is_main:
        group.agree("opened", lambda: None)  # rank 0 has opened the run
        Trainer(config, bundle, compute, RunFiles(path, resumed=resume), emit, stop, group).train()
        return None
    with (
        RunDir(path, force=existing == "replace", resume=resume) as run,
        Loggers(listed(config.log), run, emit) as emit,
    ):
        group.agree("opened", lambda: None)
        reporter = Reporter(run, page)

        def report(record: Record) -> None:
            reporter.follow(record)
            emit(record)

        trainer = Trainer(config, bundle, compute, run, report, stop, group)
        if resume:
            run.result.unlink(missing_ok=True)  # rewritten at the end
            if extension := _record_changes(run, config, trainer, group.size):
                emit({"event": "extended", **extension})
        else:
            run.clear()
            counts = [{"from_epoch": 0, "processes": group.size}]
            write_config(run, config, {**facts(compute, bundle), "sources": trainer.sources, "processes": counts})
        try:
            end = trainer.train()
            end = canonical(end | _inflation(end, read_metrics(path)), "result.json")
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
        advice = []
        flow = memory.if_it_fits(lambda: full_flow(trainer.model, bundle, config, compute))
        if flow is None:
            log.warning(
                "no gradient flow in the report: it needs more memory than training; use lsg inspect-gradients --batch-size"
            )
        else:
            advice = advise(flow, config, path, len(bundle.classes), name=PLACEHOLDER)
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
    page: Page,
    path: Path | None = None,
    force: bool = False,
    resume: bool = False,
    test: bool = True,
) -> Record | None:
    """:func:`train` in all processes that torchrun or srun started, or in this one alone.

    Args:
        page: the text of ``report.html``, from the run directory and the status of the run.
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

        return train(config, path, emit, stop, existing=group.agree("existing", existing), group=group, test=test, page=page)


def _record_changes(run: RunDir, config: RunConfig, trainer: Trainer, processes: int) -> Record:
    """Record in config.json that a run is resumed with more epochs or another number of processes; a record of the first, to emit."""
    state = trainer.state
    facts = read_facts(run.path)
    changes = Record()
    extension = Record()
    counts = facts.get("processes", [{"from_epoch": 0, "processes": 1}])
    if counts[-1]["processes"] != processes:
        changes["processes"] = [*counts, {"from_epoch": state.epoch, "processes": processes}]
    if (planned := facts["settings"]["epochs"]) != config.epochs:
        lr = config.lr * schedule(state.epoch * trainer.steps + state.step, trainer.steps, config)
        extension = {"from_epoch": state.epoch, "planned": planned, "epochs": config.epochs, "lr": lr}
        changes["extended"] = [*facts.get("extended", []), extension]
    if changes:
        write_config(run, config, {**facts, **changes})
    return extension


def _trained_on(path: Path) -> Record | None:
    """The data description in the last checkpoint of a run; None if there is no checkpoint yet."""
    last = path / LAST
    return checkpoint.read_config(last)["data"] if last.exists() else None


def digest_of(crossings: Mapping[str, Sequence[float]]) -> str | None:
    """A digest of the crossings by which ``--synapses auto`` chooses, equal for runs that choose alike; None without any."""
    if not crossings:
        return None
    return hashlib.sha256(json.dumps(crossings, sort_keys=True).encode()).hexdigest()[:16]


def facts(compute: Compute, bundle: DataBundle) -> Record:
    """Facts about a run: program, versions, command line, machine and data."""
    device = (
        torch.cuda.get_device_name(compute.device)
        if compute.device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "lsg": __version__,
        "git_revision": _git_revision(),
        "argv": [redacted(word) for word in sys.argv],
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {
            "torch": str(torch.__version__),  # with its build, such as +cu132, which the package's metadata lacks
            **{name: version_of(name) for name in ("torchvision", "tonic", "numpy", "numba", "safetensors")},
        },
        "device": {"type": compute.device.type, "name": device, "threads": torch.get_num_threads(), "cores": os.cpu_count()},
        "precision": {"used": compute.precision, "because": compute.reason},
        "crossings": digest_of(compute.convolutions.crossings),
        "classes": list(bundle.classes),
        "samples": bundle.sizes(),
        "data": bundle.info,
        "data_digest": bundle.content_digest(),
        "data_files": dict(bundle.files) or None,  # none of embedded data
        "plugins": registry.files or None,
    }


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
