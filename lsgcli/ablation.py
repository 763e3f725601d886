"""Ablations: a list of variants, each over several seeds, and what can be concluded from them."""

import hashlib
import itertools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from lsgcli import registry, run
from lsgcli.config import RunConfig
from lsgcli.errors import DivergedError
from lsgcli.neurons.methods import FixedWidth
from lsgcli.rundir import RUNS

Variant = Mapping[str, Any]  # settings in which a row of the table differs from the others

# The paper's tables: rows in its order, the first row being the baseline that others are compared with.
TABLES: dict[str, tuple[Variant, ...]] = {
    "1": ({"method": "none"}, {"method": "trainable-decay"}, {"method": "lsg"}),
    "2": (*({"method": "none", "width": width} for width in (1.0, 0.5, 2.5, 5.0, 10.0)), {"method": "lsg"}),
    "3": tuple({"method": "lsg", "T": T} for T in (2, 4, 6)),
}

# Accuracies that the paper reports (Lian et al., IJCAI 2023), by (data set, method, width, T); width is None where it follows from the decay.
PAPER: dict[tuple[str, str, float | None, int], float] = {
    ("cifar10", "none", 1.0, 2): 0.9268,
    ("cifar10", "trainable-decay", 1.0, 2): 0.9316,
    ("cifar10", "lsg", None, 2): 0.9441,
    ("cifar100", "none", 1.0, 2): 0.7387,
    ("cifar100", "trainable-decay", 1.0, 2): 0.7412,
    ("cifar100", "lsg", None, 2): 0.7622,
    ("cifar-dvs", "none", 1.0, 10): 0.7380,
    ("cifar-dvs", "trainable-decay", 1.0, 10): 0.7540,
    ("cifar-dvs", "lsg", None, 10): 0.7750,
    ("cifar10", "none", 0.5, 2): 0.9212,
    ("cifar10", "none", 2.5, 2): 0.9068,
    ("cifar10", "none", 5.0, 2): 0.6154,
    ("cifar10", "none", 10.0, 2): 0.3082,
    ("cifar10", "lsg", None, 4): 0.9517,
    ("cifar10", "lsg", None, 6): 0.9552,
    ("cifar100", "lsg", None, 4): 0.7685,
    ("cifar100", "lsg", None, 6): 0.7713,
}


@dataclass(frozen=True)
class Cell:
    """One run of the ablation: a variant with a seed."""

    variant: int
    config: RunConfig
    path: Path


def grid(axes: Mapping[str, Sequence[Any]]) -> tuple[Variant, ...]:
    """Every combination of the given settings, the first axis varying slowest."""
    return tuple(dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))


def cells(base: RunConfig, variants: Sequence[Variant], seeds: Sequence[int], out: Path | None = None) -> list[Cell]:
    """All runs of an ablation, seed by seed, so that a stopped one has whole comparisons.

    The same settings give the same directories, so that finished runs are found again.
    """
    root = (
        out or RUNS / f"ablate-{base.dataset}-{base.arch}-{_digest(base.replace(seed=0).to_dict(), list(map(dict, variants)))}"
    )
    found = []
    for seed in seeds:
        for index, variant in enumerate(variants):
            name = "-".join(f"{key}={value}" for key, value in variant.items())
            found.append(Cell(index, base.replace(**variant, seed=seed), root / name / f"s{seed}"))
    return found


def run_cell(cell: Cell, emit: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The final record of a cell: from its directory if it is finished, else by running or resuming it.

    A run that diverged is a result too: its accuracies are None.
    """
    done = finished(cell)
    if done is not None:
        return done
    started = (cell.path / "config.json").exists()
    try:
        return run.train(cell.config, cell.path, emit, resume=started)
    except DivergedError:
        return {"accuracy": None, "test_accuracy_last": None}


def finished(cell: Cell) -> dict[str, Any] | None:
    """The final record that a cell's directory holds, if it is finished."""
    try:
        record: dict[str, Any] = json.loads((cell.path / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record


def rows(cells: Sequence[Cell], records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The table: one row a variant, in order. Accuracies are those of the checkpoint that ``lsg train`` would print.

    ``difference`` is the mean over seeds of the paired difference to the first row, ``interval`` its 95 % confidence interval
    (Student's t over seeds); None where fewer than two seeds are shared.
    """
    by_variant: dict[int, list[tuple[Cell, Mapping[str, Any]]]] = {}
    for cell, record in zip(cells, records, strict=True):
        by_variant.setdefault(cell.variant, []).append((cell, record))
    baseline = {cell.config.seed: record["accuracy"] for cell, record in by_variant[0]}
    table = []
    for variant in sorted(by_variant):
        config = by_variant[variant][0][0].config
        results = [(cell.config.seed, record["accuracy"], record["test_accuracy_last"]) for cell, record in by_variant[variant]]
        accuracies = [accuracy for _, accuracy, _ in results if accuracy is not None]
        pairs = [a - b for seed, a, _ in results if a is not None and (b := baseline.get(seed)) is not None]
        difference, interval = paired(pairs) if variant else (None, None)
        width = config.width if issubclass(registry.get("method", config.method), FixedWidth) else None
        table.append(
            {
                "method": config.method,
                "width": width,
                "T": config.T,
                "mean": statistics.fmean(accuracies) if accuracies else None,
                "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
                "n": len(accuracies),
                "diverged": len(results) - len(accuracies),
                "seeds": [seed for seed, _, _ in results],
                "accuracies": accuracies,
                "last": [last for _, _, last in results if last is not None],
                "paper": PAPER.get((config.dataset, config.method, width, config.T)),
                "difference": difference,
                "interval": interval,
            }
        )
    return table


def paired(differences: Sequence[float], confidence: float = 0.95) -> tuple[float | None, list[float] | None]:
    """Mean of paired differences and its confidence interval by Student's t."""
    if not differences:
        return None, None
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return mean, None
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    margin = float(stats.t.ppf((1 + confidence) / 2, len(differences) - 1)) * error
    return mean, [mean - margin, mean + margin]


def conclusion(row: Mapping[str, Any]) -> str:
    """Whether a row differs from the baseline by more than noise, in plain words."""
    if row["interval"] is None:
        return "" if row["difference"] is None else "one seed: nothing can be said"
    low, high = row["interval"]
    if low <= 0 <= high:
        return "within noise"
    return "better than the baseline" if low > 0 else "worse than the baseline"


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
