"""Comparison of runs, as text tables and as an HTML page."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsgcli.errors import counted
from lsgcli.report.tables import NOTHING, letters, problems
from lsgcli.report.terminal import table
from lsgcli.runs import compare as comparison

if TYPE_CHECKING:
    from lsgcli.report.figures import View

MANY = 1 << 10  # columns, all aligned at the left
Record = Mapping[str, Any]  # as returned by lsgcli.runs.compare.compare
Rows = list[tuple[str, list[str]]]  # label, and one cell per group of runs


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
    columns = _columns(record).values()
    settings: Rows = []
    for name, values in record["settings"].items():
        texts = [NOTHING if value is None else str(value) for value in values]
        settings.append((name, [_cell([texts[k] for k in members]) for members in columns]))
    result: Rows = []
    for title, value, form in RESULT:
        numbers = list(map(value, record["runs"]))
        cells = [_cell([numbers[k] for k in members], form) for members in columns]
        if set(cells) != {NOTHING}:
            result.append((title, cells))
    flow: dict[str, list[list[Record]]] = {}  # name -> the layers of this name in each column
    for column, members in enumerate(columns):
        for k in members:
            for layer in record["runs"][k]["layers"]:
                flow.setdefault(layer["name"], [[] for _ in columns])[column].append(layer)
    found = {
        "settings that differ": settings,
        "result": result,
        "gradient flow: coverage, |dL/dW|": [(name, list(map(_flow, layers))) for name, layers in flow.items()],
    }
    return {title: rows for title, rows in found.items() if rows}


def _cell(values: Sequence[float | str | None], form: str = "") -> str:
    """Mean and standard deviation of numbers, or the different texts, of the runs of a group; None is no value."""
    known = [value for value in values if value is not None]
    numbers = [value for value in known if not isinstance(value, str)]
    if not numbers:
        return ", ".join(dict.fromkeys(map(str, known))) or NOTHING
    spread = f" +- {statistics.stdev(numbers):{form}} (n {len(numbers)})" if len(numbers) > 1 else ""
    return f"{statistics.fmean(numbers):{form}}{spread}"


# Title, value of a run, and format of numbers.
RESULT: tuple[tuple[str, Callable[[Record], float | str | None], str], ...] = (
    ("precision", lambda run: run["precision"], ""),
    ("test accuracy", lambda run: run["accuracy"], ".4f"),
    ("  in fp32", lambda run: run["accuracy_fp32"], ".4f"),
    ("  of last epoch", lambda run: run["test_accuracy_last"], ".4f"),
    ("  of best epoch", lambda run: run["test_accuracy_best"], ".4f"),
    (
        "best epoch",
        lambda run: None if run["best_epoch"] is None else f"{run['best_epoch'] + 1} by {run['best_chosen_on']}",
        "",
    ),
    ("val accuracy", lambda run: run.get("val_accuracy"), ".4f"),
    ("  of best epoch", lambda run: run["best_val_accuracy"], ".4f"),
    ("train loss", lambda run: run["train_loss"], ".4f"),
    ("epochs", lambda run: f"{run['epochs']}/{run['of']}" + ("" if run["state"] == "finished" else f" {run['state']}"), ""),
    ("training, seconds", lambda run: run["seconds"], ".1f"),
)


def _flow(layers: Sequence[Record]) -> str:
    """Means of coverage and gradient norm of a layer in the runs of a group."""
    if not layers:
        return NOTHING
    mark = "" if all(layer.get("verdict", "ok") in ("ok", "network") for layer in layers) else " !"
    means = []
    for key, form in (("coverage", ".3f"), ("grad_norm", ".2e")):
        known = [layer[key] for layer in layers if layer.get(key) is not None]
        means.append(format(statistics.fmean(known), form) if known else NOTHING)
    return f"{' '.join(means)}{mark}"


def page(record: Record) -> str:
    """The comparison as a self-contained HTML page, with training curves and gradient-flow figures."""
    from lsgcli.report import page
    from lsgcli.store.flows import history
    from lsgcli.store.rundir import LAST, read_metrics

    runs = _runs(record)
    flows = {
        letter: {**flow, "checkpoint": run["path"], "method": run["method"], "history": history(Path(run["path"]) / LAST)}
        for letter, run in runs
        if (flow := comparison.final_flow(Path(run["path"]), run["state"])) is not None
    }
    epochs = [read_metrics(Path(run["path"])) for run in record["runs"]]
    charts = [_chart(measure, record, epochs) for measure in ("accuracy", "loss")]
    found = list(flows.values())
    return page.document(
        "comparison.html",
        {"comparison": dict(record), "flows": found},
        title=f"Comparison of {counted(len(runs), 'run')}",
        runs=[(name, run, _state(run)) for name, run in runs],
        columns=list(_columns(record)),
        sections=sections(record),
        charts=charts,
        **page.gradient_flow(found, list(flows)),
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
