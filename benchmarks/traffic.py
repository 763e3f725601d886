"""Bytes that the Triton kernels move in a training step at the paper's size, and the shortest time of that step on a GPU: its floor.

    python -m benchmarks.traffic                 # VGGSNN, T=10, 48 px, and ResNet-19, T=2, 32 px, on an H100

Nothing runs: layers and convolutions are recorded from a forward pass on torch's meta device. Every access to device memory counts,
without hits in the L2 cache; a column of the table shows what the backward kernel would move with the best use of it. Vectors per
channel are not counted. The time of the convolutions is that of their operations at 60 % of the peak rate, or of their tensors moved once, whichever is longer.
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.bench.cases import Case, case
from benchmarks.bench.checking import macs
from benchmarks.tables import Table, show
from lsgcli import models
from lsgcli.models.fold import fold
from lsgcli.models.layers import ConvNorm
from lsgcli.neurons import LIFParameters
from lsgcli.neurons.kernels.base import Backend, NormParameters
from lsgcli.neurons.kernels.gpu.layout import StepLayout, of_images, of_neurons
from lsgcli.neurons.kernels.gpu.sequence import BACKWARD_TILE, Tiles

SIZES = {"bf16": 2, "fp32": 4}  # bytes per element of activations
WIDE = 4  # bytes of membrane potentials and of sums: float32
USED = 0.6  # share of the peak rate that convolutions reach
Traffic = dict[str, Counter[str]]  # kernel -> argument -> bytes


class Card(NamedTuple):
    """Memory bandwidth in bytes/s, and peak rates in FLOP/s by precision; fp32 convolutions use TF32, torch's default."""

    name: str
    bandwidth: float
    peak: dict[str, float]


H100 = Card("H100 SXM", 3.35e12, {"bf16": 989.4e12, "fp32": 494.7e12})


