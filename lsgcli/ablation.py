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

from lsgcli import files, registry, run
from lsgcli.config import MAY_CHANGE, RunConfig, option_name
from lsgcli.errors import DivergedError, RunInUseError
from lsgcli.neurons.methods import FixedWidth
from lsgcli.rundir import RUNS, read_config
from lsgcli.training.signals import StopRequest

Variant = Mapping[str, Any]  # settings in which a row of the table differs from the others

# The paper's tables: rows in its order, the first row being the baseline that others are compared with.
TABLES: dict[str, tuple[Variant, ...]] = {
    "1": ({"method": "none"}, {"method": "trainable-decay"}, {"method": "lsg"}),
    "2": (*({"method": "none", "width": width} for width in (1.0, 0.5, 2.5, 5.0, 10.0)), {"method": "lsg"}),
    "3": tuple({"method": "lsg", "T": T} for T in (2, 4, 6)),
}

# What the paper reports (Lian et al., IJCAI 2023), by table, data set, method and what the table varies. Tables 1 and 3 differ.
PAPER: dict[str, dict[tuple[str, str, float | None, int], float]] = {
    "1": {
        ("cifar10", "none", 1.0, 2): 0.9268,
        ("cifar10", "trainable-decay", 1.0, 2): 0.9316,
        ("cifar10", "lsg", None, 2): 0.9441,
        ("cifar100", "none", 1.0, 2): 0.7387,
        ("cifar100", "trainable-decay", 1.0, 2): 0.7412,
        ("cifar100", "lsg", None, 2): 0.7622,
        ("cifar-dvs", "none", 1.0, 10): 0.7380,
        ("cifar-dvs", "trainable-decay", 1.0, 10): 0.7540,
        ("cifar-dvs", "lsg", None, 10): 0.7750,
    },
    "2": {
        ("cifar10", "none", 0.5, 2): 0.9212,
        ("cifar10", "none", 1.0, 2): 0.9268,
        ("cifar10", "none", 2.5, 2): 0.9068,
        ("cifar10", "none", 5.0, 2): 0.6154,
        ("cifar10", "none", 10.0, 2): 0.3082,
        ("cifar10", "lsg", None, 2): 0.9441,
    },
    "3": {
        ("cifar10", "lsg", None, 2): 0.9441,
        ("cifar10", "lsg", None, 4): 0.9517,
        ("cifar10", "lsg", None, 6): 0.9552,
        ("cifar100", "lsg", None, 2): 0.7632,
        ("cifar100", "lsg", None, 4): 0.7685,
        ("cifar100", "lsg", None, 6): 0.7713,
    },
}
# The network and neurons that those figures are of; beside any other they would mislead.
PAPER_ARCH = {"cifar10": "resnet19", "cifar100": "resnet19", "cifar-dvs": "vggsnn"}
PAPER_SETTINGS = {"width_multiplier": 1.0, "residual": "add", "decay": 0.2, "threshold": 0.5, "surrogate": "rectangular"}


@dataclass(frozen=True)
class Cell:
    """One run of the ablation: a variant with a seed."""

    variant: int
    config: RunConfig
    path: Path


def grid(axes: Mapping[str, Sequence[Any]]) -> tuple[Variant, ...]:
    """Every combination of the given settings, the first axis varying slowest."""
    return tuple(dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))


def cells(
    configs: Sequence[RunConfig], variants: Sequence[Variant], seeds: Sequence[int], out: Path | None = None
) -> list[Cell]:
    """All runs of an ablation, seed by seed, so that a stopped one has whole comparisons.

    The same settings give the same directories, so that finished runs are found again.

    Args:
        configs: settings of each variant, complete.
        variants: what makes each differ, which also names its directory.
        seeds: of every variant.
        out: folder of all directories; one below ``runs/``, named after the settings, if None.

    Raises:
        RunInUseError: a directory holds a run of other settings.
    """
    first = configs[0]
    root = out or RUNS / f"ablate-{first.dataset}-{first.arch}-{_digest([_what_counts(config) for config in configs])}"
    found = []
    for seed in seeds:
        for index, (config, variant) in enumerate(zip(configs, variants, strict=True)):
            name = "-".join(f"{key}={value}" for key, value in variant.items())
            found.append(Cell(index, config.replace(seed=seed), root / name / f"s{seed}"))
            _check_same(found[-1])
    return found


