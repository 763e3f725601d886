"""Time and memory of a contender's training step by part; the task that ``benchmarks.profile`` runs in each process."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.bench.measuring import resident_bytes
from benchmarks.bench.steps import Prepared

# The first that matches says where an operation of torch, or a node of autograd's graph, belongs.
FORWARD = {
    "data": r"^data$",
    "optimiser": r"^Optimizer",
    "convolutions, forward": r"conv",
    "linears": r"linear|matmul|addmm",
    "pooling": r"pool",
    "conversions of types": r"::to$|_to_copy",
    "neurons and normalisation, forward": r"Fused|norm|lif|sigmoid|sqrt|square|::(mul|add|sub|div|where|stack|unbind|ge|heaviside)_?$",
}
BACKWARD = {
    "optimiser": r"AccumulateGrad",
    "convolutions, backward": r"Convolution",
    "linears": r"Addmm|Linear|[MB]mmBackward|MmBackward",
    "pooling": r"Pool",
    "conversions of types": r"ToCopy",
    "neurons and normalisation, backward": r"Fused|Norm|Sigmoid|Sqrt|Mul|Add|Sub|Div|Where|Stack|Unbind|Rsub|Pow|atan|sigmoid|[Ss]urrogate|Spike|LIF|lif",
}
OTHER = "other operations"
OUTSIDE = "outside of operations"  # Python between them
ENGINE = "autograd::engine::evaluate_function: "


def belongs(name: str) -> str:
    """The part of the step that an outermost operation of torch's profiler belongs to."""
    backward = name.startswith(ENGINE)
    parts = BACKWARD if backward else FORWARD
    name = name.removeprefix(ENGINE)
    return next((part for part, pattern in parts.items() if re.search(pattern, name)), OTHER)


def profile(prepared: Prepared, count: int) -> dict[str, Any]:
    """Profile ``count`` training steps, each with a batch read from frames as in the cache, after one warm-up step.

    Returns:
        ``seconds`` of a step by part, ``total_seconds`` of a step, ``operations`` (the costliest of those in no part, by name), and
        ``memory``: see :func:`memory`.
    """
    batch = _reader(prepared)

    def step() -> None:
        with torch.profiler.record_function("data"):
            batch()
        prepared.step()

    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        begin = time.perf_counter()
        for _ in range(count):
            step()
        total = time.perf_counter() - begin
    seconds: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for event in profiler.events():
        if event.cpu_parent is None:
            part = belongs(event.name)
            seconds[part] += event.cpu_time_total / 1e6 / count
            if part == OTHER:
                others[event.name] += event.cpu_time_total / 1e6 / count
    seconds[OUTSIDE] = max(0.0, total / count - sum(seconds.values()))
    return {
        "steps": count,
        "total_seconds": total / count,
        "seconds": dict(seconds.most_common()),
        "other_operations": dict(others.most_common(8)),
        "memory": memory(prepared),
    }


def kernels(prepared: Prepared, count: int) -> dict[str, Any]:
    """Seconds of a step on the GPU by kernel, over ``count`` steps after a first."""
    prepared.step()
    prepared.wait()
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if prepared.case.device == "cuda" else []
    with torch.profiler.profile(activities=kinds) as profiler:
        for _ in range(count):
            prepared.step()
        prepared.wait()
    on_gpu = [event for event in profiler.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA]
    seconds = Counter({event.key: event.self_device_time_total / 1e6 / count for event in on_gpu})
    return {"steps": count, "seconds": dict(seconds.most_common(40)), "total_seconds": seconds.total()}


def _reader(prepared: Prepared) -> Any:
    """A batch of the case's shape, made by lsg's own reader: frames of counts in half precision, or images of bytes."""
    from lsgcli.data.batches import Batches
    from lsgcli.data.bundle import Split

    static = prepared.x.dim() == 4
    samples = prepared.x.numpy() if static else prepared.x.transpose(0, 1).numpy()
    stored = np.ascontiguousarray((samples * 32 + 128).clip(0, 255).astype(np.uint8) if static else samples.astype(np.float16))
    ids = np.arange(len(stored), dtype=np.uint64)
    split = Split(stored, prepared.labels.numpy(), ids, [str(i) for i in ids])
    stream = Batches(split, len(stored), static=static)
    return lambda: stream.batch(0)


def memory(prepared: Prepared) -> dict[str, int]:
    """Bytes saved by a training step after its forward pass, and peak memory of the process.

    What is saved for the backward pass is found by walking autograd's graph: every storage counts once, for the node found first.

    Returns:
        Part -> bytes; ``peak`` is that of the whole process so far.
    """
    network = prepared.built.network
    weights = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in network.parameters()}
    loss = F.cross_entropy(prepared.forward().mean(0), prepared.labels)
    known = {*weights, prepared.x.untyped_storage().data_ptr()}
    saved: Counter[str] = Counter()
    for node in _nodes(loss.grad_fn):
        for tensor in _saved(node):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                known.add(storage.data_ptr())
                part = belongs(ENGINE + node.name()).removesuffix(", backward")
                saved[f"saved by {part}"] += storage.nbytes()
    prepared.built.forget(network)
    return {
        "weights": sum(weights.values()),
        "gradients and momentum": 2 * sum(weights.values()),
        "input": prepared.x.untyped_storage().nbytes(),
        **saved,
        "peak": resident_bytes(),
    }


def _nodes(root: Any) -> Iterator[Any]:
    """Every node of autograd's graph behind ``root``, the last operation first."""
    seen, waiting = set(), [root]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]


def _saved(node: Any) -> Iterator[Tensor]:
    """Tensors that a node keeps for the backward pass, as they are in memory."""
    for name in dir(node):
        if name.startswith("_raw_saved_"):
            value = getattr(node, name)
            for one in value if isinstance(value, list | tuple) else [value]:
                if one.data is not None:
                    yield one.data if isinstance(one.data, Tensor) else one.data[0].words
