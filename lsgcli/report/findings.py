"""Gradient flow and findings in a terminal: coverage as a bar and per timestep, as many measures as fit, and the table of ``--try``."""

import linecache
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from lsgcli.analysis.advice import usually
from lsgcli.analysis.experiments.verdict import Experiment
from lsgcli.analysis.measures import MEASURES, present, text
from lsgcli.errors import counted, log
from lsgcli.report.figures import Flow
from lsgcli.report.tables import formatted, listing, problems
from lsgcli.report.terminal import Table, fitted, table
from lsgcli.system.schema import Record

SHOWN = ("firing_rate", "u_mean", "u_std", "alpha", "coverage", "grad_norm", "grad_ratio", "grad_zero")  # measures of layers
SPARE = ("grad_zero", "grad_norm", "grad_ratio", "alpha", "u_mean")  # that a narrow terminal leaves out first
TRIALS = ("change", "learns", "accuracy", "held out", "loss", "over the steps")  # columns of the table of experiments
TRIED = ("remedy", "accuracy", "loss", "findings gone", "findings new", "run")  # columns of the table of --try
CONFIRMED = {None: "", True: ", confirmed by experiment", False: ", not confirmed by experiment"}
INDENT = 3  # spaces before what is said of a finding
WIDEST = 40  # characters of a message in a table
COLOURS = {"error": "red", "warning": "yellow", "note": ""}


def lines(findings: Sequence[Record]) -> list[Text | Padding]:
    """A heading for each finding, and under it the line of the script, value, cause, remedy and command."""
    if not findings:
        return [Text("no findings: what was measured is in its usual range")]
    shown: list[Text | Padding] = []
    for number, finding in enumerate(findings, 1):
        said = CONFIRMED[finding.get("confirmed")]
        head = f"{number}. {finding['rule']} ({finding['severity']}{said}){listing(finding['layers'])}"
        measure = "" if finding["measure"] == "error" else f"{finding['measure']} "  # a message says itself what it is
        value = "" if finding["value"] is None else f"{measure}{figure(finding['value'])}{usually(finding)}. "
        shown.append(Text(head, style=COLOURS[finding["severity"]]))
        told = [Text(f"{value}{finding['cause']}"), Text(finding["remedy"]["text"])]
        if finding.get("where"):
            told.append(Text(source_line(finding["where"]), style="cyan"))
        if finding["command"]:
            told.append(Text(finding["command"]))
        shown += [Padding(text, (0, 0, 0, INDENT), expand=False) for text in told]
    return shown


def source_line(place: Record) -> str:
    """A line of a file: its path relative to the working directory if it is below it, its number, and its text."""
    path = Path(place["file"])
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{place['line']}: {linecache.getline(place['file'], place['line']).strip()}"


def diagnosis(record: Record) -> list[Text | Table | Padding]:
    """What was seen of a script, and its findings."""
    of = f" of {', '.join(record['networks'])}" if record["networks"] else ""
    known = []
    if record["losses"]:
        start, last = (formatted(record["losses"][k], ".4g") for k in (0, -1))
        known.append(f"loss {start} to {last}")
    if record["accuracy"] is not None:
        known.append(f"training accuracy {100 * record['accuracy']:.1f} % in the last batches")
    if record["evaluation_accuracy"] is not None:
        known.append(f"{100 * record['evaluation_accuracy']:.1f} % in evaluation")
    watched = f"{counted(record['steps'], 'step')}{of} watched"
    parts: list[Text | Table | Padding] = [Text(f"{watched}: {', '.join(known)}" if known else watched)]
    parts += [Text(sentence, style="yellow") for sentence in record["unseen"]]
    layers = record["layers"]
    if layers:
        shown = [key for key in SHOWN if any(layer.get(key) is not None for layer in layers)]
        rows = []
        for layer in layers:
            cells = [formatted(layer.get(key), MEASURES[key].form) for key in shown]
            rows.append([layer["name"], *cells, layer["verdict"]])
        made = table(["layer", *(MEASURES[key].title for key in shown), "verdict"], rows)
        made.spare = [MEASURES[key].title for key in SPARE]
        parts += [Text(""), made]
    parts.append(Text(""))
    if layers or record["findings"]:
        parts += lines(record["findings"])
    if "experiments" in record:
        parts += [Text(""), table(TRIALS, trials(record), left=1, wraps=True), Text(record["conclusion"])]
    return parts


