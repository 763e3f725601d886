"""An ablation's runs as charts: mean over seeds, in a band of one standard deviation on either side."""

from collections.abc import Sequence

from lsgcli.ablation import curves
from lsgcli.ablation.curves import Curve, Rows
from lsgcli.ablation.plan import safe_name
from lsgcli.report.axes import SIZE, Axes, Scale, whole_ticks
from lsgcli.report.colours import Style, ordered, styles
from lsgcli.report.drawing import Drawing
from lsgcli.report.marks import Area, Dot, Group, Mark, Text
from lsgcli.report.svg import drawn_legend

WIDTH, HEIGHT, MARGIN = 640, 340, 12


def charts(rows: Rows) -> dict[str, Drawing]:
    """Charts by file name, without suffix: accuracy and loss by epoch, coverage by layer, and for each row alpha and beta by epoch
    where they move. What there is nothing of is left out.

    Args:
        rows: directories of finished runs, as :func:`lsgcli.ablation.curves.finished` finds them.
    """
    split = curves.evaluated_on(rows)
    epochs = {
        "accuracy": (curves.accuracy(rows), f"accuracy, {split}"),
        "loss": (curves.loss(rows), f"cross-entropy, {split}"),
    }
    found = {name: chart(lines, styles(len(lines)), "epoch", label) for name, (lines, label) in epochs.items() if lines}
    if by_layer := curves.coverage(rows):
        title = "coverage: share of u inside v_th +- alpha / 2"
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
        bands: draw the standard deviations, too; of many curves they would hide each other.
        markers: mark the points, too.
    """
    n = max(len(curve.mean) for curve in lines)
    edges = [_edges(curve) if bands else (curve.mean, curve.mean) for curve in lines]
    y = Scale.over(value for pair in edges for side in pair for value in side)
    axes = Axes(WIDTH, HEIGHT, Scale(1, n) if n > 1 else Scale(0, 2), y)
    marks = axes.frame([i + 1 for i in whole_ticks(n)], x_label, y_label)
    for (low, high), look in zip(edges, looks, strict=True):
        marks += _band(axes, low, high, look)
    for curve, look in zip(lines, looks, strict=True):
        drawn = axes.line(list(enumerate(curve.mean, 1)), look)
        if markers:
            drawn += [Dot(*axes.at(x, value), look.colour, look.shape or "circle") for x, value in enumerate(curve.mean, 1)]
        marks.append(Group(drawn, f"{curve.label}: {curve.mean[-1]:.4g} at the end"))
    named = [(curve.label, look) for curve, look in zip(lines, looks, strict=True)]
    entries, height = drawn_legend(named, WIDTH - 2 * MARGIN)
    note = f"mean {'and standard deviation ' if bands else ''}over {_seeds(lines)}"
    marks += [Group(entries, dx=MARGIN, dy=HEIGHT), Text(WIDTH - axes.right, 13, note, size=SIZE, anchor="end")]
    told = "; ".join(f"{curve.label} {curve.mean[-1]:.4g}" for curve in lines)
    return Drawing(WIDTH, HEIGHT + height + MARGIN / 2, marks, f"{y_label} by {x_label}, {note}. At the end: {told}")


def _edges(curve: Curve) -> tuple[list[float], list[float]]:
    pairs = list(zip(curve.mean, curve.std, strict=True))
    return [m - s for m, s in pairs], [m + s for m, s in pairs]


def _band(axes: Axes, low: Sequence[float], high: Sequence[float], look: Style) -> list[Mark]:
    there = [axes.at(x, value) for x, value in enumerate(high, 1)]
    back = [axes.at(x, value) for x, value in enumerate(low, 1)]
    return [Area([*there, *reversed(back)], look.colour, 0.18)] if low != high and len(low) > 1 else []


def _seeds(lines: Sequence[Curve]) -> str:
    counts = sorted({curve.n for curve in lines})
    told = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{told} {'seed' if counts == [1] else 'seeds'}"
