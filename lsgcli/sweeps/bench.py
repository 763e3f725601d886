"""Speed of a network on this machine, in training, in inference, and as a stream of single timesteps.

The contenders are lsg, lsg with convolutions by spikes where they are faster (``lsg-auto``), and the floor: the same network without
normalisation and neurons. They take turns in this process, so that changes of the machine's speed affect all of them. ``benchmarks`` in the
repository compares other libraries, each in a process of its own.
"""

import contextlib
import itertools
import os
import platform
import random
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli import models
from lsgcli.analysis import running
from lsgcli.config.run import RunConfig
from lsgcli.data.batches import Batch
from lsgcli.errors import ConfigError
from lsgcli.export.runners import stepwise
from lsgcli.models.base import SpikingNet
from lsgcli.models.integer import deployed
from lsgcli.models.layers import ConvNorm
from lsgcli.neurons import LIF
from lsgcli.registry import get
from lsgcli.runs.dry_run import stepping
from lsgcli.system import cpus, memory
from lsgcli.system.device import Compute, Convolutions, check_gradients, pick_device, pick_precision
from lsgcli.system.interpreter import version_of
from lsgcli.system.schema import Record

MODES = ("train", "inference", "stream")
CONTENDERS = {"lsg": "dense", "lsg-auto": "auto", "floor": "dense"}  # name -> --synapses
WARM, TURN, MOST = 2, 0.5, 1000  # rounds that are not timed; seconds and steps of a turn at most, but for a single step
# No network learns its batch, and with smoothed labels no gradient vanishes: subnormal numbers take ten times as long, and the floor, whose
# outputs are large, would soon have them. The time of a step depends on neither.
RATE = 1e-12
SMOOTHING = 0.1
CLASSES, EVENTS = 10, 0.3  # of the random data: classes, and events per pixel and timestep
Progress = Callable[[str, int, int], object]  # what, rounds done, rounds
Step = Callable[[], object]  # of a contender, to its end


def bench(config: RunConfig, modes: Sequence[str], rounds: int, progress: Progress) -> Record:
    """Measure the network of ``config`` in each of ``modes``.

    Args:
        config: architecture, sizes, device, precision and threads.
        modes: of ``MODES``.
        rounds: number of rounds, in each of which every contender has a turn.
        progress: called before the first round of a case and after each.

    Returns:
        ``machine``: processor, versions, threads, device, precision and the reason for it, and the load before the first case.
        ``rows``: one for each case and contender, see :func:`rows_of`.

    Raises:
        ConfigError: the network or the machine does not support the settings.
    """
    device = pick_device(config.device)
    precision, reason = pick_precision(config.precision, device)
    if precision == "fp16" or device.index:
        raise ConfigError(
            f"found precision {precision} on the device {device}, expected fp32, bf16 or int8 on cpu or cuda",
            "Use --precision fp32; CUDA_VISIBLE_DEVICES selects a GPU.",
        )
    threads = cpus.limited("threads", config.threads) if config.threads else cpus.usable(cpus.THREADS)[0]
    about = {"threads": threads, "device": device.type, "precision": precision, "because": reason, "load": os.getloadavg()[0]}
    record: Record = {"machine": machine() | about, "rows": []}
    torch.set_num_threads(threads)
    memory.keep_large_buffers()
    for mode in modes:
        if mode == "train":
            check_gradients(precision)
        batch = 1 if mode == "stream" else config.batch_size
        case = f"{config.arch} x {config.width_multiplier:g}, T={config.T}, {config.size} px, batch {batch}, {mode}"
        progress(case, 0, rounds)
        steps: dict[str, Step] = {}
        for name in CONTENDERS:
            if name != "lsg-auto" or (device.type == "cpu" and precision != "int8"):
                own = "fp32" if name == "floor" and precision == "int8" else precision
                compute = Compute(device, own, convolutions=Convolutions(CONTENDERS[name]))
                steps[f"{name} {own}"] = prepared(name, mode, batch, config, compute)
        seconds: dict[str, list[float]] = {title: [] for title in steps}
        for done in race(steps, seconds, rounds):
            progress(case, done, rounds)
        record["rows"] += rows_of(seconds, case, batch / (config.T if mode == "stream" else 1))
    return record


def race(steps: Mapping[str, Step], seconds: dict[str, list[float]], rounds: int) -> Iterator[int]:
    """Let the contenders run in turns, in random order; the number of timed rounds after each round.

    Args:
        seconds: gets the median of the steps of each turn.
    """
    count = 1
    shortest = float("inf")
    for done in range(1 - WARM, rounds + 1):
        for title in random.Random(done).sample(list(steps), len(steps)):
            times = []
            for _ in range(count):
                begin = time.perf_counter()
                steps[title]()
                times.append(time.perf_counter() - begin)
            median = statistics.median(times)
            shortest = min(shortest, median)
            if done > 0:
                seconds[title].append(median)
        if done == 0:  # a short step is repeated within a turn: caches are cold after another's turn
            count = max(1, min(MOST, round(TURN / shortest)))
        if done > 0:
            yield done


