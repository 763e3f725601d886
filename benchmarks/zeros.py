"""Convolutions by spikes and dense ones: each layer of a network at several densities of spikes, and where they take the same time.

    python -m benchmarks.zeros                   # about 10 minutes on two cores; --quick for a look
    python -m benchmarks.zeros --picture         # only docs/images/zeros.svg, from the record

All kernels take turns, round after round, on random spikes in channels-last memory. The output of a convolution by spikes includes packing the
spikes and arranging the weights; the gradient of the weight reads the packed spikes. bf16 and int8 run where the processor has instructions for
them. No other programs should run. The record is ``zeros``.
"""

import argparse
import itertools
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.bench.cases import CONTENDERS, Case, case
from benchmarks.bench.steps import build, inputs
from benchmarks.measuring import RESULTS, interleaved, machine, read, write
from benchmarks.plot import SETTINGS, svg
from benchmarks.tables import Table, megabytes, show
from lsgcli.models import crossings
from lsgcli.models.convolution import Conv2d, by_spikes, convolutions
from lsgcli.report.drawing import COLOURS
from lsgcli.system import device
from lsgcli.system.memory import keep_large_buffers

CASES = (case("vggsnn"), case("resnet19"), case("qkformer"))
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.uint8}
DENSITIES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
PASSES = ("forward", "gradient of the weight")
IMAGE = RESULTS.parents[1] / "docs" / "images" / "zeros.svg"
Work = dict[str, Callable[[], Any]]


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

    def work(self, precision: str) -> Work:
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


def channels_last(x: Tensor) -> Tensor:
    """In the memory that all contenders have."""
    return x.contiguous(memory_format=torch.channels_last)


def precisions() -> list[str]:
    """Those that the processor computes without emulation."""
    flags = device.cpu_flags()
    fast = {"fp32": True, "bf16": bool(flags & {"amx_bf16", "avx512_bf16"}), "int8": device.products_are_exact()}
    return [name for name, there in fast.items() if there]


def layers(names: Sequence[str]) -> Iterator[tuple[str, Convolution, int]]:
    """(network, convolution, how many of them in a step) of those that read spikes."""
    for which in (which for which in CASES if which.network in names):
        found: Counter[Convolution] = Counter()

        def note(module: Any, args: tuple[torch.Tensor], found: Counter[Convolution] = found) -> None:
            if (by := by_spikes(module, args[0])) is not None:
                g = by.geometry
                found[Convolution(g.N, (g.C, g.channels), g.H, g.side, g.stride)] += 1

        network = build(CONTENDERS["lsg"], which).network
        for module in network.modules():
            if isinstance(module, Conv2d):
                module.register_forward_pre_hook(note)
        with convolutions("spikes"):
            network(inputs(which)[0])
        for convolution, count in found.items():
            yield which.network, convolution, count


