"""Memory of activations by levels (``--memory``): the plan of what is computed again, by estimated bytes, and its confirmation by a measured step.

0  everything is kept
1  each segment (convolution, normalisation, neurons, pooling) keeps only its input, in bits where it consists of spikes
2  and in depth: while the estimated peak falls, the segment with the peak computes the gradients of its convolution one after the other
3  and along time: likewise, it computes its convolution again in parts of (T, B)
4  and segments, from the most expensive on, keep the output of their convolution again, if the peak does not rise
"""

import copy
import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lsgcli.config.run import RunConfig
from lsgcli.data.batches import Batch
from lsgcli.models.base import SpikingNet
from lsgcli.models.layers import ConvNorm, SpikingConv
from lsgcli.models.recompute import KEEP, PARTS, Recompute
from lsgcli.system.device import HALF, Compute
from lsgcli.training.distributed import ALONE, Group
from lsgcli.training.step import gradients

TIGHTER = (1.0, 0.9, 0.75)  # fractions of the estimated peak below which segments keep more, until a measured step confirms it
log = logging.getLogger("lsg")


class Sizes(NamedTuple):
    """A segment.

    Attributes:
        name: of its module.
        source: bytes of its input.
        packed: bytes of its input as it is kept.
        z: bytes of the output of its convolution.
        out: bytes of its output.
        weight: bytes of the weight.
        macs: multiply-accumulates of its convolution.
    """

    name: str
    source: int
    packed: int
    z: int
    out: int
    weight: int
    macs: int


class Plan(NamedTuple):
    """How the segments of a network save memory.

    Attributes:
        level: of ``--memory``.
        how: of each segment, by name.
        estimated: bytes of activations at the peak, without and with the plan; 0 if unknown.
        measured: the same with the plan, as measured; 0 if not measured.
    """

    level: int
    how: dict[str, Recompute]
    estimated: tuple[int, int] = (0, 0)
    measured: int = 0

    @property
    def text(self) -> str:
        """Description of the plan and its peaks."""
        mib = [f"{value / 2**20:,.0f} MiB" for value in (*self.estimated, self.measured)]
        recomputed = sum(how.output for how in self.how.values())
        return (
            f"level {self.level}, {recomputed} of {len(self.how)} segments recomputed; peak of activations "
            + (f"{mib[2]} measured, " if self.measured else "")
            + f"{mib[1]} estimated, {mib[0]} with level 0"
        )


def settle(
    model: SpikingNet, config: RunConfig, compute: Compute, batch: Callable[[], Batch], group: Group = ALONE
) -> Plan | None:
    """Let the segments of a network save memory as ``config.memory`` says; all processes of a group do the same.

    Args:
        batch: returns a batch of the run, for levels from 2 on.

    Returns:
        The plan; None for level 0.
    """
    level = config.memory_level
    every = {name: Recompute(output=True) for name, _ in _segments(model)}
    if level == 0 or not every:
        return None
    plan = Plan(level, every)
    if level > 1:
        found = group.agree("memory", lambda: _chosen(model, config, compute, batch(), level))
        how = {name: Recompute(*one) for name, one in found["how"].items()}
        plan = Plan(level, how, tuple(found["estimated"]), found["measured"])  # type: ignore[arg-type]
        log.info("memory: %s", plan.text)
    apply(model, plan.how)
    return plan


def apply(model: nn.Module, how: dict[str, Recompute]) -> None:
    """Set how each segment saves memory."""
    for name, segment in _segments(model):
        segment.recompute = how.get(name, KEEP)


def _segments(model: nn.Module) -> Iterator[tuple[str, ConvNorm]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, ConvNorm))


def _chosen(model: SpikingNet, config: RunConfig, compute: Compute, batch: Batch, level: int) -> dict[str, Any]:
    """The plan of a level, as values of JSON, whose peak a measured step confirms."""
    sizes = sizes_of(model, part_of(batch, config), compute)
    before, most = plan(sizes, level - 1), peak(sizes, [KEEP] * len(sizes))
    bound = measured(model, named(sizes, before), config, compute, batch)
    for fraction in TIGHTER if level == 4 else TIGHTER[:1]:
        hows = plan(sizes, level, fraction)
        found = measured(model, named(sizes, hows), config, compute, batch)
        if found <= bound:
            break
    else:
        hows, found = before, bound
    return {"how": named(sizes, hows), "estimated": (most, peak(sizes, hows)), "measured": found}


def named(sizes: Sequence[Sizes], hows: Sequence[Recompute]) -> dict[str, Recompute]:
    """How each segment saves memory, by name."""
    return {one.name: how for one, how in zip(sizes, hows, strict=True)}


