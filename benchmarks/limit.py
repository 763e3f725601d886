"""The honest limit of a step on a CPU: its convolutions as measured, and the bytes that normalisation and neurons must move.

Each pass of the kernels over a layer reads and writes whole tensors: the convolution's output (and the residual) for the statistics; the
same, and the spikes, to fire; these and the gradient for the sums of the backward pass, and again to write the gradient of the convolution's
output. The memory moves them at best at the bandwidth of a triad, a = b + 2 c, of arrays that no cache holds, by the same threads.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench.steps import Prepared
from lsgcli.neurons.kernels.cpu.job import Job

ARRAY = 128_000_000  # bytes of each array of the triad
MOVED = ("z", "residual", "out", "grad", "d_z", "d_residual")  # operands whose size grows with the batch


def limit(prepared: Prepared, count: int = 3) -> dict[str, Any]:
    """Passes of the kernels over all layers in a step, and the bandwidth; nothing where the kernels do not run.

    Returns:
        ``bandwidth``: bytes per second of the triad. ``passes``: of each pass ``bytes`` and ``seconds`` per step.
    """
    if prepared.case.device != "cpu":
        return {}
    found: dict[str, list[float]] = {}
    prepared.step()
    with _timed(found):
        for _ in range(count):
            prepared.step()
    passes = {name: {"bytes": moved / count, "seconds": seconds / count} for name, (moved, seconds) in found.items()}
    return {"bandwidth": bandwidth(), "passes": passes} if passes else {}


def bandwidth(rounds: int = 7) -> float:
    """Bytes per second of the fastest of several triads."""
    a, b, c = torch.rand(3, ARRAY // 4)
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        torch.add(b, c, alpha=2, out=a)
        seconds.append(time.perf_counter() - begin)
    return 3 * ARRAY / min(seconds)


@contextmanager
def _timed(found: dict[str, list[float]]) -> Iterator[None]:
    """Context in which bytes and seconds of each pass are added to ``found``."""
    run = Job.run

    def timed(self: Job, worker: int) -> None:
        begin = time.perf_counter()
        run(self, worker)
        seconds = time.perf_counter() - begin
        operands = {name: x for name in MOVED if isinstance(x := self.kept.get(name), Tensor)}
        total = found.setdefault(_name(operands), [0.0, 0.0])
        total[0] += sum(x.numel() * x.element_size() for x in operands.values())
        total[1] += seconds

    Job.run = timed  # type: ignore[method-assign]
    try:
        yield
    finally:
        Job.run = run  # type: ignore[method-assign]


def _name(operands: dict[str, Tensor]) -> str:
    if "out" in operands:
        return "normalise and fire"
    if "grad" not in operands:
        return "statistics"
    return "gradients" if "d_z" in operands or "d_residual" in operands else "sums of gradients"
