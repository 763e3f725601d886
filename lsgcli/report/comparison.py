"""Comparison of runs, as text tables and as an HTML page."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsgcli.errors import counted
from lsgcli.report.tables import NOTHING, letters, problems
from lsgcli.report.terminal import table
from lsgcli.runs.compare import final_flow

if TYPE_CHECKING:
    from lsgcli.report.figures import View

MANY = 1 << 10  # columns, all aligned at the left
Record = Mapping[str, Any]  # as returned by lsgcli.runs.compare.compare
Rows = list[tuple[str, list[str]]]  # label, and one cell per group of runs
Columns = Sequence[Sequence[int]]  # indices of the runs of each
SECONDS = "training, seconds"


def parts(record: Record) -> list[Any]:
    """The runs of each column, a table for each section, and verdicts other than ok."""
    runs = _runs(record)
    shown: list[Any] = [f"{name} = {run['path']}: {_state(run)}" for name, run in runs]
    for title, rows in sections(record).items():
        shown += ["", table(["", *_columns(record)], [[label, *own] for label, own in rows], title, left=MANY)]
    for name, run in runs:
        shown += [f"{name}: {problem}" for problem in problems(run["layers"])]
    return shown


def _runs(record: Record) -> list[tuple[str, Record]]:
    """The runs, each with the letter of its column, numbered if the column has several."""
    named = []
    for letter, members in _columns(record).items():
        for number, k in enumerate(members, 1):
            named.append((letter if len(members) == 1 else f"{letter}{number}", record["runs"][k]))
    return named


def _columns(record: Record) -> dict[str, list[int]]:
    """The indices of the runs of each column, by its letter."""
    groups = [group["runs"] for group in record["groups"]]
    return dict(zip(letters(len(groups)), groups, strict=True))


def _state(run: Record) -> str:
    done = f"{run['epochs']} of {run['of']} epochs"
    return {
        "finished": "finished",
        "diverged": f"diverged after {done}: {run['reason']}",
        "running": f"running in another process, {done}",
        "stopped": f"stopped after {done}",
    }[str(run["state"])]


def sections(record: Record) -> dict[str, Rows]:
    """The rows of the table, with a cell for each group of runs, by section title; empty sections are left out."""
    columns = list(_columns(record).values())
    found = {
        "settings that differ": _settings(record, columns),
        "result": _results(record, columns),
        "gradient flow: coverage, |dL/dW|": _layers(record, columns),
    }
    return {title: rows for title, rows in found.items() if rows}


def _settings(record: Record, columns: Columns) -> Rows:
    rows = []
    for name, values in record["settings"].items():
        texts = [NOTHING if value is None else str(value) for value in values]
        rows.append((name, [_cell([texts[k] for k in members]) for members in columns]))
    return rows


def _results(record: Record, columns: Columns) -> Rows:
    rows = []
    for of_title in zip(*map(_result, record["runs"]), strict=True):
        title, values = of_title[0][0], [value for _, value in of_title]
        form = ".1f" if title == SECONDS else ".4f"
        cells = [_cell([values[k] for k in members], form) for members in columns]
        if set(cells) != {NOTHING}:
            rows.append((title, cells))
    return rows


def _layers(record: Record, columns: Columns) -> Rows:
    """A row for each name of a layer, which not all runs may have."""
    found: dict[str, list[list[Record]]] = {}  # name -> the layers of this name in each column
    for column, members in enumerate(columns):
        for k in members:
            for layer in record["runs"][k]["layers"]:
                found.setdefault(layer["name"], [[] for _ in columns])[column].append(layer)
    return [(name, [_flow(layers) for layers in cells]) for name, cells in found.items()]


def _cell(values: Sequence[float | str | None], form: str = "") -> str:
    """Mean and standard deviation of numbers, or the different texts, of the runs of a group; None is no value."""
    known = [value for value in values if value is not None]
    numbers = [value for value in known if not isinstance(value, str)]
    if not numbers:
        return ", ".join(dict.fromkeys(map(str, known))) or NOTHING
    mean = format(statistics.fmean(numbers), form)
    if len(numbers) == 1:
        return mean
    return f"{mean} +- {statistics.stdev(numbers):{form}} (n {len(numbers)})"


def _result(run: Record) -> list[tuple[str, float | str | None]]:
    """Title and value of each result of a run; one with an indented title belongs to the one above."""
    best = None
    if run["best_epoch"] is not None:
        best = f"{run['best_epoch'] + 1} by {run['best_chosen_on']}"
    epochs = f"{run['epochs']}/{run['of']}"
    if run["state"] != "finished":
        epochs += f" {run['state']}"
    return [
        ("precision", run["precision"]),
        ("test accuracy", run["accuracy"]),
        ("  in fp32", run["accuracy_fp32"]),
        ("  of last epoch", run["test_accuracy_last"]),
        ("  of best epoch", run["test_accuracy_best"]),
        ("best epoch", best),
        ("val accuracy", run.get("val_accuracy")),
        ("  of best epoch", run["best_val_accuracy"]),
        ("train loss", run["train_loss"]),
        ("epochs", epochs),
        (SECONDS, run["seconds"]),
    ]


def _flow(layers: Sequence[Record]) -> str:
    """Means of coverage and gradient norm of a layer in the runs of a group, with a mark if one of the layers is not ok."""
    if not layers:
        return NOTHING
    words = []
    for key, form in (("coverage", ".3f"), ("grad_norm", ".2e")):
        known = [layer[key] for layer in layers if layer.get(key) is not None]
        words.append(format(statistics.fmean(known), form) if known else NOTHING)
    if any(layer.get("verdict", "ok") not in ("ok", "network") for layer in layers):
        words.append("!")
    return " ".join(words)


def page(record: Record) -> str:
    """The comparison as a self-contained HTML page, with training curves and gradient-flow figures."""
    from lsgcli.report.page import document, gradient_flow
    from lsgcli.store.flows import history
    from lsgcli.store.rundir import LAST, read_metrics

    runs = _runs(record)
    flows = {}
    for letter, run in runs:
        path = Path(run["path"])
        flow = final_flow(path, run["state"])
        if flow is not None:
            flows[letter] = {**flow, "checkpoint": run["path"], "method": run["method"], "history": history(path / LAST)}
    epochs = [read_metrics(Path(run["path"])) for run in record["runs"]]
    charts = [_chart(measure, record, epochs) for measure in ("accuracy", "loss")]
    found = list(flows.values())
    return document(
        "comparison.html",
        {"comparison": dict(record), "flows": found},
        title=f"Comparison of {counted(len(runs), 'run')}",
        runs=[(name, run, _state(run)) for name, run in runs],
        columns=list(_columns(record)),
        sections=sections(record),
        charts=charts,
        **gradient_flow(found, list(flows)),
    )


def _chart(measure: str, record: Record, epochs: Sequence[Sequence[Record]]) -> "View":
    """Accuracy or loss over the epochs: a line per group, the mean over its runs, with their standard deviation as a band."""
    from lsgcli.report.charts import over_runs
    from lsgcli.report.drawing import Style, styles
    from lsgcli.report.figures import lines_view

    columns, lines = _columns(record), []
    for (letter, members), style in zip(columns.items(), styles(len(columns)), strict=True):
        curves = [[line.get(f"val_{measure}", line.get(f"test_{measure}")) for line in epochs[k]] for k in members]
        lines.append(over_runs(letter, Style(style.colour), curves))
    where = "On the validation split, or the test part if there is none"
    several = any(line.has_band for line in lines)
    caption = f"{where}; mean and standard deviation of the seeds." if several else f"{where}."
    return lines_view(measure.capitalize(), lines, "epoch", measure, caption)
