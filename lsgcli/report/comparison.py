"""Comparison of runs, as a text table and as an HTML page."""

import string
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lsgcli import comparison
from lsgcli.report.tables import NOTHING, aligned

Record = Mapping[str, Any]  # as returned by lsgcli.comparison.compare
Row = tuple[str, list[str]]  # label, and one cell per run
FLOW = "gradient flow: coverage, |dL/dW|"


def names(record: Record) -> list[str]:
    """A letter for each run: A, B, ..., Z, AA, BB, ..."""
    return [string.ascii_uppercase[k % 26] * (k // 26 + 1) for k in range(len(record["runs"]))]


def lines(record: Record, width: int | None) -> list[str]:
    """The table, preceded by the run of each column and followed by verdicts other than ok.

    Args:
        width: width of the terminal, beyond which columns are wrapped into further blocks; None for unlimited.
    """
    letters = names(record)
    legend = [f"{letter} = {run['path']}: {state(run)}" for letter, run in zip(letters, record["runs"], strict=True)]
    parts = {title: rows for title, rows in sections(record).items() if rows}
    cells = [["", *letters], *([f"  {label}", *own] for rows in parts.values() for label, own in rows)]
    table: list[str] = []
    for chosen in _blocks(cells, width):
        head, *body = aligned(cells, [0, *chosen])
        table += ["", head]
        for title, rows in parts.items():
            table += [title, *body[: len(rows)]]
            body = body[len(rows) :]
    ill = [
        f"{letter}: {layer['name']} is {layer['verdict']} ({layer['reason']})"
        for letter, run in zip(letters, record["runs"], strict=True)
        for layer in run["layers"]
        if layer.get("verdict", "ok") != "ok"
    ]
    return [*legend, *table, *([""] if ill else []), *ill]


def _blocks(table: Sequence[Sequence[str]], width: int | None) -> list[list[int]]:
    """Groups of column indices that fit side by side with the first column."""
    widths = [max(map(len, column)) + 2 for column in zip(*table, strict=True)]
    blocks: list[list[int]] = [[]]
    for column in range(1, len(widths)):
        if width is not None and blocks[-1] and sum(widths[k] for k in (0, *blocks[-1], column)) - 2 > width:
            blocks.append([])
        blocks[-1].append(column)
    return blocks


def state(run: Record) -> str:
    """Description of the state of a run."""
    done = f"{run['epochs']} of {run['of']} epochs"
    return {
        "finished": "finished",
        "diverged": f"diverged after {done}: {run['reason']}",
        "running": f"running in another process, {done}",
        "stopped": f"stopped after {done}",
    }[str(run["state"])]


def sections(record: Record) -> dict[str, list[Row]]:
    """The rows of the table, by section title."""
    runs = record["runs"]
    layers = list(dict.fromkeys(layer["name"] for run in runs for layer in run["layers"]))  # in their order
    by_name = [{layer["name"]: layer for layer in run["layers"]} for run in runs]
    return {
        "settings that differ": [
            (name, [NOTHING if value is None else str(value) for value in values])
            for name, values in record["settings"].items()
        ],
        "result": [(title, [cell(run) for run in runs]) for title, cell in RESULT],
        FLOW: [(name, [_flow(own.get(name)) for own in by_name]) for name in layers],
    }


def _number(value: float | None, form: str = ".4f") -> str:
    return NOTHING if value is None else format(value, form)


def _best(run: Record) -> str:
    return NOTHING if run["best_epoch"] is None else f"{run['best_epoch'] + 1} by {run['best_chosen_on']}"


RESULT: tuple[tuple[str, Callable[[Record], str]], ...] = (
    ("test accuracy", lambda run: _number(run["accuracy"])),
    ("  of last epoch", lambda run: _number(run["test_accuracy_last"])),
    ("  of best epoch", lambda run: _number(run["test_accuracy_best"])),
    ("best epoch", _best),
    ("train loss", lambda run: _number(run["train_loss"])),
    ("epochs", lambda run: f"{run['epochs']}/{run['of']}" + ("" if run["state"] == "finished" else f" {run['state']}")),
    ("training, seconds", lambda run: _number(run["seconds"], ".1f")),
)


def _flow(layer: Record | None) -> str:
    if layer is None:
        return NOTHING
    mark = "" if layer.get("verdict", "ok") == "ok" else " !"
    return f"{_number(layer['coverage'], '.3f')} {_number(layer['grad_norm'], '.2e')}{mark}"


def page(record: Record) -> str:
    """The comparison as a self-contained HTML page, with training curves and gradient-flow figures."""
    from lsgcli.analysis.measures import history
    from lsgcli.report import flow_page
    from lsgcli.report.charts import line_chart
    from lsgcli.report.page import page as document
    from lsgcli.report.page import scrolling
    from lsgcli.rundir import LAST

    letters, runs = names(record), record["runs"]
    flows, shown = [], []
    for letter, run in zip(letters, runs, strict=True):
        path = Path(run["path"])
        if (flow := comparison.full_flow(path, run["state"])) is not None:
            flows.append({**flow, "checkpoint": str(path), "method": run["method"], "history": history(path / LAST)})
            shown.append(letter)
    epochs = {letter: comparison.metrics(Path(run["path"])) for letter, run in zip(letters, runs, strict=True)}

    def over_time(measure: str) -> dict[str, list[float | None]]:
        return {
            letter: [line.get(f"val_{measure}", line.get(f"test_{measure}")) for line in own] for letter, own in epochs.items()
        }

    charts = "".join(
        f"<figure><h2>{title}</h2>{line_chart(over_time(measure), x_label='epoch', y_label=measure, x_first=1)}"
        "<figcaption>On the validation split, or the test set if there is none.</figcaption></figure>"
        for title, measure in (("Accuracy", "accuracy"), ("Loss", "loss"))
    )
    title = f"Comparison of {len(runs)} runs"
    legend = "".join(
        f"<dt>{letter}</dt><dd>{escape(str(run['path']))}: {escape(state(run))}</dd>"
        for letter, run in zip(letters, runs, strict=True)
    )
    body = (
        f'<header><h1>{title}</h1><dl>{legend}</dl></header>{scrolling(_html(record), title)}<div class="pair">{charts}</div>'
    )
    if flows:
        body += f"<h2>Gradient flow</h2>{flow_page.introduction(flows)}{flow_page.sections(flows, shown)}"
    return document(title, body, {"comparison": dict(record), "flows": flows}, "flow.js")


def _html(record: Record) -> str:
    letters = names(record)
    head = "".join(f'<th scope="col">{letter}</th>' for letter in letters)
    body = ""
    for title, rows in sections(record).items():
        if rows:
            body += f'<tr><th scope="rowgroup" colspan="{len(letters) + 1}"><b>{escape(title)}</b></th></tr>'
        for label, cells in rows:
            body += f'<tr><th scope="row">{escape(label)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'
    return f'<table><thead><tr><th scope="col">run</th>{head}</tr></thead><tbody>{body}</tbody></table>'