def trials(record: Record) -> list[list[str]]:
    """The rows of the table of experiments: the unchanged training, and with one change at a time."""
    rows = []
    for one in [{"change": "unchanged", "learns": False, **record["unchanged"]}, *record["experiments"]]:
        numbers = [formatted(one["accuracy"], ".2f"), formatted(one["held_out"], ".2f"), formatted(one["loss"], ".3g")]
        curve = shortened(one["error"]) or curve_of(one["losses"])
        rows.append([one["change"], "yes" if one["learns"] else "no", *numbers, curve])
    return rows


def suggestion(waiting: Sequence[Experiment], command: Sequence[str]) -> list[Text]:
    """The command that runs experiments, and the first of these."""
    first = "; ".join(one.change for one in waiting[:2])
    return [
        Text(""),
        Text(f"To see what makes it learn: lsg diagnose --try {shlex.join(command)}"),
        Text(f"   It first tries: {first}."),
    ]


def shortened(message: str) -> str:
    """The beginning of a message."""
    return message if len(message) <= WIDEST else f"{message[: WIDEST - 3]}..."


def curve_of(numbers: Sequence[float]) -> str:
    """A curve, one character for every few of some numbers."""
    return _row(numbers, min(numbers, default=0.0), max(numbers, default=0.0))


def tell(experiment: Experiment) -> None:
    """Say how an experiment ended."""
    outcome = experiment.outcome
    how = outcome.error or f"accuracy {formatted(outcome.accuracy, '.2f')}, loss {formatted(outcome.loss, '.3g')}"
    log.info("tried: %s: %s (%.0f s)%s", experiment.change, how, outcome.seconds, ", learns" if experiment.learns else "")


def figure(value: Any) -> str:
    """A measured value, with three digits."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def tried(rows: Sequence[Record]) -> Table:
    """The table of ``--try``."""
    cells = []
    for row in rows:
        remedy = row["remedy"] + (" (diverged)" if row["diverged"] else "")
        remedy += f" (failed: {row['failed']})" if row["failed"] else ""
        numbers = [formatted(row[key], ".4f") for key in ("accuracy", "loss")]
        cells.append([remedy, *numbers, *(", ".join(row[key]) or "-" for key in ("gone", "new")), row["run"]])
    made = table(TRIED, cells, left=len(TRIED))
    epochs = counted(rows[0]["epochs"], "epoch")
    # A run that diverged in its first epoch does not tell the split.
    measured = next((row for row in rows if row["accuracy"] is not None), rows[0])
    made.caption = (
        f"{measured['chosen_on']} accuracy and loss after {epochs}, the same seed; findings compared with the unchanged run"
    )
    return made


BAR = 6  # characters
STEPS = 12  # characters
ROOM = 160  # maximum columns of a line
FILLED = "▏▎▍▌▋▊▉█"
HEIGHTS = "▁▂▃▄▅▆▇█"


def flow_lines(flows: Sequence[Flow], out: Console) -> list[Table | Text]:
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
    low = min(every, default=0.0)
    high = max(every, default=0.0)
    ranked = {key: measure for key, measure in present(layers).items() if measure.rank}
    rows = []
    for layer in layers:
        cells = [text(layer, key) for key in ranked]
        steps = _row(layer["per_step"]["coverage"], low, high)
        rows.append([layer["name"], _bar(layer["coverage"]), steps, *cells, layer["verdict"]])
    heads = ["layer", "coverage", "by step", *(measure.title for measure in ranked.values()), "verdict"]
    order = sorted(ranked.values(), key=lambda measure: -measure.rank)
    table, left_out = fitted(heads, rows, min(width, ROOM), [measure.title for measure in order], left=3)
    table.caption = (
        f"coverage: bars from 0 to 1; by step: from {low:.2f} ({HEIGHTS[0]}) to {high:.2f} ({HEIGHTS[-1]}). u in units of v_th"
    )
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


def _row(values: Sequence[float | None], low: float, high: float) -> str:
    """Coverage per timestep, one character each; of many timesteps, every second or third and so on."""
    row = ""
    for value in values[:: -(-len(values) // STEPS)]:
        if value is None:
            row += " "
        else:
            row += HEIGHTS[min(7, int(8 * (value - low) / (high - low or 1)))]
    return row
