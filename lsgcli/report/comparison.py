"""Comparison of runs, as a text table and as an HTML page."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lsgcli.errors import counted
from lsgcli.report.tables import NOTHING, aligned, letters, problems
from lsgcli.runs import compare as comparison

Record = Mapping[str, Any]  # as returned by lsgcli.runs.compare.compare
Rows = list[tuple[str, list[str]]]  # label, and one cell per run


def lines(record: Record, width: int) -> list[str]:
    """The table, preceded by the run of each column and followed by verdicts other than ok.

    Args:
        width: width of the output, beyond which columns are wrapped into further blocks.
    """
    runs, parts = _runs(record), sections(record)
    cells = [["", *(letter for letter, _ in runs)]]
    cells += [[f"  {label}", *own] for rows in parts.values() for label, own in rows]
    table: list[str] = []
    for chosen in _blocks(cells, width):
        head, *body = aligned([[line[k] for k in (0, *chosen)] for line in cells])
        table += ["", head]
        for title, rows in parts.items():
            table += [title, *body[: len(rows)]]
            body = body[len(rows) :]
    ill = [f"{letter}: {problem}" for letter, run in runs for _, problem in problems(run["layers"])]
    return [*(f"{letter} = {run['path']}: {_state(run)}" for letter, run in runs), *table, *([""] if ill else []), *ill]


def _runs(record: Record) -> list[tuple[str, Record]]:
    """The runs, each with the letter of its column."""
    return list(zip(letters(len(record["runs"])), record["runs"], strict=True))


def _blocks(table: Sequence[Sequence[str]], width: int) -> list[list[int]]:
    """Groups of column indices that fit side by side with the first column."""
    widths = [max(map(len, column)) + 2 for column in zip(*table, strict=True)]
    blocks: list[list[int]] = [[]]
    for column in range(1, len(widths)):
        if blocks[-1] and sum(widths[k] for k in (0, *blocks[-1], column)) - 2 > width:
            blocks.append([])
        blocks[-1].append(column)
    return blocks


def _state(run: Record) -> str:
    done = f"{run['epochs']} of {run['of']} epochs"
    return {
        "finished": "finished",
        "diverged": f"diverged after {done}: {run['reason']}",
        "running": f"running in another process, {done}",
        "stopped": f"stopped after {done}",
    }[str(run["state"])]


def sections(record: Record) -> dict[str, Rows]:
    """The rows of the table, by section title; empty sections are left out."""
    by_name = [{layer["name"]: layer for layer in run["layers"]} for run in record["runs"]]
    found: dict[str, Rows] = {
        "settings that differ": [
            (name, [NOTHING if value is None else str(value) for value in values])
            for name, values in record["settings"].items()
        ],
        "result": [
            (title, cells)
            for title, cells in ((title, [cell(run) for run in record["runs"]]) for title, cell in RESULT)
            if any(cell != NOTHING for cell in cells)
        ],
        "gradient flow: coverage, |dL/dW|": [
            (name, [_flow(own.get(name)) for own in by_name]) for name in dict.fromkeys(name for own in by_name for name in own)
        ],
    }
    return {title: rows for title, rows in found.items() if rows}


def _number(value: float | None, form: str = ".4f") -> str:
    return NOTHING if value is None else format(value, form)


RESULT: tuple[tuple[str, Callable[[Record], str]], ...] = (
    ("test accuracy", lambda run: _number(run["accuracy"])),
    ("  of last epoch", lambda run: _number(run["test_accuracy_last"])),
    ("  of best epoch", lambda run: _number(run["test_accuracy_best"])),
    ("best epoch", lambda run: NOTHING if run["best_epoch"] is None else f"{run['best_epoch'] + 1} by {run['best_chosen_on']}"),
    ("val accuracy", lambda run: _number(run.get("val_accuracy"))),
    ("  of best epoch", lambda run: _number(run["best_val_accuracy"])),
    ("train loss", lambda run: _number(run["train_loss"])),
    ("epochs", lambda run: f"{run['epochs']}/{run['of']}" + ("" if run["state"] == "finished" else f" {run['state']}")),
    ("training, seconds", lambda run: _number(run["seconds"], ".1f")),
)


def _flow(layer: Record | None) -> str:
    if layer is None:
        return NOTHING
    mark = "" if layer.get("verdict", "ok") == "ok" else " !"
    return f"{_number(layer.get('coverage'), '.3f')} {_number(layer.get('grad_norm'), '.2e')}{mark}"


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
    epochs = {letter: read_metrics(Path(run["path"])) for letter, run in runs}
    charts = [
        page.by_epoch(
            measure.capitalize(),
            {run: [line.get(f"val_{measure}", line.get(f"test_{measure}")) for line in own] for run, own in epochs.items()},
            measure,
            "On the validation split, or the test set if there is none.",
        )
        for measure in ("accuracy", "loss")
    ]
    found = list(flows.values())
    return page.document(
        "comparison.html",
        {"comparison": dict(record), "flows": found},
        title=f"Comparison of {counted(len(runs), 'run')}",
        runs=[(letter, run, _state(run)) for letter, run in runs],
        sections=sections(record),
        charts=charts,
        **page.gradient_flow(found, list(flows)),
    )
