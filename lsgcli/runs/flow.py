"""Gradient flow of a run's network on batches of its training data, advice on the run, and running statistics estimated again."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsgcli.analysis import gradflow, raster, running
from lsgcli.analysis.advice import judge
from lsgcli.analysis.rules.base import Evidence
from lsgcli.config.resolve import usual
from lsgcli.config.run import RunConfig
from lsgcli.data.batches import Batches, batches
from lsgcli.data.bundle import DataBundle, spread
from lsgcli.errors import CheckpointError, ConfigError, log
from lsgcli.models.base import SpikingNet
from lsgcli.runs.open import Opened
from lsgcli.store import checkpoint
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.store.flows import history
from lsgcli.store.rundir import LAST, is_run, read_facts, read_metrics, read_result
from lsgcli.system.device import Compute, check_gradients
from lsgcli.system.schema import Record
from lsgcli.training.initialise import freeze
from lsgcli.training.losses import of_run


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
) -> Record:
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
    loss = of_run(config, split.y, len(bundle.classes))
    first = itertools.islice(stream, n_batches)
    flow = gradflow.inspect(model, first, loss=loss, compute=compute, detailed=detailed, **options)
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


def measured(opened: Opened, path: Path, n_batches: int, limits: Mapping[str, float] | None = None, **options: Any) -> Record:
    """The gradient-flow record of an opened checkpoint, with findings, see :func:`advise`; ``options`` as for :func:`full_flow`.

    Raises:
        CheckpointError: an export.
    """
    checkpoint.check_unfolded(path, opened.stored, "Gradient flow is measured as in training, with batch statistics.")
    flow = full_flow(opened.model, opened.bundle, opened.config, opened.compute, n_batches, **options)
    advise(flow, opened.config, path, len(opened.bundle.classes), limits)
    return flow


def refreshed(opened: Opened, path: Path, n: int) -> Checkpoint:
    """Re-estimate the running statistics of an opened checkpoint in place, on ``n`` batches of training data without augmentation.

    Batches have the size of the parts that training normalises, and one epoch is the most.

    Returns:
        The checkpoint with the new statistics; without training state of the optimiser, and with the source in ``refreshed``.

    Raises:
        CheckpointError: an export.
        ConfigError: the network has no normalisation.
    """
    stored = opened.stored
    if stored["folded"] or "export" in stored:
        raise CheckpointError(
            f"{path}: found an export, expected a checkpoint written by training",
            "Refresh the run's own checkpoint, and export the result.",
        )
    bundle = opened.bundle
    config = opened.config
    size = -(-config.batch_size // config.accumulate)
    stream = batches(bundle, "train", size, seed=config.seed, shuffle=True, drop_last=True, workers=config.workers)
    done = running.refresh(opened.model, itertools.islice(stream, n), opened.compute)
    log.info("re-estimated running statistics on %d batches of %d training samples", done, size)
    content = checkpoint.read(path)
    about = {**stored, "refreshed": {"batches": done, "batch_size": size, "sha256": content.sha256}}
    return Checkpoint(opened.model.state_dict(), about, content.state)


def advise(
    flow: Record,
    config: RunConfig,
    run: Path,
    classes: int,
    limits: Mapping[str, float] | None = None,
    name: str = "",
) -> list[Record]:
    """Findings on a network, and verdicts on its layers, as :func:`lsgcli.analysis.advice.judge`.

    Args:
        flow: its gradient-flow record, to which they are added.
        config: settings of its run.
        run: its run directory, whose records are read if there are any, or its checkpoint.
        classes: number of classes.
        limits: thresholds of rules, by name.
        name: what commands call the run; default: its path.
    """
    folder = run if run.is_dir() else run.parent
    of_run = is_run(folder)
    result = Record()
    facts = Record()
    epochs = list[Record]()
    if of_run:
        result = read_result(folder) or {}
        facts = {**read_facts(folder)}
        epochs = read_metrics(folder)
    evidence = Evidence(
        flow,
        settings=config.to_dict(),
        usual=usual(config.dataset),
        epochs=epochs,
        classes=classes,
        samples=facts.get("samples", {}).get("train", 0),
        tested=math.nan if (tested := result.get("accuracy")) is None else tested,
        diverged=bool(result.get("diverged")),
        history=history(folder / LAST) if of_run else None,
    )
    return judge(evidence, limits, name or str(folder if of_run else run))
