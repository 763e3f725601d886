"""Cost of a run, measured on a few steps: ``lsg train --dry-run``."""

import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lsgcli.config.run import RunConfig
from lsgcli.data.batches import Batch, batches
from lsgcli.data.prepare import prepare
from lsgcli.data.progress import NamedProgress
from lsgcli.models import crossings
from lsgcli.models.base import SpikingNet
from lsgcli.runs.checks import check
from lsgcli.system import memory
from lsgcli.system.device import Compute, set_up
from lsgcli.training.activations import settle
from lsgcli.training.loop import new_model
from lsgcli.training.optim import Optimizers
from lsgcli.training.step import gradients

STEPS, SECONDS = 5, 30.0  # at most this many timed steps and this total time, but at least one step; also for the lower bound
Input = tuple[nn.Module, Tensor]  # of a convolution or linear layer

log = logging.getLogger("lsg")


def dry_run(config: RunConfig, progress: NamedProgress | None = None) -> dict[str, Any]:
    """Prepare the data, without downloading any, build the network, and measure the cost of a few training steps.

    No run directory is created.

    Returns:
        Settings, shapes, number of parameters, multiply-accumulates and spikes per sample, peak memory in bytes, seconds per step
        (median, including the optimiser), and seconds per step of the convolutions and linear layers only.
    """
    check(config)
    compute = set_up(config)
    bundle = prepare(config, progress=progress, may_download=False)
    model = new_model(config, len(bundle.classes), bundle.channels, bundle.height).to(compute.device)
    stream = batches(bundle, "train", config.batch_size, augment=config.augment, drop_last=True)
    batch = next(iter(stream))
    settled = settle(model, config, compute, lambda: batch)
    log.info("timing training steps")
    seconds, peak = seconds_per_step(model, batch, config, compute), compute.peak_bytes()
    part = batch.first(-(-len(batch.y) // config.accumulate))
    output, macs, spikes, inputs = _forward(model, part, compute)
    log.info("timing convolutions and linear layers")
    return {
        "settings": config.to_dict(),
        "input": list(batch.x.shape),
        "output": [output[0], len(batch.y), output[2]],
        "classes": list(bundle.classes),
        "samples": bundle.sizes(),
        "precision": {"used": compute.precision, "because": compute.reason},
        "convolution": {"used": compute.convolutions.choice, "crossings": crossings.of_network(model, compute)},
        "parameters": sum(p.numel() for p in model.parameters()),
        "parameter_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        "macs_per_sample": macs // len(part.y),
        "spikes_per_sample": spikes / len(part.y),
        "peak_bytes": peak,
        "peak_of": "the device" if compute.runs_ahead else "the whole process",
        "memory": settled and {**settled._asdict(), "text": settled.text},
        "seconds_per_step": seconds,
        "floor_seconds_per_step": len(batch.y) / len(part.y) * _floor(inputs, compute),
        "seconds_per_epoch": seconds * len(stream),
        "seconds_total": seconds * len(stream) * config.epochs,
    }


def seconds_per_step(model: SpikingNet, batch: Batch, config: RunConfig, compute: Compute, budget: float = SECONDS) -> float:
    """Median time of a training step, with the optimiser, in seconds; about ``budget`` seconds are spent, but at least two steps."""
    optimizers = Optimizers(model.train(), config)

    def step() -> None:
        gradients(model, batch, config, compute)
        optimizers.step(1.0)
        model.end_step()
        optimizers.zero_grad()

    return _median(step, compute, budget)


def _median(work: Callable[[], object], compute: Compute, budget: float = SECONDS) -> float:
    """Median time in seconds, without the first call, which also sets up kernels and memory."""
    work()
    memory.release_unused()  # as in training
    times: list[float] = []
    while not times or (len(times) < STEPS and sum(times) < budget):
        compute.wait()
        begin = time.perf_counter()
        work()
        compute.wait()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def _forward(model: SpikingNet, batch: Batch, compute: Compute) -> tuple[torch.Size, int, float, list[Input]]:
    """Output shape, multiply-accumulates and spikes of one pass, and inputs of convolutions and linear layers."""
    inputs: list[Input] = []
    spikes: list[Tensor] = []

    def keep(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs.append((module, torch.empty_like(arguments[0])))  # same memory layout; the values are not needed

    def count(lif: Any, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        spikes.append(output.sum(dtype=torch.float64) / lif.unit)

    weights = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    handles = [
        *(module.register_forward_pre_hook(keep) for module in weights),
        *(layer.lif.register_forward_hook(count) for layer in model.spiking_layers()),
    ]
    with FlopCounterMode(display=False) as counter, torch.no_grad(), compute.context():
        output = model(compute.move(batch.x)).shape
    for handle in handles:
        handle.remove()
    return output, counter.get_total_flops() // 2, float(sum(spikes)), inputs


def _floor(inputs: list[Input], compute: Compute) -> float:
    """Seconds of convolutions and linear layers, forward and backward; the input of the first layer requires no gradient."""
    total = 0.0
    for index, (module, x) in enumerate(inputs):
        leaf = x.bernoulli_(0.2).requires_grad_(index > 0)

        def work(module: nn.Module = module, leaf: Tensor = leaf) -> None:
            with compute.context():
                out = module(leaf)
            out.backward(torch.ones_like(out))

        total += _median(work, compute, SECONDS / len(inputs))
    return total
