"""Time to compile, time of a step and memory of a layer with the backend ``compiled``, beside ``autograd``, ``reference`` and ``fused``.

    python -m benchmarks.compiled                       # T=4, 8 x 128 x 24 x 24, on the CPU; about 3 minutes on two cores
    python -m benchmarks.compiled --size 10,8,64,48,48 --precision bf16 --rounds 21

A step is the forward and backward pass of one layer; steps of all backends are timed in turns. The first step of a backend, less a later one, is the
time to compile: fused kernels and ``compiled`` are compiled into an empty cache. Memory is what a layer keeps for the backward pass, and the
largest sum of what torch allocates during a step, both relative to the input. No other programs should run. The record is
``compiled-<precision>``.
"""

import argparse
import os
import sys
import tempfile
import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.measuring import counted, interleaved, machine, write
from benchmarks.tables import Table, show
from lsgcli import registry
from lsgcli.neurons import LIF, TdBatchNorm2d
from lsgcli.system.device import Compute

BACKENDS = ("autograd", "reference", "compiled", "fused")
LAYERS = {"neurons": (False, 1), "tdBN, neurons": (True, 1), "tdBN, neurons, pool 2": (True, 2)}  # whether it has tdBN, pool
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Layer:
    """A layer with a backend: its neurons, their normalisation if any, and an input in channels-last memory."""

    def __init__(self, backend: str, normed: bool, pool: int, size: tuple[int, ...], dtype: torch.dtype):
        T, B, C, H, W = size
        self.norm = TdBatchNorm2d(C, threshold=0.5) if normed else None
        self.lif = LIF(backend=backend, method="lsg", norm=self.norm)
        z = torch.randn(T, B, H, W, C, generator=torch.Generator().manual_seed(0))
        self.z, self.pool = z.to(dtype).permute(0, 1, 4, 2, 3).requires_grad_(), pool
        self.grad: Tensor | None = None

    def step(self) -> None:
        """A forward and backward pass."""
        norm = None if self.norm is None else self.norm.parameters_for(self.z)
        out = self.lif.normalise_and_fire(norm, self.z, pool=self.pool)
        self.grad = torch.ones_like(out) if self.grad is None else self.grad
        out.backward(self.grad)
        self.z.grad = None

    def kept(self) -> int:
        """Bytes that are kept for the backward pass."""
        bytes_of: dict[int, int] = {}

        def keep(x: Tensor) -> Tensor:
            bytes_of[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            self.step()
        return sum(bytes_of.values())


def measured(size: tuple[int, ...], dtype: torch.dtype, rounds: int) -> list[dict[str, Any]]:
    """A row for each layer and backend."""
    rows = []
    for name, (normed, pool) in LAYERS.items():
        layers, rest = {backend: Layer(backend, normed, pool, size, dtype) for backend in BACKENDS}, []
        for layer in layers.values():
            begin = time.perf_counter()
            layer.step()
            first = time.perf_counter() - begin
            with counted(Compute(torch.device("cpu"))) as peak:
                layer.step()
            rest.append({"first": first, "kept": layer.kept() / layer.z.nbytes, "peak": peak[0] / layer.z.nbytes})
        times = interleaved({backend: layer.step for backend, layer in layers.items()}, rounds)
        for (backend, time_), row in zip(times.items(), rest, strict=True):
            compiling = max(0.0, row.pop("first") - time_["median"])
            rows.append({"layer": name, "backend": backend, "compiling": compiling, "seconds": time_, **row})
    return rows


def tables(record: dict[str, Any]) -> list[Table]:
    """The rows as a table."""
    table = Table(
        f"{record['precision']}, T, B, C, H, W = {record['size']}, {record['threads']} threads: forward and backward pass of a layer",
        ("layer", "backend", "compiling, s", "step, ms", "kept / input", "peak / input"),
    )
    for row in record["rows"]:
        milliseconds = f"{1e3 * row['seconds']['median']:.2f}"
        table.rows.append(
            (row["layer"], row["backend"], f"{row['compiling']:.1f}", milliseconds, f"{row['kept']:.2f}", f"{row['peak']:.2f}")
        )
    return [table]


def main() -> None:
    """Measure, print the table and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="4,8,128,24,24", help="T, B, C, H, W; default: 4,8,128,24,24")
    parser.add_argument("--precision", choices=list(TYPES), default="fp32", help="default: fp32")
    parser.add_argument("--rounds", type=int, default=15, help="default: 15")
    options = parser.parse_args()
    if not registry.get("backend", "compiled").available(torch.device("cpu")):
        parser.error("found no C++ compiler, expected one: that of the environment variable CXX, or g++")
    size = tuple(map(int, options.size.split(",")))
    with tempfile.TemporaryDirectory() as folder:  # numba and torch read these when they compile
        os.environ |= {"NUMBA_CACHE_DIR": folder, "TORCHINDUCTOR_CACHE_DIR": folder}
        rows = measured(size, TYPES[options.precision], options.rounds)
    record = {"precision": options.precision, "size": options.size, "threads": torch.get_num_threads(), "rows": rows}
    record["machine"] = machine("torch", "numba")
    show(tables(record))
    print(write(f"compiled-{options.precision}", record), file=sys.stderr)


if __name__ == "__main__":
    main()
