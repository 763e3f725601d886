"""Figures 1 and 3 of the paper (Lian et al., IJCAI 2023), which need no training: surrogates, and the membrane potential of neurons."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli import registry
from lsgcli.analysis import Layer, inspect
from lsgcli.analysis.lif_watchers import present
from lsgcli.neurons import LIF
from lsgcli.report.charts import line_chart
from lsgcli.report.drawing import Spec, styles
from lsgcli.report.figures import Panel, View, sheet
from lsgcli.system.schema import Record

DECAYS = (0.1, 0.2, 0.5, 0.8)
T = 10
SAMPLES = 100
NEURONS = 1000
BATCHES = 5
SETTINGS = {  # name: correlation of a current with the next, gamma
    "rho = 0": (0.0, 1.0),
    "rho = 0.5": (0.5, 1.0),
    "rho = 1": (1.0, 1.0),
    "gamma = 2": (0.0, 2.0),
}


def surrogates() -> Spec:
    """Figure 1: the surrogates, with width 1."""
    names = [name for name in registry.names("surrogate") if name != "tanh"]  # which equals sigmoid
    x = torch.linspace(-1.5, 1.5, 301)
    legend = dict(zip(names, styles(len(names)), strict=True))
    rows = []
    for name in names:
        heights = registry.get("surrogate", name)(x, torch.tensor(1.0))
        rows += [
            {"name": name, "line": name, "x": at, "y": height} for at, height in zip(x.tolist(), heights.tolist(), strict=True)
        ]
    chart = line_chart("surrogates h", rows, legend, "(u - v_th) / alpha", {"domain": [0, 1.05]})
    chart["encoding"]["x"]["axis"] = {"values": [-1, 0, 1]}
    return sheet("", View("surrogates", [Panel(chart)], legend=legend))


def potentials() -> Spec:
    """Figure 3: the distribution of the membrane potential, measured and as the theorem predicts it."""
    picture = registry.get("picture", "potential")
    (view,) = picture.views(potential_records(), list(SETTINGS))
    return sheet(picture.title, view)


def potential_records() -> list[Record]:
    """A gradient-flow record of every setting, named by its ``method``.

    Layers of neurons with several decays receive T timesteps of normal currents with the threshold as standard deviation. All settings
    but the first violate an assumption of the theorem: currents correlated in time (rho; 1 is a static image), or a tdBN gamma other
    than 1. All neurons reset.
    """
    records = []
    for name, (rho, gamma) in SETTINGS.items():
        generator = torch.Generator().manual_seed(0)
        batches = ((_currents(rho, generator), torch.zeros(SAMPLES, dtype=torch.long)) for _ in range(BATCHES))
        records.append({**inspect(_Layers(gamma), batches, adapter=_layers), "method": name})
    return records


class _Layers(nn.Module):
    """A layer of neurons for each decay, side by side: normal numbers (T, B, N) -> mean spikes (T, B, decays).

    Args:
        gamma: what tdBN multiplies currents by, beside the threshold.
    """

    def __init__(self, gamma: float):
        super().__init__()
        self.lifs: Any = nn.ModuleList(LIF(decay=decay, method="lsg") for decay in DECAYS)
        self.weight = nn.Parameter(torch.ones(()))
        self.gamma = torch.tensor([gamma])

    def forward(self, x: Tensor) -> Tensor:
        spikes = [lif(x * (self.weight * self.gamma * lif.threshold)) for lif in self.lifs]
        return torch.stack([o.mean(2) for o in spikes], 2)


def _layers(net: _Layers) -> list[Layer]:
    """The layers, with their preceding tdBN."""
    return [
        Layer(f"beta {decay}", lif, net.weight, partial(present, lif), gamma=net.gamma)
        for decay, lif in zip(DECAYS, net.lifs, strict=True)
    ]


def _currents(rho: float, generator: torch.Generator) -> Tensor:
    """Standard normal numbers (T, B, N), with correlation rho between successive timesteps."""
    x = torch.randn((T, SAMPLES, NEURONS), generator=generator)
    for t in range(1, T):
        x[t] = rho * x[t - 1] + (1 - rho**2) ** 0.5 * x[t]
    return x
