"""Comparison of runs, as text tables and as an HTML page, and charts of an ablation."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsgcli.analysis.measures import MEASURES
from lsgcli.errors import ConfigError, counted, log
from lsgcli.report.charts import Values
from lsgcli.report.drawing import SUFFIXES, ordered, save, save_as
from lsgcli.report.figures import EVALUATED, View, curves, evaluated, moves, sheet
from lsgcli.report.tables import NOTHING, formatted, letters, problems
from lsgcli.report.terminal import table
from lsgcli.runs.compare import final_flow
from lsgcli.runs.table import spread
from lsgcli.store import flows
from lsgcli.store.rundir import LAST, read_metrics
from lsgcli.sweeps.plan import safe_name

if TYPE_CHECKING:
    from lsgcli.sweeps.collect import Collection

MANY = 1 << 10  # columns, all aligned at the left
MOST = 12  # runs whose gradient flow a page shows, up to half a megabyte each
Record = Mapping[str, Any]  # as returned by lsgcli.runs.compare.compare
Columns = Mapping[str, Sequence[Record]]  # the runs of each column, by its letter
Rows = list[tuple[str, list[str]]]  # label, and one cell per group of runs
Finished = Mapping[str, Sequence[Path]]  # label of a row of an ablation -> directories of its finished runs
STATES = {
    "finished": "finished",
    "running": "running in another process, {epochs} of {of} epochs",
    "stopped": "stopped after {epochs} of {of} epochs",
    "diverged": "diverged after {epochs} of {of} epochs: {reason}",
}
SETTING = "setting "  # before the name of a setting that differs, among the values of a run
FLOW = {"coverage": ".3f", "grad_norm": ".2e"}
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
    columns = _columns(record)
    runs = _runs(columns)
    shown: list[Any] = [f"{name} = {run['path']}: {run['shown']}" for name, run in runs]
    for title, rows in sections(record, columns).items():
        shown += ["", table(["", *columns], [[label, *cells] for label, cells in rows], title, left=MANY)]
    for name, run in runs:
        shown += [f"{name}: {problem}" for problem in problems(run["layers"])]
    return shown


def _columns(record: Record) -> Columns:
    """The runs of each column, by its letter, each also with its state as text, ``shown``, and texts of settings and results."""
    told = []
    for number, run in enumerate(record["runs"]):
        epochs = f"{run['epochs']}/{run['of']}"
        texts = {
            "shown": STATES[run["state"]].format(**run),
            "best": None if run["best_epoch"] is None else f"{run['best_epoch'] + 1} by {run['best_chosen_on']}",
            "done": epochs if run["state"] == "finished" else f"{epochs} {run['state']}",
        }
        for name, values in record["settings"].items():
            texts[SETTING + name] = None if values[number] is None else str(values[number])
        told.append({**run, **texts})
    groups = [[told[number] for number in group["runs"]] for group in record["groups"]]
    return dict(zip(letters(len(groups)), groups, strict=True))


def _runs(columns: Columns) -> list[tuple[str, Record]]:
    """The runs, each with the letter of its column, numbered if the column has several."""
    named: list[tuple[str, Record]] = []
    for letter, runs in columns.items():
        names = [letter] if len(runs) == 1 else [f"{letter}{number}" for number in range(1, len(runs) + 1)]
        named += zip(names, runs, strict=True)
    return named


def sections(record: Record, columns: Columns) -> dict[str, Rows]:
    """The rows of the table, with a cell for each column of runs, by section title; empty sections are left out."""
    titled: dict[str, Rows] = {}
    settings = [(name, SETTING + name, "") for name in record["settings"]]
    for title, rows in (("settings that differ", settings), ("result", RESULTS)):
        for name, key, form in rows:
            cells = [_cell((run.get(key) for run in runs), form) for runs in columns.values()]
            if set(cells) != {NOTHING}:
                titled.setdefault(title, []).append((name, cells))
    # Not all runs may have the same layers.
    found = [[layer for run in runs for layer in run["layers"]] for runs in columns.values()]
    for name in dict.fromkeys(layer["name"] for layers in found for layer in layers):
        cells = [_flow([layer for layer in layers if layer["name"] == name]) for layers in found]
        titled.setdefault("gradient flow: coverage, |dL/dW|", []).append((name, cells))
    return titled


def _cell(values: Iterable[Any], form: str = "") -> str:
    """Mean and standard deviation of numbers, or the different texts, of the runs of a group; None is no value."""
    known = [value for value in values if value is not None]
    if not known or isinstance(known[0], str):
        return ", ".join(dict.fromkeys(known)) or NOTHING
    found = spread(known)
    mean = format(found["mean"], form)
    return mean if len(known) == 1 else f"{mean} +- {found['std']:{form}} (n {found['n']})"


def _flow(layers: Sequence[Record]) -> str:
    """Means of coverage and gradient norm of a layer in the runs of a group, with a mark if one of the layers is not ok."""
    if not layers:
        return NOTHING
    words = [formatted(spread(layer.get(key) for layer in layers)["mean"], form) for key, form in FLOW.items()]
    if any(layer.get("verdict", "ok") not in ("ok", "network") for layer in layers):
        words.append("!")
    return " ".join(words)


def page(record: Record) -> str:
    """The comparison as a self-contained HTML page, with training curves and gradient-flow figures."""
    from lsgcli.report.page import document, gradient_flow

    columns = _columns(record)
    runs = _runs(columns)
    found = _flows(columns)
    epochs = {run["path"]: read_metrics(Path(run["path"])) for _, run in runs}
    charts = []
    for measure in ("accuracy", "loss"):
        groups = {letter: [evaluated(epochs[run["path"]], measure) for run in members] for letter, members in columns.items()}
        charts.append(curves(measure.capitalize(), groups, note=EVALUATED))
    measured = list(found.values())
    of = f"Of {', '.join(found)}, {len(found)} of {len(runs)} runs; each run's own report.html has it."
    return document(
        "comparison.html",
        {"comparison": dict(record), "flows": measured},
        title=f"Comparison of {counted(len(runs), 'run')}",
        runs=[(name, run, run["shown"]) for name, run in runs],
        columns=list(columns),
        sections=sections(record, columns),
        charts=charts,
        of=of if len(found) == MOST < len(runs) else "",
        **gradient_flow(measured, list(found)),
    )


def _flows(columns: Columns) -> dict[str, dict[str, Any]]:
    """The gradient flow of at most ``MOST`` runs by their letter and number: of the first of each column, then the second, and so on."""
    runs = _runs(columns)
    place = [number for members in columns.values() for number in range(len(members))]
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
    return {name: view for name, view in views.items() if view.panels[0].chart}


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
