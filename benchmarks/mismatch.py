"""Surrogate width against depth: the gradient that reaches the first layer, and its agreement with finite differences of the loss.

    python -m benchmarks.mismatch          # about ten minutes on one thread
    python docs/figures.py                 # docs/images/mismatch.svg, from the record

arXiv 2510.24461 finds that shallow slopes (wide surrogates) raise the gradient of deep networks and misalign it, without a clear preference in
supervised learning. Fully connected networks with batch normalisation and a fixed width on digits-dvs, measured at the start and after training,
on the same mini-batch. The record is ``mismatch``.
"""

import itertools
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.measuring import machine, write
from lsgcli.analysis import Sample, inspect
from lsgcli.config.run import RunConfig
from lsgcli.data.batches import Batch, batches
from lsgcli.data.bundle import DataBundle
from lsgcli.data.prepare import prepare
from lsgcli.neurons import LIF

WIDTHS, LAYERS, SEEDS = (0.25, 0.5, 1.0, 2.0, 4.0), (2, 4, 8), range(3)  # width in v_th
NEURONS, WEIGHTS, BATCH, EPOCHS = 128, 64, 128, 5
DATA = RunConfig(dataset="digits-dvs", T=5, size=16)


class Hidden(nn.Module):
    """Linear layer, batch normalisation to a standard deviation of v_th, neurons: (T, B, C) -> (T, B, NEURONS)."""

    def __init__(self, inputs: int, width: float):
        super().__init__()
        self.linear, self.norm = nn.Linear(inputs, NEURONS, bias=False), nn.BatchNorm1d(NEURONS)
        self.lif = LIF(method="none", threshold=1.0, width=width)

    def forward(self, x: Tensor) -> Tensor:
        z = self.linear(x)
        return self.lif(self.norm(z.flatten(0, 1)).unflatten(0, z.shape[:2]))


def network(inputs: int, classes: int, layers: int, width: float) -> nn.Sequential:
    """(T, B, C, H, W) -> (T, B, classes)."""
    sizes = [inputs, *[NEURONS] * (layers - 1)]
    return nn.Sequential(nn.Flatten(2), *(Hidden(size, width) for size in sizes), nn.Linear(NEURONS, classes))


def measured(net: nn.Module, batch: Batch) -> dict[str, list[float]]:
    """Gradient norm over that of the last layer, and cosine with finite differences, of each layer."""
    layers = inspect(net, [batch], sample=Sample(WEIGHTS))["layers"]
    return {name: [layer[name] and round(layer[name], 4) for layer in layers] for name in ("grad_ratio", "mismatch")}


def cell(data: DataBundle, layers: int, width: float, seed: int) -> dict[str, Any]:
    """A network at the start and after training, and its accuracy."""
    torch.manual_seed(seed)
    (first,) = itertools.islice(batches(data, "train", BATCH, shuffle=True, seed=seed), 1)
    net = network(first.x[0, 0].numel(), len(data.classes), layers, width)
    found: dict[str, Any] = {"layers": layers, "width": width, "seed": seed, "start": measured(net, first)}
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for epoch in range(EPOCHS):
        for batch in batches(data, "train", 32, shuffle=True, seed=seed, epoch=epoch):
            optimizer.zero_grad()
            F.cross_entropy(net(batch.x).mean(0), batch.y).backward()
            optimizer.step()
    found["end"] = measured(net, first)
    net.eval()
    with torch.no_grad():
        right = sum(int((net(batch.x).mean(0).argmax(1) == batch.y).sum()) for batch in batches(data, "test", BATCH))
    return found | {"accuracy": right / len(data.named("test"))}


def main() -> None:
    """Measure all networks, and write the record."""
    torch.set_num_threads(1)
    data = prepare(DATA, ("train", "test"))
    cells = []
    for layers, width, seed in itertools.product(LAYERS, WIDTHS, SEEDS):
        cells.append(cell(data, layers, width, seed))
        print(cells[-1], file=sys.stderr)
    write("mismatch", {"machine": machine("numba"), "neurons": NEURONS, "weights": WEIGHTS, "batch": BATCH, "cells": cells})


if __name__ == "__main__":
    main()
