"""Charts of an ablation: mean over seeds, with a band of one standard deviation."""

from collections.abc import Sequence

from lsgcli.ablation import curves
from lsgcli.ablation.curves import Curve, Rows
from lsgcli.ablation.plan import safe_name
from lsgcli.report.axes import Axes, Scale, whole_ticks
from lsgcli.report.charts import drawn_legend
from lsgcli.report.colours import Style, ordered, styles
from lsgcli.report.drawing import Drawing, area, dot, group, text

WIDTH, HEIGHT, MARGIN = 640, 340, 12


def charts(rows: Rows) -> dict[str, Drawing]:
    """Charts by file name, without suffix: accuracy and loss by epoch, coverage by layer, and alpha and beta by epoch for each row in
    which they move. Omits what the runs have no values of.

    Args:
        rows: directories of finished runs, as :func:`lsgcli.ablation.curves.finished` finds them.
    """
    split = curves.evaluated_on(rows)
    epochs = {
        "accuracy": (curves.by_epoch(rows, "accuracy"), f"accuracy, {split}"),
        "loss": (curves.by_epoch(rows, "loss"), f"cross-entropy, {split}"),
    }
    found = {name: chart(lines, styles(len(lines)), "epoch", label) for name, (lines, label) in epochs.items() if lines}
    if by_layer := curves.coverage(rows):
        title = "coverage: fraction of u inside v_th +- alpha / 2"
        found["coverage"] = chart(by_layer, styles(len(by_layer)), "layer, from the input", title, markers=True)
    for label, paths in rows.items():
        for measure, title in (("alpha", "width alpha of the surrogate, u"), ("beta", "decay beta")):
            if layers := curves.over_training(paths, measure):
                colours = [Style(colour) for colour in ordered(len(layers))]
                found[f"{measure}-{safe_name(label)}"] = chart(layers, colours, "epoch", f"{title}: {label}", bands=False)
    return found


def chart(
    lines: Sequence[Curve], looks: Sequence[Style], x_label: str, y_label: str, *, bands: bool = True, markers: bool = False
) -> Drawing:
    """Curves over 1, 2, 3, ..., and a legend.

    Args:
        lines: at least one.
        looks: of each.
        bands: also draw the standard deviations; those of many curves would hide each other.
        markers: also mark the points.
    """
    n = max(len(curve.mean) for curve in lines)
    spread = [list(zip(curve.mean, curve.std if bands else [0.0] * len(curve.mean), strict=True)) for curve in lines]
    y = Scale.over(value for pairs in spread for mean, std in pairs for value in (mean - std, mean + std))
    axes = Axes(WIDTH, HEIGHT, Scale(1, n) if n > 1 else Scale(0, 2), y)
    marks = axes.frame([i + 1 for i in whole_ticks(n)], x_label, y_label)
    for pairs, look in zip(spread, looks, strict=True):
        if len(pairs) > 1 and any(std for _, std in pairs):
            upper = [axes.at(x, mean + std) for x, (mean, std) in enumerate(pairs, 1)]
            lower = [axes.at(x, mean - std) for x, (mean, std) in enumerate(pairs, 1)]
            marks.append(area([*upper, *reversed(lower)], look.colour, 0.18))
    for curve, look in zip(lines, looks, strict=True):
        drawn = axes.line(list(enumerate(curve.mean, 1)), look)
        if markers:
            drawn += [dot(axes.at(x, value), look.colour, look.shape) for x, value in enumerate(curve.mean, 1)]
        marks.append(group(drawn, f"{curve.label}: {curve.mean[-1]:.4g} at the end"))
    named = [(curve.label, look) for curve, look in zip(lines, looks, strict=True)]
    entries, height = drawn_legend(named, WIDTH - 2 * MARGIN)
    note = f"mean {'and standard deviation ' if bands else ''}over {_seeds(lines)}"
    marks += [group(entries, at=(MARGIN, HEIGHT)), text((WIDTH - axes.right, 13), note, anchor="end")]
    ends = "; ".join(f"{curve.label} {curve.mean[-1]:.4g}" for curve in lines)
    return Drawing(WIDTH, HEIGHT + height + MARGIN / 2, marks, f"{y_label} by {x_label}, {note}. At the end: {ends}")


def _seeds(lines: Sequence[Curve]) -> str:
    counts = sorted({curve.n for curve in lines})
    number = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{number} {'seed' if counts == [1] else 'seeds'}"
