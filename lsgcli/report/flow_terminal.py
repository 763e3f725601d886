"""Gradient flow in a terminal: coverage as a bar and per timestep, and as many measures as fit."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from lsgcli.analysis.measures import present, text
from lsgcli.report.figures import Flow
from lsgcli.report.tables import formatted, problems
from lsgcli.report.terminal import Table, fitted

BAR = 6  # characters
STEPS = 12  # characters; more timesteps are averaged in groups
ROOM = 160  # maximum columns of a line
FILLED, HEIGHTS = "▏▎▍▌▋▊▉█", "▁▂▃▄▅▆▇█"


def lines(flows: Sequence[Flow], out: Console) -> list[Table | Text]:
    """A heading and a table for each record, and the verdicts of layers that are not ok.

    Args:
        flows: gradient-flow records, each with a ``checkpoint`` if there are several.
        out: output console; its width determines the number of columns.
    """
    parts: list[Table | Text] = []
    for flow in flows:
        path = f"{flow['checkpoint']}: " if flow.get("checkpoint") else ""
        method = f"method {flow['method']}, " if flow.get("method") else ""
        loss = formatted(flow.get("loss"), ".4f")
        parts += [Text(f"{path}{method}T={flow['T']}, mini-batches {flow['batches']}, loss {loss}"), _table(flow, out.width)]
        parts += [Text(problem, style="red") for problem in problems(flow["layers"])]
    return parts


def _table(flow: Flow, width: int) -> Table:
    """A row for each layer, and a column for each measure that fits."""
    layers = flow["layers"]
    every = [v for layer in layers for v in layer["per_step"]["coverage"] if v is not None]
    span = min(every, default=0.0), max(every, default=0.0)
    ranked = {key: measure for key, measure in present(layers).items() if measure.rank}
    rows = []
    for layer in layers:
        cells = [layer["name"], _bar(layer["coverage"]), _row(layer["per_step"]["coverage"], span)]
        rows.append([*cells, *(text(layer, key) for key in ranked), layer["verdict"]])
    heads = ["layer", "coverage", "by step", *(measure.title for measure in ranked.values()), "verdict"]
    order = [measure.title for measure in sorted(ranked.values(), key=lambda measure: -measure.rank)]
    table, left_out = fitted(heads, rows, min(width, ROOM), order, left=3)
    table.caption = f"coverage: bars from 0 to 1; by step: from {span[0]:.2f} ({HEIGHTS[0]}) to {span[1]:.2f} ({HEIGHTS[-1]}). u in units of v_th"
    if left_out:
        wider = ", or a wider terminal" if width < ROOM else ""
        table.caption += f". {len(left_out)} more measures: --json or --csv{wider}"
    return table


def _bar(value: float | None) -> str:
    """Coverage as a number and a bar."""
    if value is None:
        return "    -"
    whole, rest = divmod(round(8 * BAR * value), 8)
    return f"{value:.3f} {FILLED[-1] * whole + (FILLED[rest - 1] if rest else '')}"


def _row(values: Sequence[float | None], span: tuple[float, float]) -> str:
    """Coverage per timestep, one character each."""
    if len(values) > STEPS:  # average neighbouring timesteps
        groups = [values[len(values) * k // STEPS : len(values) * (k + 1) // STEPS] for k in range(STEPS)]
        values = [None if None in group else sum(group) / len(group) for group in groups]  # type: ignore[arg-type]
    row = ""
    for value in values:
        share = 0.5 if value is None or span[1] == span[0] else (value - span[0]) / (span[1] - span[0])
        row += " " if value is None else HEIGHTS[min(7, int(8 * share))]
    return row
