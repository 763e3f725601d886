"""Charts of an ablation: mean over seeds, with a band of one standard deviation."""

from collections.abc import Sequence

from lsgcli.ablation import curves
from lsgcli.ablation.curves import Curve, Rows
from lsgcli.ablation.plan import safe_name
from lsgcli.report.charts import Axes, Line, Scale, drawn_legend
from lsgcli.report.colours import Style, ordered, styles
from lsgcli.report.drawing import Drawing, group, text

WIDTH, HEIGHT, MARGIN = 640, 340, 12


def charts(rows: Rows) -> dict[str, Drawing]:
    """Charts by file name, without suffix: accuracy and loss by epoch, coverage by layer, and alpha and beta by epoch for each row in
    which they move. Omits what the runs have no values of.

    Args:
        rows: directories of finished runs, as :func:`lsgcli.ablation.curves.finished` finds them.
    """
    split, found = curves.evaluated_on(rows), {}
    for name, lines, x_label, y_label in (
        ("accuracy", curves.by_epoch(rows, "accuracy"), "epoch", f"accuracy, {split}"),
        ("loss", curves.by_epoch(rows, "loss"), "epoch", f"cross-entropy, {split}"),
        ("coverage", curves.coverage(rows), "layer, from the input", "coverage: fraction of u inside v_th +- alpha / 2"),
    ):
        if lines:
            found[name] = _chart(lines, styles(len(lines)), x_label, y_label)
    for label, paths in rows.items():
        for measure, title in (("alpha", "width alpha of the surrogate, u"), ("beta", "decay beta")):
            if layers := curves.over_training(paths, measure):
                found[f"{measure}-{safe_name(label)}"] = _chart(
                    layers, ordered(len(layers)), "epoch", f"{title}: {label}", bands=False
                )
    return found


def _chart(curves: Sequence[Curve], looks: Sequence[Style], x_label: str, y_label: str, bands: bool = True) -> Drawing:
    """Curves over 1, 2, 3, ... and a legend; bands of many curves would hide each other."""
    lines = [
        Line(
            curve.label,
            curve.mean,
            look,
            std=curve.std if bands else (),
            marked=x_label != "epoch",
            tip=f"{curve.label}: {curve.mean[-1]:.4g} at the end",
        )
        for curve, look in zip(curves, looks, strict=True)
    ]
    heights = Scale.over(
        mean + k * std for c in curves for mean, std in zip(c.mean, c.std, strict=True) for k in (-bands, bands)
    )
    axes = Axes(WIDTH, HEIGHT, Scale.counting(max(len(curve.mean) for curve in curves)), heights)
    entries, height = drawn_legend([(one.name, one.style) for one in lines], WIDTH - 2 * MARGIN)
    note = f"mean {'and standard deviation ' if bands else ''}over {_seeds(curves)}"
    marks = axes.lines(lines, x_label, y_label, 1)
    marks += [group(entries, at=(MARGIN, HEIGHT)), text((WIDTH - axes.right, 13), note, anchor="end")]
    last = "; ".join(f"{curve.label} {curve.mean[-1]:.4g}" for curve in curves)
    return Drawing(WIDTH, HEIGHT + height + MARGIN / 2, marks, f"{y_label} by {x_label}, {note}. At the end: {last}")


def _seeds(curves: Sequence[Curve]) -> str:
    counts = sorted({curve.n for curve in curves})
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{number} {'seed' if counts == [1] else 'seeds'}"
