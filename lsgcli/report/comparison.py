"""Comparison of runs, as text tables and as an HTML page, and charts of an ablation."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsgcli.analysis.measures import MEASURES
from lsgcli.errors import ConfigError, counted, log
from lsgcli.report.charts import Values
from lsgcli.report.drawing import SUFFIXES, ordered, save, save_as
from lsgcli.report.figures import EVALUATED, View, curves, evaluated, moves, sheet
from lsgcli.report.tables import NOTHING, letters, problems
from lsgcli.report.terminal import table
from lsgcli.runs.compare import final_flow
from lsgcli.store import flows
from lsgcli.store.rundir import LAST, read_metrics
from lsgcli.sweeps.plan import safe_name

if TYPE_CHECKING:
    from lsgcli.sweeps.collect import Collection

MANY = 1 << 10  # columns, all aligned at the left
MOST = 12  # runs whose gradient flow a page shows, up to half a megabyte each
Record = Mapping[str, Any]  # as returned by lsgcli.runs.compare.compare
Rows = list[tuple[str, list[str]]]  # label, and one cell per group of runs
Finished = Mapping[str, Sequence[Path]]  # label of a row of an ablation -> directories of its finished runs
STATES = {
    "finished": "finished",
    "running": "running in another process, {epochs} of {of} epochs",
    "stopped": "stopped after {epochs} of {of} epochs",
    "diverged": "diverged after {epochs} of {of} epochs: {reason}",
}
RESULTS = (  # title, key of the value of a run, and its format; one with an indented title belongs to the one above
    ("precision", "precision", ""),
    ("test accuracy", "accuracy", ".4f"),
    ("  in fp32", "accuracy_fp32", ".4f"),
    ("  of last epoch", "test_accuracy_last", ".4f"),
    ("  of best epoch", "test_accuracy_best", ".4f"),
    ("best epoch", "best", ""),
    ("val accuracy", "val_accuracy", ".4f"),
    ("  of best epoch", "best_val_accuracy", ".4f"),
    ("train loss", "train_loss", ".4f"),
    ("epochs", "done", ""),
    ("training, seconds", "seconds", ".1f"),
)


def parts(record: Record) -> list[Any]:
    """The runs of each column, a table for each section, and verdicts other than ok."""
    runs = _runs(record)
    shown: list[Any] = [f"{name} = {run['path']}: {_state(run)}" for name, run in runs]
    for title, rows in sections(record).items():
        shown += ["", table(["", *_columns(record)], [[label, *cells] for label, cells in rows], title, left=MANY)]
    for name, run in runs:
        shown += [f"{name}: {problem}" for problem in problems(run["layers"])]
    return shown


def _columns(record: Record) -> dict[str, list[int]]:
    """The indices of the runs of each column, by its letter."""
    groups = [group["runs"] for group in record["groups"]]
    return dict(zip(letters(len(groups)), groups, strict=True))


def _runs(record: Record) -> list[tuple[str, Record]]:
    """The runs, each with the letter of its column, numbered if the column has several."""
    named = []
    for letter, members in _columns(record).items():
        for number, k in enumerate(members, 1):
            named.append((letter if len(members) == 1 else f"{letter}{number}", record["runs"][k]))
    return named


def _state(run: Record) -> str:
    return STATES[run["state"]].format(**run)


def sections(record: Record) -> dict[str, Rows]:
    """The rows of the table, with a cell for each group of runs, by section title; empty sections are left out."""
    columns = list(_columns(record).values())
    runs = record["runs"]
    settings = Rows()
    results = Rows()
    layers = Rows()
    for name, values in record["settings"].items():
        texts = [None if value is None else str(value) for value in values]
        settings.append((name, [_cell([texts[k] for k in members]) for members in columns]))
    told = [{**run, **_told(run)} for run in runs]
    for title, key, form in RESULTS:
        cells = [_cell([told[k].get(key) for k in members], form) for members in columns]
        if set(cells) != {NOTHING}:
            results.append((title, cells))
    for name in dict.fromkeys(layer["name"] for run in runs for layer in run["layers"]):  # which not all runs may have
        cells = []
        for members in columns:
            cells.append(_flow([layer for k in members for layer in runs[k]["layers"] if layer["name"] == name]))
        layers.append((name, cells))
    found = {"settings that differ": settings, "result": results, "gradient flow: coverage, |dL/dW|": layers}
    return {title: rows for title, rows in found.items() if rows}


def _told(run: Record) -> dict[str, str | None]:
    """Texts of results."""
    epochs = f"{run['epochs']}/{run['of']}"
    best = None if run["best_epoch"] is None else f"{run['best_epoch'] + 1} by {run['best_chosen_on']}"
    return {"best": best, "done": epochs if run["state"] == "finished" else f"{epochs} {run['state']}"}


def _cell(values: Sequence[Any], form: str = "") -> str:
    """Mean and standard deviation of numbers, or the different texts, of the runs of a group; None is no value."""
    known = [value for value in values if value is not None]
    if not known or isinstance(known[0], str):
        return ", ".join(dict.fromkeys(known)) or NOTHING
    mean = format(statistics.fmean(known), form)
    return mean if len(known) == 1 else f"{mean} +- {statistics.stdev(known):{form}} (n {len(known)})"


def _flow(layers: Sequence[Record]) -> str:
    """Means of coverage and gradient norm of a layer in the runs of a group, with a mark if one of the layers is not ok."""
    words = []
    for key, form in (("coverage", ".3f"), ("grad_norm", ".2e")) if layers else ():
        known = [layer[key] for layer in layers if layer.get(key) is not None]
        words.append(format(statistics.fmean(known), form) if known else NOTHING)
    if any(layer.get("verdict", "ok") not in ("ok", "network") for layer in layers):
        words.append("!")
    return " ".join(words) or NOTHING


def page(record: Record) -> str:
    """The comparison as a self-contained HTML page, with training curves and gradient-flow figures."""
    from lsgcli.report.page import document, gradient_flow

    runs = _runs(record)
    found = _flows(record)
    epochs = [read_metrics(Path(run["path"])) for run in record["runs"]]
    charts = []
    for measure in ("accuracy", "loss"):
        groups = {letter: [evaluated(epochs[k], measure) for k in members] for letter, members in _columns(record).items()}
        charts.append(curves(measure.capitalize(), groups, note=EVALUATED))
    measured = list(found.values())
    of = f"Of {', '.join(found)}, {len(found)} of {len(runs)} runs; each run's own report.html has it."
    return document(
        "comparison.html",
        {"comparison": dict(record), "flows": measured},
        title=f"Comparison of {counted(len(runs), 'run')}",
        runs=[(name, run, _state(run)) for name, run in runs],
        columns=list(_columns(record)),
        sections=sections(record),
        charts=charts,
        of=of if len(found) == MOST < len(runs) else "",
        **gradient_flow(measured, list(found)),
    )


def _flows(record: Record) -> dict[str, dict[str, Any]]:
    """The gradient flow of at most ``MOST`` runs by their letter and number: of the first of each column, then the second, and so on."""
    columns = list(_columns(record).values())
    place = [number for members in columns for number in range(len(members))]
    runs = _runs(record)
    found: dict[str, dict[str, Any]] = {}
    for k in sorted(range(len(runs)), key=place.__getitem__):
        name, run = runs[k]
        path = Path(run["path"])
        flow = final_flow(path, run["state"]) if len(found) < MOST else None
        if flow is not None:
            found[name] = {**flow, "checkpoint": run["path"], "method": run["method"], "history": flows.history(path / LAST)}
    return {name: found[name] for name, _ in runs if name in found}


def finished(found: "Collection", labels: Sequence[str]) -> Finished:
    """Directories of the finished runs that did not diverge, by the label of their row."""
    rows: dict[str, list[Path]] = {label: [] for label in labels}
    for cell in found.cells:
        if cell.result and cell.result["accuracy"] is not None:
            rows[labels[cell.row]].append(cell.path)
    return {label: paths for label, paths in rows.items() if paths}


def draw(rows: Finished, target: Path) -> list[Path]:
    """Write :func:`charts` to a folder, or accuracy and loss side by side if ``target`` is the file of an image; returns the files."""
    views = charts(rows)
    if not views:
        return []
    if target.suffix.lower() not in SUFFIXES:
        return save({name: sheet("", view) for name, view in views.items()}, target)
    both = [views[name].panels[0] for name in ("accuracy", "loss")]
    save_as(sheet("", View("accuracy and loss by epoch", both, 2, views["accuracy"].legend)), target)
    return [target]


def charts(rows: Finished) -> dict[str, View]:
    """Accuracy and loss by epoch on the split evaluated after each epoch (figure 4 of the paper), coverage by layer of the final
    networks (figure 5), and alpha and beta over training for each row in which they change (figures 6 and 7), by file name. Charts
    without values are left out; damaged records give a warning."""
    accuracy: dict[str, list[Values]] = {label: [] for label in rows}
    loss: dict[str, list[Values]] = {label: [] for label in rows}
    coverage: dict[str, list[Values]] = {label: [] for label in rows}
    for label, paths in rows.items():
        for path in paths:
            try:
                epochs = read_metrics(path)
                flow = flows.read_full(path)
            except ConfigError as error:
                log.warning("%s; the charts are without this run", error.message)
                continue
            accuracy[label].append(evaluated(epochs, "accuracy"))
            loss[label].append(evaluated(epochs, "loss"))
            coverage[label].append([layer.get("coverage") for layer in flow["layers"]] if flow else [])
    views = {
        "accuracy": curves("accuracy", accuracy, note=EVALUATED),
        "loss": curves("cross-entropy", loss, note=EVALUATED),
        "coverage": curves("coverage", coverage, "layer, from the input", "Fraction of u in v_th +- alpha / 2."),
    }
    for label, paths in rows.items():
        views |= _over_training(label, paths)
    return {name: view for name, view in views.items() if view.panels[0].drawing}


def _over_training(label: str, paths: Sequence[Path]) -> dict[str, View]:
    """Alpha and beta of each layer by epoch, of the runs of a row."""
    found = [flows.history(path / LAST) for path in paths]
    histories = [history["layers"] for history in found if history]
    views = {}
    for key in ("alpha", "beta"):
        layers: dict[str, list[Values]] = {}
        for history in histories:
            for number, (name, measures) in enumerate(history.items(), 1):
                layers.setdefault(f"{number} {name}", []).append(measures[key])
        if any(moves(values) for runs in layers.values() for values in runs):
            title = f"{MEASURES[key].title}, {label}"
            views[f"{key}-{safe_name(label)}"] = curves(title, layers, looks_of=ordered)
    return views
