"""Charts of an ablation: a line per row, the mean over its runs, with a band of one standard deviation."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lsgcli.errors import ConfigError
from lsgcli.report.charts import Values
from lsgcli.report.drawing import SUFFIXES, save, save_as
from lsgcli.report.figures import EVALUATED, View, curves, evaluated, sheet
from lsgcli.store import flows
from lsgcli.store.rundir import read_metrics

if TYPE_CHECKING:
    from lsgcli.sweeps.collect import Collection

log = logging.getLogger("lsg")
Rows = Mapping[str, Sequence[Path]]  # label of a row -> directories of its finished runs


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
    save_as(sheet("", View("accuracy and loss by epoch", both, 2, views["accuracy"].legend)), target)
    return [target]


def charts(rows: Rows) -> dict[str, View]:
    """Accuracy and loss by epoch on the split evaluated after each epoch (figure 4 of the paper), and coverage by layer of the final
    networks (figure 5), by file name. Charts without values are left out; damaged records give a warning."""
    accuracy: dict[str, list[Values]] = {label: [] for label in rows}
    loss: dict[str, list[Values]] = {label: [] for label in rows}
    coverage: dict[str, list[Values]] = {label: [] for label in rows}
    for label, paths in rows.items():
        for path in paths:
            try:
                epochs = read_metrics(path)
                flow = flows.read_full(path)
            except ConfigError as error:
                log.warning("%s; the charts are without this run", error.message)
                continue
            accuracy[label].append(evaluated(epochs, "accuracy"))
            loss[label].append(evaluated(epochs, "loss"))
            coverage[label].append([layer.get("coverage") for layer in flow["layers"]] if flow else [])
    views = {
        "accuracy": curves("accuracy", accuracy, note=EVALUATED),
        "loss": curves("cross-entropy", loss, note=EVALUATED),
        "coverage": curves("coverage", coverage, "layer, from the input", "Fraction of u in v_th +- alpha / 2."),
    }
    return {name: view for name, view in views.items() if view.panels[0].drawing}
