"""Charts of an ablation: a line per row, the mean over its runs, with a band of one standard deviation."""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsgcli.errors import ConfigError
from lsgcli.report.charts import over_runs
from lsgcli.report.drawing import SUFFIXES, save, save_as, styles
from lsgcli.report.figures import View, lines_view, sheet
from lsgcli.store import flows
from lsgcli.store.rundir import read_metrics

if TYPE_CHECKING:
    from lsgcli.sweeps.collect import Collection

log = logging.getLogger("lsg")
Rows = Mapping[str, Sequence[Path]]  # label of a row -> directories of its finished runs
Values = list[float | None]


def finished(found: "Collection", labels: Sequence[str]) -> Rows:
    """Directories of the finished runs that did not diverge, by the label of their row."""
    rows: dict[str, list[Path]] = {label: [] for label in labels}
    for cell, record in zip(found.cells, found.records, strict=True):
        if record is not None and record["accuracy"] is not None:
            rows[labels[cell.row]].append(cell.path)
    return {label: paths for label, paths in rows.items() if paths}


def draw(rows: Rows, target: Path) -> list[Path]:
    """Write :func:`charts` to a folder, or accuracy and loss side by side if ``target`` is the file of an image; returns the files."""
    views = charts(rows)
    if not views:
        return []
    if target.suffix.lower() not in SUFFIXES:
        return save({name: sheet("", view) for name, view in views.items()}, target)
    both = [views[name].panels[0] for name in ("accuracy", "loss")]
    save_as(sheet("", View("accuracy and loss by epoch", both, 2, legend=views["accuracy"].legend)), target)
    return [target]


def charts(rows: Rows) -> dict[str, View]:
    """Accuracy and loss by epoch on the split evaluated after each epoch (figure 4 of the paper), and coverage by layer of the final
    networks (figure 5), by file name. Charts without values are left out."""
    views = {}
    if rows:
        paths = [path for own in rows.values() for path in own]
        splits = [split for split in ("val", "test") if any(f"{split}_accuracy" in line for line in _metrics(*paths))]
        for measure, title in ("accuracy", "accuracy"), ("loss", "cross-entropy"):
            by_epoch = functools.partial(_by_epoch, measure)
            views[measure] = _view(rows, by_epoch, "epoch", f"{title}, {' and '.join(splits)}")
        views["coverage"] = _view(rows, _coverage, "layer, from the input", "coverage: fraction of u in v_th +- alpha / 2")
    return {name: view for name, view in views.items() if view.panels[0].drawing}


def _view(rows: Rows, values: Callable[[Path], Values], x_label: str, y_label: str) -> View:
    lines = []
    for (label, paths), style in zip(rows.items(), styles(len(rows)), strict=True):
        lines.append(over_runs(label, style, [values(path) for path in paths]))
    counts = sorted({len(paths) for paths in rows.values()})
    seeds = " to ".join(dict.fromkeys(str(count) for count in (counts[0], counts[-1])))
    spread = "mean and standard deviation over " if any(line.has_band for line in lines) else ""
    note = f"{spread}{seeds} {'seed' if counts == [1] else 'seeds'}"
    return lines_view(f"{y_label} by {x_label}", lines, x_label, y_label, note)


def _by_epoch(measure: str, path: Path) -> Values:
    return [line.get(f"val_{measure}", line.get(f"test_{measure}")) for line in _metrics(path)]


def _metrics(*paths: Path) -> list[Mapping[str, Any]]:
    return [line for path in paths for line in _read(read_metrics, path)]


def _coverage(path: Path) -> Values:
    flow = _read(flows.read_full, path)
    return [layer.get("coverage") for layer in flow["layers"]] if flow else []


@functools.cache
def _read(reader: Callable[[Path], Any], path: Path) -> Any:
    """The records of a run; an empty list, with a warning, if they are damaged."""
    try:
        return reader(path)
    except ConfigError as error:
        log.warning("%s; the charts are without them", error.message)
        return []
