"""Results of an ablation: mean, standard deviation, and paired differences from the baseline."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import special

from lsgcli import registry
from lsgcli.ablation import paper
from lsgcli.ablation.plan import Cell, what_counts
from lsgcli.ablation.sentences import conclude
from lsgcli.config import FIELDS, RunConfig

Result = tuple[Cell, Mapping[str, Any] | None]  # a run and its final record, None if unfinished
NO_SPREAD = 1e-9  # standard deviation of accuracies below which seeds agree up to rounding


def rows(cells: Sequence[Cell], records: Sequence[Mapping[str, Any] | None], table: str | None = None) -> list[dict[str, Any]]:
    """The table, one row per variant, in order. Accuracies, 0 to 1, are those of the checkpoint that ``lsg train`` prints.

    Returns:
        Records of JSON types:
        ``method``, ``width`` (None if ``width_formula`` determines it), ``T``, ``settings`` (others that differ between rows), ``label``;
        ``mean``, ``std`` (sample standard deviation, None for fewer than two), ``n``;
        ``seeds``, ``accuracies``, ``last``, ``best`` (of each finished run), ``best_chosen_on`` (``val`` or ``test``);
        ``diverged``, ``missing`` (seeds without an accuracy);
        ``difference``: mean over shared seeds of the paired difference from the baseline, which is the first row of the same data;
        ``interval``: its 95 % confidence interval by Student's t; both are None for the baseline, and ``interval`` also for fewer
        than two shared seeds or differences without variance; ``shared``: number of shared seeds;
        ``verdict`` and ``conclusion``: see :func:`lsgcli.ablation.sentences.conclude`;
        ``paper``, ``paper_std``: the values in the paper's ``table`` for the same network and data set.
    """
    by_row: dict[int, list[Result]] = {}
    for cell, record in sorted(zip(cells, records, strict=True), key=lambda result: result[0].config.seed):
        by_row.setdefault(cell.row, []).append((cell, record))
    numbers = sorted(by_row)
    configs = [by_row[number][0][0].config for number in numbers]
    varying = differing(configs)
    baselines: dict[tuple[str, str], int] = {}  # data -> their first row
    found = []
    for number, config in zip(numbers, configs, strict=True):
        data = by_row[number][0][0].data
        first = baselines.setdefault((config.dataset, data), number)
        row = {**_settings(config, configs, varying), **_accuracies(by_row[number])}
        row["label"] += f", data {data}" if data else ""
        row |= _comparison(by_row[number], by_row[first]) if number != first else NOT_COMPARED
        row["paper"], row["paper_std"] = paper.figure(config, table) or (None, None)
        row["verdict"], row["conclusion"] = conclude(row, is_baseline=number == first)
        found.append(row)
    return found


NOT_COMPARED = {"difference": None, "interval": None, "shared": 0, "baseline_n": 0}


def differing(configs: Sequence[RunConfig]) -> list[str]:
    """Names of the settings that differ between rows."""
    counted = [what_counts(config) for config in configs]
    return [name for name in FIELDS if name in counted[0] and any(one[name] != counted[0][name] for one in counted)]


def _settings(config: RunConfig, configs: Sequence[RunConfig], varying: Sequence[str]) -> dict[str, Any]:
    own = {"method": config.method, "width": paper.fixed_width(config), "T": config.T}
    others = {name: getattr(config, name) for name in varying if name not in own}
    label = [config.method]
    if any(one.width != config.width for one in configs if one.method == config.method):
        label.append(f"width {config.width:g}")
    label += [f"T {config.T}"] if "T" in varying else []
    label += [f"{name} {value}" for name, value in others.items()]
    formula = None if own["width"] is not None else registry.get("method", config.method).formula
    return {**own, "width_formula": formula, "settings": others, "label": ", ".join(label)}


def _accuracies(results: Sequence[Result]) -> dict[str, Any]:
    finished = [(cell.config.seed, record) for cell, record in results if record is not None and record["accuracy"] is not None]
    accuracies = [record["accuracy"] for _, record in finished]
    return {
        "mean": statistics.fmean(accuracies) if accuracies else None,
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "n": len(accuracies),
        "seeds": [seed for seed, _ in finished],
        "accuracies": accuracies,
        "last": [record.get("test_accuracy_last") for _, record in finished],
        "best": [record.get("test_accuracy_best") for _, record in finished],
        "best_chosen_on": " and ".join(
            sorted({record["best_chosen_on"] for _, record in finished if "best_chosen_on" in record})
        )
        or None,
        "diverged": [cell.config.seed for cell, record in results if record is not None and record["accuracy"] is None],
        "missing": [cell.config.seed for cell, record in results if record is None],
    }


def _comparison(results: Sequence[Result], baseline: Sequence[Result]) -> dict[str, Any]:
    mine, other = (
        {cell.config.seed: record["accuracy"] for cell, record in part if record is not None and record["accuracy"] is not None}
        for part in (results, baseline)
    )
    pairs = [mine[seed] - other[seed] for seed in mine if seed in other]
    difference, interval = paired(pairs)
    return {"difference": difference, "interval": interval, "shared": len(pairs), "baseline_n": len(other)}


def paired(differences: Sequence[float], confidence: float = 0.95) -> tuple[float | None, list[float] | None]:
    """Mean of paired differences and its confidence interval by Student's t.

    The interval is None for fewer than two differences, and if all differences are equal, because noise cannot be estimated.
    """
    if not differences:
        return None, None
    mean = statistics.fmean(differences)
    spread = statistics.stdev(differences) if len(differences) > 1 else 0.0
    if spread < NO_SPREAD:
        return mean, None
    quantile = float(special.stdtrit(len(differences) - 1, (1 + confidence) / 2))
    margin = quantile * spread / math.sqrt(len(differences))
    return mean, [mean - margin, mean + margin]
