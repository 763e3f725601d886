"""Gradient flow in a terminal: coverage as a bar and per timestep, and as many measures as fit."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from lsgcli.analysis.measures import MEASURES, present, text
from lsgcli.report.figures import Flow, labels
from lsgcli.report.tables import formatted, letters, problems
from lsgcli.report.terminal import Table

BAR = 6  # characters
STEPS = 12  # characters; more timesteps are averaged in groups
GAP = 2
ROOM = 160  # maximum columns of a line
NAME = 5 + 1 + BAR  # maximum length of a checkpoint's name as column heading
FILLED, HEIGHTS = "▏▎▍▌▋▊▉█", "▁▂▃▄▅▆▇█"


def lines(flows: Sequence[Flow], out: Console) -> list[Table | Text]:
    """One table per record, or one table for all if they have the same layers.

    Args:
        flows: gradient-flow records, each with a ``checkpoint`` if there are several.
        out: output console; its width determines the number of columns.
    """
    names = labels(flows)
    if len({name[:NAME] for name in names}) < len(names):
        names = letters(len(names))
    several = len(flows) > 1
    parts: list[Table | Text] = [
        Text((f"{name} = " if several else "") + _heading(flow)) for flow, name in zip(flows, names, strict=True)
    ]
    if several and len({tuple(layer["name"] for layer in flow["layers"]) for flow in flows}) == 1:
        parts.append(_several(flows, names, out))
    else:
        parts += [_one(flow, out) for flow in flows]
    return parts + [
        Text((f"{name}: " if several else "") + problem, style="red")
        for flow, name in zip(flows, names, strict=True)
        for problem in problems(flow["layers"])
    ]


def _heading(flow: Flow) -> str:
    facts = f"method {flow['method']}, " if flow.get("method") else ""
    path = f"{flow['checkpoint']}: " if flow.get("checkpoint") else ""
    return f"{path}{facts}T={flow['T']}, {flow['batches']} mini-batch{'' if flow['batches'] == 1 else 'es'}, loss {formatted(flow.get('loss'), '.4f')}"


def _one(flow: Flow, out: Console) -> Table:
    """Table of one record, with a column per measure."""
    marks, layers = Marks(out, [flow]), flow["layers"]
    room = min(out.width, ROOM) - sum(one + GAP for one in (_names(flow), NAME, marks.steps, 9))
    known = sorted((key for key in present(layers) if MEASURES[key].rank), key=lambda key: MEASURES[key].rank)
    kept = set()
    for key in known:
        needed = max(map(len, [MEASURES[key].title, *(text(layer, key) for layer in layers)])) + GAP
        if needed <= room:
            kept.add(key)
            room -= needed
    shown = [key for key in MEASURES if key in kept]
    wider = ", or a wider terminal" if out.width < ROOM else ""
    more = f". {len(known) - len(kept)} more measures: --json or --csv{wider}" if len(known) > len(kept) else ""
    table = _table(f"{marks.bars}; {marks.heights}. u in units of v_th; firing rate: spikes per neuron and timestep{more}")
    for title in ("layer", "coverage", "by step"):
        table.add_column(title)
    for key in shown:
        table.add_column(MEASURES[key].title, justify="right")
    table.add_column("verdict")
    for layer in layers:
        cells = [layer["name"], marks.bar(layer), marks.row(layer), *(text(layer, key) for key in shown)]
        table.add_row(*map(Text, cells), Text(layer["verdict"], style="green" if layer["verdict"] == "ok" else "red"))
    return table


def _several(flows: Sequence[Flow], names: Sequence[str], out: Console) -> Table:
    """Table of several records, with coverage, gradient norm and verdict of each, and coverage per timestep if it fits."""
    marks = Marks(out, flows)
    room = (min(out.width, ROOM) - _names(flows[0])) // len(flows) - GAP
    with_bar = room >= NAME + GAP + 8
    with_steps = room >= NAME + GAP + marks.steps + GAP + 8
    table = _table(f"{marks.bars}; {marks.heights}" if with_steps else marks.bars)
    table.add_column("layer")
    for name in names:
        table.add_column(name[: NAME if with_bar else 8])
        if with_steps:
            table.add_column("by step")
        table.add_column(MEASURES["grad_norm"].title, justify="right")
    for layers in zip(*(flow["layers"] for flow in flows), strict=True):
        cells: list[Text] = [Text(layers[0]["name"])]
        for layer in layers:
            ill = layer["verdict"] != "ok"
            own = [
                marks.bar(layer) if with_bar else text(layer, "coverage"),
                *([marks.row(layer)] if with_steps else ()),
                ("!" if ill else "") + text(layer, "grad_norm"),
            ]
            cells += [Text(cell, style="red" if ill else "") for cell in own]
        table.add_row(*cells)
    return table


def _names(flow: Flow) -> int:
    """Width of the column of names."""
    return max(5, *(len(layer["name"]) for layer in flow["layers"]))


def _table(caption: str) -> Table:
    return Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), caption=caption)


class Marks:
    """Bars and rows of characters supported by the output's encoding.

    Args:
        out: output console.
        flows: records whose coverage is shown.
    """

    def __init__(self, out: Console, flows: Sequence[Flow]):
        self.plain = not out.encoding.lower().startswith("utf")
        self.steps = max(len("by step"), min(STEPS, max(flow["T"] for flow in flows)))
        every = [v for flow in flows for layer in flow["layers"] for v in layer["per_step"]["coverage"] if v is not None]
        self.bottom, self.top = min(every, default=0.0), max(every, default=0.0)
        low, high = ("0", "9") if self.plain else (HEIGHTS[0], HEIGHTS[-1])
        self.bars = "coverage: bars from 0 to 1"
        self.heights = f"by step: from {self.bottom:.2f} ({low}) to {self.top:.2f} ({high})"

    def bar(self, layer: dict[str, Any]) -> str:
        """Coverage as a number and a bar of fixed width."""
        value = layer["coverage"]
        if value is None:
            return f"{'-':>5} {'':{BAR}}"
        if self.plain:
            return f"{value:.3f} {'#' * round(BAR * value):{BAR}}"
        whole, rest = divmod(round(8 * BAR * value), 8)
        return f"{value:.3f} {FILLED[-1] * whole + (FILLED[rest - 1] if rest else ''):{BAR}}"

    def row(self, layer: dict[str, Any]) -> str:
        """Coverage per timestep, one character each."""
        values = layer["per_step"]["coverage"]
        if len(values) > STEPS:  # average neighbouring timesteps
            groups = [values[len(values) * k // STEPS : len(values) * (k + 1) // STEPS] for k in range(STEPS)]
            values = [None if None in group else sum(group) / len(group) for group in groups]
        return "".join(" " if value is None else self._character(value) for value in values)

    def _character(self, value: float) -> str:
        share = (value - self.bottom) / (self.top - self.bottom) if self.top > self.bottom else 0.5
        return str(min(9, int(10 * share))) if self.plain else HEIGHTS[min(7, int(8 * share))]