def rows_of(seconds: Mapping[str, Sequence[float]], case: str, samples: float) -> list[Record]:
    """The rows of a case, from the seconds of a step in each round of each contender.

    Returns:
        ``contender``: name and precision; ``case``; ``ms``: median of a step, which is a batch, or in a stream one timestep
        of one sample; ``samples_per_s``, of whole samples; ``time_over_lsg``: see :func:`ratio`; None for the first contender.
    """
    rows: list[Record] = []
    ours = next(iter(seconds.values()))
    for title, own in seconds.items():
        median = statistics.median(own)
        over = ratio(own, ours) if rows else None
        rows.append(
            {"contender": title, "case": case, "samples_per_s": samples / median, "ms": 1e3 * median, "time_over_lsg": over}
        )
    return rows


def ratio(theirs: Sequence[float], ours: Sequence[float], draws: int = 2000) -> dict[str, float]:
    """Median of the rounds' ratios of their time to ours, ``ratio``, and its 95 % interval by bootstrap of the rounds, ``low`` to ``high``."""
    rounds = np.divide(theirs, ours)
    redrawn = np.random.default_rng(0).choice(rounds, (draws, len(rounds)))
    low, high = np.quantile(np.median(redrawn, 1), (0.025, 0.975))
    return {"ratio": float(np.median(rounds)), "low": float(low), "high": float(high)}


def machine() -> Record:
    """Processor, cores and versions."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, IndexError):  # not Linux, or another processor
        processor = re.findall("model name.*: (.*)", Path("/proc/cpuinfo").read_text())[0]
    versions = {name: version_of(name) for name in ("torch", "numba", "lsgcli")}
    return {"processor": processor, "cores": cpus.usable(())[0], "python": platform.python_version(), "versions": versions}


def prepared(name: str, mode: str, batch: int, config: RunConfig, compute: Compute) -> Step:
    """A step of a contender."""
    torch.manual_seed(0)
    device = compute.device
    channels = get("arch", config.arch).defaults["in_channels"]
    sizes = {"T": config.T, "num_classes": CLASSES, "in_channels": channels, "input_size": config.size}
    network = models.build(config.arch, width_multiplier=config.width_multiplier, **sizes).to(device)
    generator = torch.Generator().manual_seed(1)
    if channels == 2:
        x = torch.poisson(torch.full((config.T, batch, 2, config.size, config.size), EVENTS), generator=generator)
    else:
        x = torch.randn(batch, channels, config.size, config.size, generator=generator)
    y = torch.randint(0, CLASSES, (batch,), generator=generator)
    x = x.to(device)
    y = y.to(device)
    if name == "floor":
        strip(network)

    if mode == "train":
        train = stepping(
            network, RunConfig(lr=RATE, weight_decay=0.0, decay_lr=RATE, loss="ce", label_smoothing=SMOOTHING), compute
        )
        return lambda: train(Batch(x, y, 0))
    network.eval()
    with contextlib.suppress(ConfigError):  # of a network without normalisation
        first = x[:1] if x.dim() == 4 else x[:, :1]
        running.refresh(network, [Batch(first, y, 0)], compute)  # so that the neurons of deep layers fire
    if name != "floor":
        network = deployed(network, compute.precision)
    if mode == "stream" and any(type(module) is LIF for module in network.modules()):
        return stream(network, x, compute)
    if mode == "stream":
        x = x[:1] if x.dim() == 5 else x[None]
    return lambda: forward(network, x, compute)


def stream(network: SpikingNet, x: Tensor, compute: Compute) -> Step:
    """One timestep of a window, as in ``lsg predict --stream``; the first of a window starts from rest."""
    frames = x if x.dim() == 5 else x.expand(network.T, *x.shape)
    window = itertools.cycle(enumerate(frames))
    steps = stepwise(network, {})
    state: Any = None

    def step() -> None:
        nonlocal state
        t, frame = next(window)
        with torch.inference_mode(), compute.context():
            _, state = steps.step(frame, steps.rest(len(frame)) if t == 0 else state)
        compute.wait()

    return step


@torch.inference_mode()
def forward(network: nn.Module, x: Tensor, compute: Compute) -> None:
    """Mean logits."""
    with compute.context():
        network(x).float().mean(0)
    compute.wait()


class Silent(LIF):
    """Neurons that pass on their currents."""

    def forward(self, current: Tensor, *, overwrite: bool = False) -> Tensor:
        """The current."""
        return current

    def normalise_and_fire(self, norm: Any, z: Tensor, *, residual: Tensor | None = None, pool: int = 1) -> Tensor:
        """The sum of the currents, average-pooled."""
        z = z if residual is None else z + residual
        return z if pool == 1 else F.avg_pool2d(z.flatten(0, 1), pool).unflatten(0, z.shape[:2])

    def end_step(self, skip: Tensor | None = None) -> None:
        """Nothing was measured."""


def strip(network: nn.Module) -> None:
    """Remove normalisation and neurons, in place: convolutions, linear layers, pools and sums remain."""
    for module in network.modules():
        if isinstance(module, LIF):
            module.__class__ = Silent
        if isinstance(module, ConvNorm):
            module.norm = nn.Identity()
        if hasattr(module, "levels"):
            module.levels = None  # type: ignore[assignment]  # real values are not saved in bits
