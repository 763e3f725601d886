"""Charts of an ablation: mean over seeds, with a band of one standard deviation."""

import math
from collections.abc import Sequence
from pathlib import Path

from lsgcli.report.charts import Line, Scale, line_drawing
from lsgcli.report.colours import Style, ordered, styles
from lsgcli.report.drawing import SUFFIXES, Drawing, save, save_as
from lsgcli.report.figures import Panel, View, sheet
from lsgcli.sweeps import curves
from lsgcli.sweeps.curves import Curve, Rows
from lsgcli.sweeps.plan import safe_name

MARKERS = 8  # at most, on a curve by epoch


def draw(rows: Rows, target: Path) -> list[Path]:
    """Write :func:`charts` to a folder, or, if ``target`` has the suffix of an image, :func:`figure` to this file; returns the files."""
    if target.suffix.lower() not in SUFFIXES:
        return save(charts(rows), target)
    if (drawing := figure(rows)) is None:
        return []
    save_as(drawing, target)
    return [target]


def charts(rows: Rows) -> dict[str, Drawing]:
    """Charts by file name, without suffix: accuracy and loss by epoch, coverage by layer, and alpha and beta by epoch for each row in
    which they change. Charts without values are omitted.

    Args:
        rows: directories of finished runs, as :func:`lsgcli.sweeps.curves.finished` finds them.
    """
    found = _by_epoch(rows)
    if lines := curves.coverage(rows):
        found["coverage"] = _view(
            lines, styles(len(lines)), "layer, from the input", "coverage: fraction of u in v_th +- alpha / 2"
        )
    for label, paths in rows.items():
        for measure, title in (("alpha", "width alpha of the surrogate, u"), ("beta", "decay beta")):
            if layers := curves.over_training(paths, measure):
                look = ordered(len(layers))
                name = f"{measure}-{safe_name(label)}"
                found[f"{name}-{len(found)}" if name in found else name] = _view(
                    layers, look, "epoch", f"{title}: {label}", bands=False
                )
    return {name: sheet("", view) for name, view in found.items()}


def figure(rows: Rows) -> Drawing | None:
    """Accuracy and loss by epoch in one drawing, two columns wide; None without values."""
    views = list(_by_epoch(rows).values())
    return sheet("", View("by epoch", [view.panels[0] for view in views], 2, legend=views[0].legend)) if views else None


def _by_epoch(rows: Rows) -> dict[str, View]:
    split, found = curves.evaluated_on(rows), {}
    for name, title in (("accuracy", "accuracy"), ("loss", "cross-entropy")):
        if lines := curves.by_epoch(rows, name):
            found[name] = _view(lines, styles(len(lines)), "epoch", f"{title}, {split}")
    return found


def _view(curves: Sequence[Curve], looks: Sequence[Style], x_label: str, y_label: str, bands: bool = True) -> View:
    """Curves over 1, 2, 3, ... with a legend. Curves of rows have bands; those of layers do not, because the bands would overlap."""
    longest = max(len(curve.mean) for curve in curves)
    lines = [
        Line(
            curve.label if bands else f"{number} {curve.label}",
            curve.mean,
            look,
            std=curve.std if bands else (),
            marked=bands and (math.ceil(longest / MARKERS) if x_label == "epoch" else 1),
            tip=f"{curve.label}: {curve.mean[-1]:.4g} at the end",
            layer=None if bands else number,
        )
        for number, (curve, look) in enumerate(zip(curves, looks, strict=True), 1)
    ]
    y = Scale.over(mean + k * std for c in curves for mean, std in zip(c.mean, c.std, strict=True) for k in (-bands, bands))
    mean = "mean and standard deviation" if any(one.has_band for one in lines) else "mean"
    note = f"{mean} over {_seeds(curves)}" if any(curve.n > 1 for curve in curves) else _seeds(curves)
    last = "; ".join(f"{curve.label} {curve.mean[-1]:.4g}" for curve in curves)
    name = f"{y_label} by {x_label}, {note}. At the end: {last}"
    panel = Panel(line_drawing(lines, x_label, y_label, 1, y), note=note)
    return View(name, [panel], legend=[(one.name, one.style) for one in lines])


def _seeds(curves: Sequence[Curve]) -> str:
    counts = sorted({curve.n for curve in curves})
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{number} {'seed' if counts == [1] else 'seeds'}"
