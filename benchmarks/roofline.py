"""Roofline of the convolutions of VGGSNN and ResNet-19: their times, and the shortest that this processor allows.

    python -m benchmarks.roofline                # about 3 minutes on two cores; --quick for a look

The peak rate of a precision is that of the faster of a product of 2048 x 2048 matrices and a 3x3 convolution of 512 channels; the
bandwidth is that of the fastest of a copy, a triad and a sum of 256 MB arrays; all as torch runs them on all cores. The bound of a
convolution is the longer of operations / peak rate and bytes / bandwidth, with each tensor moved once. A tensor that is still in a cache
can be read faster, which matters for the few convolutions that are bound by memory.

All kernels take turns, round after round, with channels-last tensors and lsg's allocator settings. Convolutions are those of a step, each
measured alone: forward, gradient of the input and gradient of the weight, in int8 forward only. No other programs should run. The
record is written to ``benchmarks/results/roofline.json``.
"""

import argparse
import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.bench.cases import Case, case
from benchmarks.bench.peers import NETWORKS, Floor
from benchmarks.bench.steps import inputs
from benchmarks.measuring import interleaved, machine, write
from benchmarks.tables import Table, show

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.uint8}
PASSES = ("forward", "gradient of the input", "gradient of the weight")
CASES = (case("vggsnn"), case("resnet19"))
MATRIX, ARRAY = 2048, 256_000_000  # rows and columns; bytes
Work = Callable[[], Any]