def part_of(batch: Batch, config: RunConfig) -> Batch:
    """The largest part of a batch that is in memory at once."""
    return batch.first(-(-len(batch.y) // config.accumulate))


def sizes_of(model: SpikingNet, batch: Batch, compute: Compute) -> list[Sizes]:
    """The segments of a network in the order in which they run, found by a pass without memory."""
    net = copy.deepcopy(model).to("meta").train()
    width = 2 if compute.precision in HALF else 4
    found: list[Sizes] = []
    pools = {one.current: one.pool for one in net.modules() if isinstance(one, SpikingConv)}
    x = batch.x.to("meta")
    samples = len(batch.y)
    T = net.T if x.dim() == 4 else len(x)
    handles = []
    for name, segment in _segments(net):

        def sees(conv: Any, inputs: tuple[Tensor, ...], z: Tensor, name: str = name, segment: ConvNorm = segment) -> None:
            source, pool = inputs[0].numel() * width, pools.get(segment)
            area = 1 if pool is None else int(pool.kernel_size) ** 2  # type: ignore[arg-type]
            out = z[0].numel() * samples * T // area * width
            packed = source if segment.levels is None else source // (8 * width) * math.ceil(math.log2(segment.levels + 1))
            found.append(
                Sizes(name, source, packed, z.numel() * width, out, conv.weight.numel() * 4, z.numel() * conv.weight[0].numel())
            )

        handles.append(segment.conv.register_forward_hook(sees))
    with torch.no_grad():
        net(x)
    return found


def peak(sizes: Sequence[Sizes], hows: Sequence[Recompute]) -> int:
    """Estimated bytes of activations at the peak of a step, for a chain of segments."""
    return max(_peaks(sizes, hows))


def _peaks(sizes: Sequence[Sizes], hows: Sequence[Recompute]) -> list[int]:
    """For each segment, the estimated bytes at the peak of its backward pass, and last the peak of the forward pass."""
    kept, forward, backward = 0, 0, []
    for index, (one, how) in enumerate(zip(sizes, hows, strict=True)):
        forward = max(forward, kept + one.source + one.z + one.out)
        kept += one.packed + (0 if how.output else one.z)
        own = one.z if how.output else 0  # the gradient of z takes its place
        unpacked = 0 if one.packed == one.source else one.source
        d_source = one.source if index else 0
        neurons = one.out + own + (unpacked // (PARTS if how.in_parts else 1) if how.output else 0)
        weight = own + unpacked + (0 if how.apart else d_source) + 2 * one.weight  # its gradient, and a copy in another order
        source = own + d_source + (one.source // PARTS if how.apart else unpacked + one.weight)
        backward.append(kept + max(neurons, weight, source))
    return [*backward, forward]


def plan(sizes: Sequence[Sizes], level: int, fraction: float = 1.0) -> list[Recompute]:
    """How the segments save memory.

    Args:
        sizes: the segments, in order.
        level: 0 to 4.
        fraction: of the estimated peak of level 3, below which level 4 keeps more.
    """
    hows = [Recompute(output=level > 0)] * len(sizes)
    if level > 1:
        hows = _split(sizes, hows, lambda how: how._replace(apart=True))
    if level > 2:
        hows = _split(sizes, hows, lambda how: how._replace(apart=True, in_parts=True))
    if level > 3:
        limit = peak(sizes, hows) * fraction
        for index in sorted(range(len(sizes)), key=lambda index: -sizes[index].macs):
            changed = [*hows]
            changed[index] = hows[index]._replace(output=False)
            if peak(sizes, changed) <= limit:
                hows = changed
    return hows


def _split(sizes: Sequence[Sizes], hows: Sequence[Recompute], smaller: Callable[[Recompute], Recompute]) -> list[Recompute]:
    """Change the segment with the peak while the peak falls."""
    found = [*hows]
    while True:
        *backward, forward = _peaks(sizes, found)
        index = max(range(len(backward)), key=backward.__getitem__)
        changed = [*found]
        changed[index] = smaller(found[index])
        if backward[index] <= forward or _peaks(sizes, changed)[index] >= backward[index]:
            return found
        found = changed


def measured(model: SpikingNet, how: dict[str, Recompute], config: RunConfig, compute: Compute, batch: Batch) -> int:
    """Bytes at the peak of the forward and backward pass of a step, on a copy of the network, beyond those of weights and gradients."""
    net = copy.deepcopy(model).train()
    net.synchronise(None)
    apply(net, how)
    for p in net.parameters():
        p.grad = torch.zeros_like(p) if p.requires_grad else None
    whole = dataclasses.replace(batch, total=0)
    devices = [compute.device] if compute.device.type == "cuda" else []
    with torch.random.fork_rng(devices), counted(compute) as found:
        gradients(net, whole, config, compute)
    return found[0]


@contextmanager
def counted(compute: Compute) -> Iterator[list[int]]:
    """Context that counts the bytes that torch allocates; afterwards, the list has the largest sum at one time."""
    found: list[int] = []
    if compute.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(compute.device)
        before = torch.cuda.memory_allocated(compute.device)
        yield found
        found.append(torch.cuda.max_memory_allocated(compute.device) - before)
        return

    of: Any = torch.autograd  # its profiler of allocations alone, without the overhead and the files of torch.profiler
    flags = (False, True, False, False, False)  # only memory
    of._enable_profiler_legacy(of.ProfilerConfig(of.ProfilerState.CPU, *flags, torch._C._profiler._ExperimentalConfig()))
    records: Any = []
    try:
        yield found
    finally:
        records = of._disable_profiler_legacy()
    now = most = 0
    for thread in records:
        for event in thread:
            if event.kind() == "memory_alloc":
                now += event.cpu_memory_usage()
                most = max(most, now)
    found.append(most)
