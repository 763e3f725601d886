"""Cost of a run, measured on a few steps: ``lsg train --dry-run``."""

import statistics
import time
from collections.abc import Callable

from lsgcli.analysis.structure import structure
from lsgcli.config.run import RunConfig
from lsgcli.data.batches import Batch, batches
from lsgcli.data.bundle import DataBundle
from lsgcli.data.parallel import NamedProgress
from lsgcli.data.prepare import invent, prepare
from lsgcli.errors import MissingData, log
from lsgcli.models.base import SpikingNet
from lsgcli.runs.checks import check, check_folder
from lsgcli.system import memory
from lsgcli.system.device import Compute, set_up
from lsgcli.system.schema import Record
from lsgcli.training.initialise import new_model
from lsgcli.training.losses import gradients
from lsgcli.training.optim import Optimizers

STEPS, SECONDS = 5, 30.0  # at most this many timed steps and this total time, but at least one step


def dry_run(config: RunConfig, progress: NamedProgress) -> Record:
    """Prepare the data, without downloading any, build the network, and measure the cost of a few training steps.

    If a published data set is not there, the steps are on random samples, of its number and shape. No run directory is created.

    Returns:
        Settings, shapes, whether the data were found, number of parameters, multiply-accumulates per sample, peak memory in bytes, and seconds per step (median,
        including the optimiser).
    """
    check(config)
    check_folder(config)
    compute = set_up(config)
    bundle, found = _data(config, progress)
    model = new_model(config, len(bundle.classes), bundle.channels, bundle.height).to(compute.device)
    stream = batches(bundle, "train", config.batch_size, augment=config.augment, drop_last=True)
    batch = next(iter(stream))
    log.info("timing training steps")
    step = stepping(model, config, compute)
    times = list[float]()
    step(batch)
    while not times or (len(times) < STEPS and sum(times) < SECONDS):
        begin = time.perf_counter()
        step(batch)
        times.append(time.perf_counter() - begin)
    seconds = statistics.median(times)
    return {
        "settings": config.to_dict(),
        "input": list(batch.x.shape),
        "output": [config.T, len(batch.y), len(bundle.classes)],
        "classes": list(bundle.classes),
        "samples": bundle.sizes(),
        "data_found": found,
        "precision": {"used": compute.precision, "because": compute.reason},
        "synapses": {"used": compute.convolutions.choice, "crossings": model.crossings(compute)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "parameter_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        "macs_per_sample": structure(model, bundle.static)["multiplications"],
        "peak_bytes": compute.peak_bytes(),
        "peak_of": "the device" if compute.runs_ahead else "the whole process",
        "seconds_per_step": seconds,
        "seconds_per_epoch": seconds * len(stream),
        "seconds_total": seconds * len(stream) * config.epochs,
    }


def _data(config: RunConfig, progress: NamedProgress) -> tuple[DataBundle, bool]:
    """The data, and whether they were found."""
    try:
        return prepare(config, progress=progress, may_download=False), True
    except MissingData as missing:
        invented = invent(config)
        if invented is None:
            raise
        log.warning("%s; steps are timed with random samples, of the number and shape of %s", missing.message, config.dataset)
        return invented, False


def stepping(model: SpikingNet, config: RunConfig, compute: Compute) -> Callable[[Batch], None]:
    """A complete training step, with the optimiser. The first one sets up kernels and memory."""
    optimizers = Optimizers(model.train(), config)
    first = True

    def step(batch: Batch) -> None:
        nonlocal first
        gradients(model, batch, config, compute)
        optimizers.step(1.0)
        model.end_step()
        optimizers.zero_grad()
        compute.wait()
        if first:
            memory.release_unused()  # as in training
            first = False

    return step