class Convolution(NamedTuple):
    """A convolution without bias, padded to keep the size at stride 1.

    Args:
        frames: number of images, timesteps times batch.
        channels: in and out.
        side: of the input in pixels.
        kernel: side of the kernel.
        stride: of the kernel.
    """

    frames: int
    channels: tuple[int, int]
    side: int
    kernel: int
    stride: int

    def __str__(self) -> str:
        stride = f", stride {self.stride}" if self.stride > 1 else ""
        return f"{self.kernel}x{self.kernel}, {self.channels[0]} -> {self.channels[1]}, {self.side} px{stride}"

    @property
    def operations(self) -> int:
        """Multiplications and additions of a pass; all three have the same number."""
        return 2 * self.frames * self.channels[0] * self.channels[1] * self.kernel**2 * (self.side // self.stride) ** 2

    def moved(self, precision: str) -> int:
        """Bytes of input, output and weight; the output of int8 is float32."""
        size = TYPES[precision].itemsize
        images = [
            self.frames * n * side**2 for n, side in zip(self.channels, (self.side, self.side // self.stride), strict=True)
        ]
        weights = self.channels[0] * self.channels[1] * self.kernel**2
        return size * (images[0] + weights) + (4 if precision == "int8" else size) * images[1]

    def work(self, precision: str) -> dict[str, Work]:
        """Its passes."""
        x = channels_last(torch.randint(0, 2, (self.frames, self.channels[0], self.side, self.side), dtype=torch.uint8))
        conv = nn.Conv2d(*self.channels, self.kernel, self.stride, self.kernel // 2, bias=False).requires_grad_(False)
        if precision == "int8":
            from lsgcli.models.integer import product

            return {"forward": partial(product(conv, 8, 1), x)}
        x, weight = (channels_last(tensor.to(TYPES[precision])) for tensor in (x, conv.weight))
        out = nn.functional.conv2d(x, weight, None, self.stride, self.kernel // 2)
        geometry = ([self.stride] * 2, [self.kernel // 2] * 2, [1, 1], False, [0, 0], 1)
        gradient = partial(torch.ops.aten.convolution_backward, torch.rand_like(out), x, weight, None, *geometry)
        return {
            "forward": partial(nn.functional.conv2d, x, weight, None, self.stride, self.kernel // 2),
            "gradient of the input": partial(gradient, [True, False, False]),
            "gradient of the weight": partial(gradient, [False, True, False]),
        }


PEAK = Convolution(80, (512, 512), 12, 3, 1)


def channels_last(x: Tensor) -> Tensor:
    """In the memory that all contenders have."""
    return x.contiguous(memory_format=torch.channels_last)


def convolutions(which: Case) -> Counter[Convolution]:
    """The convolutions of a step, and how many of each; the first one of the counter is the network's first."""
    found: Counter[Convolution] = Counter()

    def note(module: Any, args: tuple[Tensor, ...], out: Tensor) -> None:
        (frames, channels, side, _), kernel, stride = args[0].shape, module.kernel_size[0], module.stride[0]
        found[Convolution(frames, (channels, out.shape[1]), side, kernel, stride)] += 1

    network = NETWORKS[which.network](Floor(best=True), which.T, which.size, which.width).to("meta")
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    network(inputs(which)[0].to("meta"))
    return found


def peaks() -> dict[str, Work]:
    """What shows the peak rate of each precision, and the bandwidth."""
    work: dict[str, Work] = {}
    for precision, kind in TYPES.items():
        if precision == "int8":  # a product of matrices is a convolution of one pixel
            work["int8, matrices"] = Convolution(MATRIX, (MATRIX, MATRIX), 1, 1, 1).work("int8")["forward"]
        else:
            a, b = torch.rand(2, MATRIX, MATRIX).to(kind)
            work[f"{precision}, matrices"] = partial(torch.matmul, a, b)
        work[f"{precision}, convolution"] = PEAK.work(precision)["forward"]
    a, b, c = torch.rand(3, ARRAY // 4)
    work["bandwidth, copy"] = partial(a.copy_, b)
    work["bandwidth, triad"] = partial(torch.add, b, c, alpha=2, out=a)
    work["bandwidth, sum"] = partial(torch.sum, b)
    return work


# Operations, or bytes, of each of them.
DONE = {f"{precision}, matrices": 2 * MATRIX**3 for precision in TYPES}
DONE |= {f"{precision}, convolution": PEAK.operations for precision in TYPES}
DONE |= {"bandwidth, copy": 2 * ARRAY, "bandwidth, triad": 3 * ARRAY, "bandwidth, sum": ARRAY}


def measure(cases: tuple[Case, ...], rounds: int) -> dict[str, Any]:
    """Everything, in turns: ``peaks`` (per second), and the convolutions of each case."""
    work, kernels, results = peaks(), {}, []
    for which in cases:
        for precision in TYPES:
            for index, (convolution, count) in enumerate(convolutions(which).items()):
                for name, run in convolution.work(precision).items():
                    if index or name != "gradient of the input":  # nobody needs that of the network's input
                        key = f"{which}, {precision}, {convolution}, {name}"
                        kernels[key] = (which, precision, convolution, count, name)
                        work[key] = run
    seconds = interleaved(work, rounds, warm=1)
    for key, (which, precision, convolution, count, name) in kernels.items():
        results.append(
            {
                "case": dataclasses.asdict(which),
                "precision": precision,
                "convolution": str(convolution),
                "count": count,
                "pass": name,
                "operations": convolution.operations,
                "bytes": convolution.moved(precision),
                "seconds": seconds[key],
            }
        )
    return {"peaks": {name: DONE[name] / seconds[name]["median"] for name in DONE}, "rounds": rounds, "kernels": results}


def ceilings(record: dict[str, Any]) -> dict[str, float]:
    """Peak rate of each precision, and ``bandwidth``: the fastest kernel of each."""
    found: dict[str, float] = {}
    for name, rate in record["peaks"].items():
        found[name.split(",")[0]] = max(found.get(name.split(",")[0], 0), rate)
    return found


def bound(kernel: dict[str, Any], ceiling: dict[str, float]) -> tuple[float, bool]:
    """The shortest time of a kernel in seconds, and whether it is that of the memory."""
    computing, moving = kernel["operations"] / ceiling[kernel["precision"]], kernel["bytes"] / ceiling["bandwidth"]
    return max(computing, moving), moving > computing


def tables(record: dict[str, Any]) -> list[Table]:
    """The ceilings, sums over a step, then every convolution."""
    ceiling = ceilings(record)
    rates = Table("Ceilings", ("", "kernel", "rate", "others"))
    for name, best in ceiling.items():
        unit = "GB/s" if name == "bandwidth" else "GOP/s"
        of = {key.split(", ")[1]: rate for key, rate in record["peaks"].items() if key.split(",")[0] == name}
        others = ", ".join(f"{key} {rate / 1e9:,.0f}" for key, rate in of.items() if rate < best)
        rates.rows.append((name, max(of, key=lambda key: of[key]), f"**{best / 1e9:,.0f} {unit}**", others))
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for kernel in record["kernels"]:
        grouped.setdefault((Case(**kernel["case"]).title.rpartition(",")[0], kernel["precision"]), []).append(kernel)
    sums = Table(
        "All convolutions of a step: bound, measured, ms, and share of the bound", ("case", "precision", *PASSES, "all")
    )
    for (title, precision), kernels in grouped.items():
        cells = [_sum([kernel for kernel in kernels if kernel["pass"] == name], ceiling) for name in PASSES]
        sums.rows.append((title, precision, *cells, _sum(kernels, ceiling)))
    return [rates, sums, *(_each(f"{title}, {precision}", kernels, ceiling) for (title, precision), kernels in grouped.items())]


def _sum(kernels: list[dict[str, Any]], ceiling: dict[str, float]) -> str:
    if not kernels:
        return "-"
    shortest = sum(kernel["count"] * bound(kernel, ceiling)[0] for kernel in kernels)
    return _cell(shortest, sum(kernel["count"] * kernel["seconds"]["median"] for kernel in kernels))


def _cell(shortest: float, measured: float) -> str:
    return f"{1e3 * shortest:.1f}, {1e3 * measured:.1f}, **{100 * shortest / measured:.0f} %**"


def _each(title: str, kernels: list[dict[str, Any]], ceiling: dict[str, float]) -> Table:
    passes = [name for name in PASSES if any(kernel["pass"] == name for kernel in kernels)]
    table = Table(title, ("convolution", "number", "GOP", "MB", "OP per byte", *passes))
    for name in dict.fromkeys(kernel["convolution"] for kernel in kernels):
        of = {kernel["pass"]: kernel for kernel in kernels if kernel["convolution"] == name}
        one = of["forward"]
        cells = ["-"] * len(passes)
        for index, each in enumerate(passes):
            if each in of:
                shortest, by_memory = bound(of[each], ceiling)
                cells[index] = _cell(shortest, of[each]["seconds"]["median"]) + (", memory" if by_memory else "")
        intensity = one["operations"] / one["bytes"]
        table.rows.append((name, one["count"], one["operations"] / 1e9, one["bytes"] / 1e6, f"{intensity:.0f}", *cells))
    return table


def main() -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--quick", action="store_true", help="1 round of VGGSNN: a look, kept under another name")
    options = parser.parse_args()
    from lsgcli.system.memory import keep_large_buffers

    keep_large_buffers()
    torch.set_num_threads(options.threads)
    record = {"machine": machine(), "threads": options.threads}
    with torch.inference_mode():
        record |= measure(CASES[:1] if options.quick else CASES, 1 if options.quick else options.rounds)
    show(tables(record))
    print(write("roofline-quick" if options.quick else "roofline", record), file=sys.stderr)


if __name__ == "__main__":
    main()
