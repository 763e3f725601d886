"""Distribution of the membrane potential of LIF neurons, compared with the prediction of the paper's Theorem 1 (its Figure 3).

    python -m benchmarks.potential               # the picture to docs/images/potential.svg, in a few seconds

Layers of neurons with several decays receive T timesteps of normal currents with the threshold as standard deviation, and
``lsgcli.analysis.inspect`` measures their potentials. Each setting violates one assumption of the theorem: currents correlated in time
(rho; 1 is a static image), or a tdBN gamma other than 1. All neurons reset. The record is written to
``benchmarks/results/potential.json``.
"""

import argparse
import sys
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measuring import RESULTS, machine, write
from benchmarks.tables import Table, show
from lsgcli import registry
from lsgcli.analysis import Layer, inspect
from lsgcli.analysis.lif_watchers import present
from lsgcli.neurons import LIF
from lsgcli.report.figures import sheet
from lsgcli.system.files import write_text

DECAYS = (0.1, 0.2, 0.5, 0.8)
T, SAMPLES, NEURONS, BATCHES = 10, 100, 1000, 5
SETTINGS = {  # name: correlation of a current with the next, gamma
    "rho = 0": (0.0, 1.0),
    "rho = 0.5": (0.5, 1.0),
    "rho = 1": (1.0, 1.0),
    "gamma = 2": (0.0, 2.0),
}
IMAGE = RESULTS.parents[1] / "docs" / "images" / "potential.svg"


class Layers(nn.Module):
    """A layer of neurons for each decay, side by side: normal numbers (T, B, N) -> mean spikes (T, B, decays).

    Args:
        gamma: what tdBN multiplies currents by, beside the threshold.
    """

    def __init__(self, gamma: float):
        super().__init__()
        self.lifs = nn.ModuleList(LIF(decay=decay, method="lsg") for decay in DECAYS)
        self.weight = nn.Parameter(torch.ones(()))
        self.gamma = torch.tensor([gamma])

    def forward(self, x: Tensor) -> Tensor:
        spikes = [lif(x * (self.weight * self.gamma * lif.threshold)) for lif in self.lifs]
        return torch.stack([o.mean(2) for o in spikes], 2)


def adapter(net: Layers) -> list[Layer]:
    """The layers, with their preceding tdBN."""
    return [
        Layer(f"beta {decay}", lif, net.weight, partial(present, lif), gamma=net.gamma)
        for decay, lif in zip(DECAYS, net.lifs, strict=True)
    ]


def currents(rho: float, generator: torch.Generator) -> Tensor:
    """Standard normal numbers (T, B, N), with correlation rho between successive timesteps."""
    x = torch.randn((T, SAMPLES, NEURONS), generator=generator)
    for t in range(1, T):
        x[t] = rho * x[t - 1] + (1 - rho**2) ** 0.5 * x[t]
    return x


def measure() -> list[dict[str, Any]]:
    """A gradient-flow record of every setting, named by its ``method``."""
    records = []
    for name, (rho, gamma) in SETTINGS.items():
        generator = torch.Generator().manual_seed(0)
        batches = ((currents(rho, generator), torch.zeros(SAMPLES, dtype=torch.long)) for _ in range(BATCHES))
        records.append({**inspect(Layers(gamma), batches, adapter=adapter), "method": name})
    return records


def tables(record: dict[str, Any]) -> list[Table]:
    """Standard deviations at the second and the last step with the theorem's prediction, coverage, and E[h]."""
    head = (
        "",
        "beta",
        "sqrt(1 + beta^2)",
        "std(u) / v_th, t = 2",
        f"t = {T}",
        "mean(u) / v_th",
        "predicted coverage",
        "coverage",
        "E[h]",
        "E[h], alpha = 1",
    )
    table = Table("", head)
    for flow in record["settings"]:
        for layer in flow["layers"]:
            steps = layer["per_step"]["u_std"]
            predicted = layer["u_std_predicted"]["paper"]
            row = (
                flow["method"],
                f"{layer['beta']:.1f}",
                f"{predicted:.3f}",
                f"{steps[1]:.3f}",
                f"{steps[-1]:.3f}",
                f"{layer['u_mean']:.3f}",
                f"{inside(predicted, layer['alpha'], flow['threshold']):.3f}",
                f"{layer['coverage']:.3f}",
                f"{layer['sg_mean']:.3f}",
                f"{near(layer['histogram'], 0.5 / flow['threshold']):.3f}",
            )
            table.rows.append(row)
    return [table]


def inside(sigma: float, alpha: float, threshold: float) -> float:
    """Share of N(0, sigma^2), in units of the threshold, within alpha/2 of the threshold."""
    normal = torch.distributions.Normal(0.0, sigma)
    half = alpha / 2 / threshold
    low, high = normal.cdf(torch.tensor([1 - half, 1 + half], dtype=torch.float64)).tolist()
    return high - low


def near(histogram: dict[str, Any], half: float) -> float:
    """Share of a histogram's potentials within ``half`` of the threshold; its edges must have 1 - half and 1 + half among them."""
    edges, counts = histogram["edges"], histogram["counts"]
    total = sum(counts) + histogram["below"] + histogram["above"]
    return sum(n for left, n in zip(edges, counts, strict=False) if 1 - half - 1e-9 <= left < 1 + half - 1e-9) / total


def main() -> None:
    """Measure, print the table, draw the figure and write the record."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    record = {"machine": machine("numba"), "settings": measure()}
    show(tables(record))
    print(write("potential", record), file=sys.stderr)
    potential = registry.get("picture", "potential")
    views = potential.views(record["settings"], list(SETTINGS))
    write_text(IMAGE, sheet(potential.title, views[0]).svg())
    print(IMAGE, file=sys.stderr)


if __name__ == "__main__":
    main()