def work_of(convolution: Convolution) -> Work:
    """Its passes, dense in each precision, and by spikes at each density."""
    from lsgcli.neurons.kernels.cpu.packing import packed
    from lsgcli.neurons.kernels.cpu.rows import Geometry, convolved, rows_of, weight_gradient

    work: Work = {}
    for precision in precisions():
        work |= {f"{precision}, {name}": run for name, run in convolution.work(precision).items() if name in PASSES}
    frames, (C, channels), side, kernel, stride = convolution
    out = side // stride
    geometry = Geometry(frames, side, side, C, out, out, channels, kernel, stride, kernel // 2)
    weight = channels_last(torch.randn(channels, C, kernel, kernel))
    grad = channels_last(torch.randn(frames, channels, out, out))
    for density in DENSITIES:
        x = channels_last((torch.rand(frames, C, side, side) < density).float())

        def forward(x: torch.Tensor = x) -> torch.Tensor:
            return convolved(packed(x, 1), geometry, rows_of(weight), torch.float32)

        work[f"{density}, forward"] = forward
        work[f"{density}, gradient of the weight"] = partial(weight_gradient, packed(x, 1), geometry, grad)
    return work


def measure(names: Sequence[str], rounds: int, most: int) -> dict[str, Any]:
    """The layers of networks; of each, seconds of every pass, and the crossings that the choice ``auto`` uses."""
    results = []
    for network, convolution, count in itertools.islice(layers(names), most):
        print(f"{network}, {convolution}", file=sys.stderr)
        seconds = interleaved(work_of(convolution), rounds, warm=1)
        frames, (C, channels), side, kernel, stride = convolution
        from lsgcli.neurons.kernels.cpu.rows import Geometry

        geometry = Geometry(frames, side, side, C, side // stride, side // stride, channels, kernel, stride, kernel // 2)
        results.append(
            {
                "network": network,
                "convolution": str(convolution),
                "count": count,
                "seconds": seconds,
                "crossings": crossings.of(geometry, torch.float32, {}),
            }
        )
    return {"densities": DENSITIES, "rounds": rounds, "layers": results}


def meeting(layer: dict[str, Any], name: str) -> float:
    """The density at which a pass by spikes takes as long as the dense one in fp32, between the densities measured; NaN if none does."""
    dense = layer["seconds"][f"fp32, {name}"]["median"]
    times = [(density, layer["seconds"][f"{density}, {name}"]["median"]) for density in DENSITIES]
    for (a, low), (b, high) in itertools.pairwise(times):
        if low < dense <= high:
            return a + (b - a) * (dense - low) / (high - low)
    return float("inf") if times[-1][1] < dense else 0.0


def regret(layers: Sequence[dict[str, Any]], name: str) -> float:
    """Time of the choice ``auto`` over that of the faster of both, of all these layers together, at the worst density."""
    worst = 1.0
    for density in DENSITIES:
        chosen = best = 0.0
        for layer in layers:
            dense, spikes = (layer["count"] * layer["seconds"][f"{what}, {name}"]["median"] for what in ("fp32", density))
            chosen += spikes if density < layer["crossings"][PASSES.index(name)] else dense
            best += min(dense, spikes)
        worst = max(worst, chosen / best)
    return worst


def tables(record: dict[str, Any]) -> list[Table]:
    """Per pass: milliseconds of each layer, dense and by density; where they meet; the crossing of ``auto``, and what it costs."""
    found = []
    for number, name in enumerate(PASSES):
        dense = [key.split(",")[0] for key in record["layers"][0]["seconds"] if key.endswith(name) and not key[0].isdigit()]
        dense = [precision for precision in dense if any(f"{precision}, {name}" in one["seconds"] for one in record["layers"])]
        head = ("layer", *(f"dense {one}" for one in dense), *map(str, DENSITIES), "equal at", "`auto` below", "`auto` / best")
        table = Table(f"{name.capitalize()}, ms", head)
        for layer in record["layers"]:
            seconds = layer["seconds"]
            cells = [1e3 * seconds[f"{one}, {name}"]["median"] for one in (*dense, *DENSITIES)]
            equal = meeting(layer, name)
            written = "above 0.5" if equal == float("inf") else f"{equal:.2f}"
            row = (f"{layer['network']}: {layer['convolution']}", *(f"{cell:.1f}" for cell in cells), written)
            table.rows.append((*row, f"{layer['crossings'][number]:.2f}", f"{regret([layer], name):.2f}"))
        found.append(table)
    return found


def of_steps(records: list[dict[str, Any]]) -> Table:
    """Whole steps of ``benchmarks.step`` and ``benchmarks.streaming`` with ``lsg-auto``: its time and memory, and the time of others over its own."""
    others = {"lsg": "dense", "floor": "floor", "spikingjelly-best": "spikingjelly", "snntorch-best": "snntorch"}
    table = Table("", ("step", "`auto`, ms", *(f"{name} / `auto`" for name in others.values()), "peak MB, `auto` and dense"))
    for record in sorted(records, key=lambda one: one["case"]["mode"], reverse=True):
        mine, dense = (record["contenders"][f"{name} fp32"] for name in ("lsg-auto", "lsg"))
        ratios = record["ratios"]["lsg-auto fp32"]
        cells = [
            f"**{of['ratio']:.2f}** ({of['low']:.2f} to {of['high']:.2f})" if (of := ratios.get(f"{name} fp32")) else ""
            for name in others
        ]
        milliseconds = mine["median"] if "median" in mine else 1e3 * mine["seconds"]["median"]
        peaks = ", ".join(megabytes(one["peak_bytes"]) for one in (mine, dense) if "peak_bytes" in one)
        table.rows.append((Case(**record["case"]).title, milliseconds, *cells, peaks))
    return table


def picture(record: dict[str, Any]) -> str:
    """An SVG: time of all convolutions of a step that read spikes, by density, beside the dense ones."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(12, 3.4), layout="constrained")
        axes = figure.subplots(1, len(CASES), squeeze=False)[0]
        for axis, which in zip(axes, CASES, strict=True):
            own = [layer for layer in record["layers"] if layer["network"] == which.network]
            for colour, name, style in zip((COLOURS[0], COLOURS[1]), PASSES, ("-", "--"), strict=True):
                times = [sum(one["count"] * one["seconds"][f"{d}, {name}"]["median"] for one in own) for d in DENSITIES]
                dense = sum(one["count"] * one["seconds"][f"fp32, {name}"]["median"] for one in own)
                axis.plot(DENSITIES, times, color=colour, linestyle=style, marker="o", markersize=3, label=f"{name}, by spikes")
                axis.axhline(dense, color=colour, linestyle=style, linewidth=0.8)
                axis.annotate("dense", (DENSITIES[-1], dense), ha="right", va="bottom", color=colour)
            axis.set_title(which.title.rpartition(",")[0], loc="left")
            axis.set_xlabel("spikes per element of the input")
            axis.set_ylabel("s, all convolutions of spikes in a step")
            axis.set_ylim(bottom=0)
            axis.set_xlim(left=0)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].legend(frameon=False, loc=(0.03, 0.52))
        return svg(figure)


def main() -> None:
    """Measure, print the tables, write the record and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="1 round of two layers: a look, kept under another name")
    every = [which.network for which in CASES]
    parser.add_argument("--networks", nargs="+", choices=every, default=every, help="the record keeps the layers of others")
    parser.add_argument("--picture", action="store_true", help="only the picture, from the record")
    options = parser.parse_args()
    if not options.picture:
        if (load := os.getloadavg()[0]) > 0.5:
            print(f"the machine is not quiet: load {load:.1f}", file=sys.stderr)
        keep_large_buffers()
        torch.manual_seed(0)
        with torch.no_grad():
            measured = measure(options.networks, 1 if options.quick else options.rounds, 2 if options.quick else 99)
        kept = {"layers": []} if options.quick else read("zeros") or {"layers": []}
        measured["layers"] = [
            layer
            for name in every
            for layer in (measured if name in options.networks else kept)["layers"]
            if layer["network"] == name
        ]
        record = {"machine": machine("numba"), "threads": torch.get_num_threads(), **measured}
        write("zeros-quick" if options.quick else "zeros", record)
        show(tables(record))
    if not options.quick:
        IMAGE.write_text(picture(read("zeros")), encoding="utf-8")
        print(IMAGE, file=sys.stderr)


if __name__ == "__main__":
    main()
