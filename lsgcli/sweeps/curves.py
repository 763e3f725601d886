"""Curves of an ablation's runs, averaged over seeds, for charts."""

import functools
import logging
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsgcli.errors import ConfigError
from lsgcli.store import flows
from lsgcli.store.rundir import read_metrics
from lsgcli.sweeps.plan import Cell

log = logging.getLogger("lsg")
MOVED = 1e-6  # range of beta or alpha over training below which they count as constant
Rows = Mapping[str, Sequence[Path]]  # label of a row -> directories of the row's finished runs


@dataclass(frozen=True)
class Curve:
    """Mean and sample standard deviation over ``n`` seeds, point by point; the deviation is 0 for a single seed."""

    label: str
    mean: list[float]
    std: list[float]
    n: int


def finished(
    labels: Sequence[str], cells: Sequence[Cell], records: Sequence[Mapping[str, Any] | None]
) -> dict[str, list[Path]]:
    """Directories of the finished runs that did not diverge, by row."""
    by_label: dict[str, list[Path]] = {label: [] for label in labels}
    for cell, record in zip(cells, records, strict=True):
        if record is not None and record["accuracy"] is not None:
            by_label[labels[cell.row]].append(cell.path)
    return {label: paths for label, paths in by_label.items() if paths}


def evaluated_on(rows: Rows) -> str:
    """The split whose accuracy the runs record after each epoch: ``val``, ``test``, or both."""
    lines = [line for paths in rows.values() for path in paths for line in _read(read_metrics, path)]
    return " and ".join(split for split in ("val", "test") if any(f"{split}_accuracy" in line for line in lines))


def by_epoch(rows: Rows, measure: str) -> list[Curve]:
    """``accuracy`` or ``loss`` by epoch on the split evaluated after each epoch, one curve per row. Figure 4 of the paper."""

    def values(path: Path) -> list[float | None]:
        return [line.get(f"val_{measure}", line.get(f"test_{measure}")) for line in _read(read_metrics, path)]

    return _curves(rows, values)


def coverage(rows: Rows) -> list[Curve]:
    """Share of u inside the surrogate's interval by layer, for the final network, one curve per row. Figure 5 of the paper."""

    def values(path: Path) -> list[float | None]:
        flow = _read(flows.read_full, path)
        return [layer.get("coverage") for layer in flow["layers"]] if flow else []

    return _curves(rows, values)


def over_training(paths: Sequence[Path], measure: str) -> list[Curve]:
    """``beta`` or ``alpha`` by epoch, one curve per layer, for the runs of one row. Figures 6 and 7 of the paper.

    Empty if the values are constant.
    """
    histories = [[line["layers"] for line in _read(flows.read_lines, path) if "event" not in line] for path in paths]
    names = next(([layer["name"] for layer in history[0]] for history in histories if history), [])
    curves = [
        _over_seeds(name, [[epoch[index].get(measure) for epoch in history] for history in histories])
        for index, name in enumerate(names)
    ]
    moved = any(max(curve.mean) - min(curve.mean) > MOVED for curve in curves if curve.mean)
    return curves if moved else []


@functools.cache
def _read(reader: Callable[[Path], Any], path: Path) -> Any:
    """The records of a run; an empty list, with a warning, if they are damaged."""
    try:
        return reader(path)
    except ConfigError as error:
        log.warning("%s; the charts are without them", error.message)
        return []


def _curves(rows: Rows, values: Callable[[Path], list[float | None]]) -> list[Curve]:
    curves = [_over_seeds(label, [values(path) for path in paths]) for label, paths in rows.items()]
    return [curve for curve in curves if curve.mean]


def _over_seeds(label: str, histories: Sequence[Sequence[float | None]]) -> Curve:
    """Mean curve over runs, up to the first point that any of them lacks."""
    runs, means, deviations = [values for values in histories if values], [], []
    for values in zip(*runs, strict=False):
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            break
        means.append(statistics.fmean(known))
        deviations.append(statistics.stdev(known) if len(known) > 1 else 0.0)
    return Curve(label, means, deviations, len(runs))
