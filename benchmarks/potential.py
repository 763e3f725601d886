"""Distribution of the membrane potential of LIF neurons, compared with the prediction of the paper's Theorem 1 (its Figure 3).

    python -m benchmarks.potential               # in a few seconds

The measures of ``lsg reproduce figure-3``, which draws them, as a table; the record is written to ``benchmarks/results/potential.json``.
"""

import argparse
import sys
from typing import Any

import torch

from benchmarks.measuring import machine, write
from benchmarks.tables import Table, show
from lsgcli.report import paper


def tables(record: dict[str, Any]) -> list[Table]:
    """Standard deviations at the second and the last step with the theorem's prediction, coverage, and E[h]."""
    head = (
        "",
        "beta",
        "sqrt(1 + beta^2)",
        "std(u) / v_th, t = 2",
        f"t = {paper.T}",
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
    """Measure, print the table and write the record."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    record = {"machine": machine("numba"), "settings": paper.potential_records()}
    show(tables(record))
    print(write("potential", record), file=sys.stderr)


if __name__ == "__main__":
    main()