@dataclass(frozen=True)
class Fired:
    """A layer of neurons as launched: T timesteps of the layout, and which optional tensors there are.

    Attributes:
        static: the input is one timestep, expanded over T.
    """

    layout: StepLayout
    T: int
    static: bool = False
    norm: bool = True
    residual: bool = False

    def traffic(self, size: int, training: bool = True) -> Traffic:
        """Bytes moved by each kernel, for activations with ``size`` bytes per element.

        ``d_current`` and ``dz`` are the memory of ``potential`` where the kernels share it.
        """
        layout = self.layout
        step = layout.rows * layout.columns
        window = layout.pool**2
        n, out = self.T * step, self.T * step // window
        z = Counter(z=n * size, residual=n * size * self.residual)
        moved = {"forward": z + Counter(out=out * size)}
        if not training:
            return moved
        lanes = 1 << (window - 1).bit_length()
        tiles = Tiles.of(layout.rows // window, layout.columns, layout.inner, torch.float32, lanes, BACKWARD_TILE)
        partial = (3 if self.norm else 1) * tiles.blocks * layout.columns * WIDE
        # u is written and read, then du is written.
        shared = self.norm or size == WIDE
        moved["backward"] = z + Counter(
            grad=out * size,
            potential=(3 if shared else 2) * n * WIDE,
            d_current=0 if shared else n * size,
            sums=partial,
        )
        if self.norm:
            moved["backward"]["z"] += n * size
            moved["moments"] = Counter(z=(step if self.static else n) * size)
            in_place = size == WIDE and not self.residual
            moved["input_gradient"] = Counter(z=n * size, du=n * WIDE * (1 + in_place), dz=n * size * (not in_place))
        return moved

    def cacheable(self, size: int) -> int:
        """Bytes of the backward kernel that the L2 cache saves if it keeps a tile between its two loops: u, and z read again."""
        n = self.T * self.layout.rows * self.layout.columns
        return n * (2 * WIDE + size * self.norm)


class Convolved(NamedTuple):
    """A convolution or linear layer: multiply-accumulates, elements of input, output and weight, and levels of an input saved as bytes."""

    macs: int
    inputs: int
    outputs: int
    weights: int
    levels: int | None

    def seconds(self, card: Card, precision: str, size: int, backward: float) -> tuple[float, float]:
        """Seconds by operations and by bytes; ``backward`` is 2, 1 without gradient of the input, or 0 in inference."""
        once = size * (self.inputs + self.outputs + self.weights)
        return 2 * self.macs * (1 + backward) / (USED * card.peak[precision]), once * (1 + backward) / card.bandwidth

    def packing(self, size: int) -> int:
        """Bytes moved to save the input for the backward pass as one byte per element, and to read it back."""
        if self.levels is None:
            return 0
        return self.inputs * (2 * (size + 1) if self.levels == 1 else 6 * size + 2)


class Recorder(Backend):
    """Backend that records each layer and returns tensors without values."""

    def __init__(self) -> None:
        self.layers: list[Fired] = []

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        self.layers.append(Fired(of_neurons(current, p.beta), len(current), norm=False))
        return torch.empty_like(current)

    def normalise_and_fire(
        self, z: Tensor, norm: NormParameters | None, p: LIFParameters, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        static = z.stride(0) == 0 and len(z) > 1
        self.layers.append(Fired(of_images(z, pool), len(z), static, norm is not None, residual is not None))
        return z.new_empty((*z.shape[:3], z.shape[3] // pool, z.shape[4] // pool))


@cache
def recorded(which: Case) -> tuple[list[Fired], list[Convolved]]:
    """The layers of neurons, and the convolutions and linear layers, of a case; tdBN is folded in inference."""
    model: nn.Module = models.build(
        which.network, T=which.T, in_channels=which.channels, input_size=which.size, width_multiplier=which.width
    )
    if which.mode == "inference":
        model = fold(model)
    recorder, convolved = Recorder(), []
    levels = {module.conv: module.levels for module in model.modules() if isinstance(module, ConvNorm) and module.packs}

    def note(module: Any, args: tuple[Tensor, ...], out: Tensor) -> None:
        frame, frames = macs(module, out)
        convolved.append(Convolved(frame * frames, args[0].numel(), out.numel(), module.weight.numel(), levels.get(module)))

    model = model.to("meta").train(which.mode == "train")
    for module in model.modules():
        if hasattr(module, "normalise_and_fire"):
            module.backend = recorder  # type: ignore[assignment]
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(note)
    steps = () if which.network == "resnet19" else (which.T,)
    with torch.no_grad():
        model(torch.empty(*steps, which.batch, which.channels, which.size, which.size, device="meta"))
    return recorder.layers, convolved


def moved(which: Case, precision: str) -> dict[str, int]:
    """Bytes of a step by kernel, and by the other passes over activations that the layers need."""
    layers, convolved = recorded(which)
    training, size = which.mode == "train", SIZES[precision]
    found: Counter[str] = Counter()
    for layer in layers:
        for kernel, arguments in layer.traffic(size, training).items():
            found[kernel] += arguments.total()
            found["reading the partial sums"] += arguments["sums"]
        if training and layer.residual and size != WIDE:
            found["converting the residual's gradient"] += layer.T * layer.layout.rows * layer.layout.columns * (WIDE + size)
    if training:
        found["spikes saved as bytes"] = sum(one.packing(size) for one in convolved)
    return {name: count for name, count in found.items() if count}


def floor(which: Case, precision: str, card: Card = H100) -> dict[str, float]:
    """Seconds of a step: ``kernels`` (all of :func:`moved`), ``operations`` and ``tensors`` of the convolutions, and their sum ``step``."""
    convolved = recorded(which)[1]
    backward = [2.0 * (which.mode == "train")] * len(convolved)
    backward[0] /= 2  # the first needs no gradient of its input
    seconds = [one.seconds(card, precision, SIZES[precision], passes) for one, passes in zip(convolved, backward, strict=True)]
    kernels = sum(moved(which, precision).values()) / card.bandwidth
    return {
        "kernels": kernels,
        "operations": sum(operations for operations, _ in seconds),
        "tensors": sum(tensors for _, tensors in seconds),
        "step": kernels + sum(map(max, seconds)),
    }


CASES = (
    case("vggsnn", batch=32),
    case("resnet19", batch=128),
    case("vggsnn", "inference", batch=32),
    case("resnet19", "inference", batch=128),
)


def tables(card: Card = H100) -> list[Table]:
    """Bytes and milliseconds of a step by kernel, then the floor."""
    kernels = ("moments", "forward", "backward", "input_gradient", "reading the partial sums")
    kernels += ("converting the residual's gradient", "spikes saved as bytes")
    head = ("case", "precision", *kernels, "sum", "backward, at best use of L2")
    by_kernel = Table(f"GB per step, and ms at {card.bandwidth / 1e12:g} TB/s", head)
    floors = Table(
        f"Floor on one {card.name}, ms per step",
        (
            "case",
            "precision",
            "kernels",
            "convolutions, operations",
            "convolutions, tensors",
            "step",
            "kernels' share",
            "samples/s",
        ),
    )
    for which in CASES:
        for precision in SIZES:
            counts, found = moved(which, precision), floor(which, precision, card)
            cells = [counts.get(name, 0) for name in kernels]
            cached = sum(layer.cacheable(SIZES[precision]) for layer in recorded(which)[0])
            cells += [sum(cells), max(0, counts.get("backward", 0) - cached)]
            shown = [f"{n / 1e9:.2f}, {1e3 * n / card.bandwidth:.2f}" if n else "-" for n in cells]
            by_kernel.rows.append((which.title, precision, *shown))
            parts = [f"{1e3 * found[key]:.2f}" for key in ("kernels", "operations", "tensors", "step")]
            share = f"{100 * found['kernels'] / found['step']:.0f} %"
            floors.rows.append((which.title, precision, *parts, share, f"{which.batch / found['step']:,.0f}"))
    return [by_kernel, floors]


def main() -> None:
    """Print the tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    show(tables())


if __name__ == "__main__":
    main()