def _what_counts(config: RunConfig) -> dict[str, Any]:
    """Settings that make a run another run: not the seed, nor where things are, nor what a run may be resumed with."""
    return {name: value for name, value in config.to_dict().items() if name not in {*MAY_CHANGE, "seed"}}


def _check_same(cell: Cell) -> None:
    if not (cell.path / "config.json").exists():
        return
    there, wanted = _what_counts(read_config(cell.path)), _what_counts(cell.config)
    differing = [
        f"{option_name(name)} {there.get(name)!r} there, {wanted[name]!r} now"
        for name in wanted
        if there.get(name) != wanted[name]
    ]
    if differing:
        raise RunInUseError(
            f"{cell.path}: holds a run of other settings: {'; '.join(differing)}",
            hint="Choose another --out, or leave --out away.",
        )


def run_cell(cell: Cell, emit: Callable[[dict[str, Any]], None], stop: StopRequest) -> dict[str, Any]:
    """The final record of a cell: from its directory if it is finished, else by running or resuming it.

    A run that diverged is a result too: its accuracies are None.

    Raises:
        Stopped: a signal came; the same ablation, started again, goes on.
    """
    done = finished(cell)
    if done is not None:
        return done
    started = (cell.path / "config.json").exists()
    try:
        return run.train(cell.config, cell.path, emit, stop, resume=started)
    except DivergedError as error:
        record = {"accuracy": None, "test_accuracy_last": None, "diverged": error.message}
        files.write_json(cell.path / "result.json", record)
        return record


def finished(cell: Cell) -> dict[str, Any] | None:
    """The final record that a cell's directory holds, if it is finished."""
    try:
        record: dict[str, Any] = json.loads((cell.path / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record


def rows(cells: Sequence[Cell], records: Sequence[Mapping[str, Any]], table: str | None = None) -> list[dict[str, Any]]:
    """The table: one row a variant, in order. Accuracies are those of the checkpoint that ``lsg train`` would print.

    ``difference`` is the mean over seeds of the paired difference to the first row, ``interval`` its 95 % confidence interval
    (Student's t over seeds), None where fewer than two seeds are shared; both are None in the first row. ``paper`` is what the
    paper's ``table`` reports for the very same network and data set.
    """
    by_variant: dict[int, list[tuple[Cell, Mapping[str, Any]]]] = {}
    for cell, record in zip(cells, records, strict=True):
        by_variant.setdefault(cell.variant, []).append((cell, record))
    baseline = {cell.config.seed: record["accuracy"] for cell, record in by_variant[0]}
    found = []
    for variant in sorted(by_variant):
        config = by_variant[variant][0][0].config
        results = [(cell.config.seed, record["accuracy"], record["test_accuracy_last"]) for cell, record in by_variant[variant]]
        accuracies = [accuracy for _, accuracy, _ in results if accuracy is not None]
        pairs = [a - b for seed, a, _ in results if a is not None and (b := baseline.get(seed)) is not None]
        difference, interval = paired(pairs) if variant else (None, None)
        found.append(
            {
                "method": config.method,
                "width": _fixed_width(config),
                "T": config.T,
                "mean": statistics.fmean(accuracies) if accuracies else None,
                "std": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
                "n": len(accuracies),
                "diverged": len(results) - len(accuracies),
                "seeds": [seed for seed, _, _ in results],
                "accuracies": accuracies,
                "last": [last for _, _, last in results if last is not None],
                "paper": _paper(config, table),
                "difference": difference,
                "interval": interval,
            }
        )
    return found


def _fixed_width(config: RunConfig) -> float | None:
    """The width, where the method keeps it fixed."""
    return config.width if issubclass(registry.get("method", config.method), FixedWidth) else None


def _paper(config: RunConfig, table: str | None) -> float | None:
    same = {**PAPER_SETTINGS, "arch": PAPER_ARCH.get(config.dataset)}
    if table is None or any(getattr(config, name) != value for name, value in same.items()):
        return None
    return PAPER[table].get((config.dataset, config.method, _fixed_width(config), config.T))


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


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:8]
