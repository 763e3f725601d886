"""Gradient flow in a terminal: coverage as a bar and per timestep, and as many measures as fit."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from lsgcli.analysis.measures import MEASURES, present, text
from lsgcli.report.figures import Flow
from lsgcli.report.tables import formatted, problems
from lsgcli.report.terminal import Table

BAR = 6  # characters
STEPS = 12  # characters; more timesteps are averaged in groups
GAP = 2
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
        parts += [Text(f"{path}{method}T={flow['T']}, mini-batches {flow['batches']}, loss {loss}"), _table(flow, out)]
        parts += [Text(problem, style="red") for problem in problems(flow["layers"])]
    return parts


def _table(flow: Flow, out: Console) -> Table:
    """A row for each layer, and a column for each measure that fits."""
    layers = flow["layers"]
    every = [v for layer in layers for v in layer["per_step"]["coverage"] if v is not None]
    span = min(every, default=0.0), max(every, default=0.0)
    names = max(5, *(len(layer["name"]) for layer in layers))
    room = min(out.width, ROOM) - names - 5 - 1 - BAR - max(len("by step"), min(STEPS, flow["T"])) - 9 - 4 * GAP
    known = sorted((key for key in present(layers) if MEASURES[key].rank), key=lambda key: MEASURES[key].rank)
    kept = set()
    for key in known:
        needed = max(map(len, [MEASURES[key].title, *(text(layer, key) for layer in layers)])) + GAP
        if needed <= room:
            kept.add(key)
            room -= needed
    shown = [key for key in MEASURES if key in kept]
    caption = f"coverage: bars from 0 to 1; by step: from {span[0]:.2f} ({HEIGHTS[0]}) to {span[1]:.2f} ({HEIGHTS[-1]}). u in units of v_th"
    if len(known) > len(kept):
        wider = ", or a wider terminal" if out.width < ROOM else ""
        caption += f". {len(known) - len(kept)} more measures: --json or --csv{wider}"
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), caption=caption)
    for title in ("layer", "coverage", "by step"):
        table.add_column(title)
    for key in shown:
        table.add_column(MEASURES[key].title, justify="right")
    table.add_column("verdict")
    for layer in layers:
        cells = [layer["name"], _bar(layer["coverage"]), _row(layer["per_step"]["coverage"], span)]
        verdict = Text(layer["verdict"], style="green" if layer["verdict"] == "ok" else "red")
        table.add_row(*cells, *(text(layer, key) for key in shown), verdict)
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
