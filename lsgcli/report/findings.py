"""Findings of ``lsg inspect-gradients --advise``, and the table of ``--try``, in a terminal."""

import linecache
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from lsgcli.analysis.measures import MEASURES
from lsgcli.errors import counted
from lsgcli.report.tables import formatted, listing
from lsgcli.report.terminal import Table, table

SHOWN = ("firing_rate", "u_mean", "u_std", "alpha", "coverage", "grad_norm", "grad_ratio", "grad_zero")  # measures of layers
TRIED = ("remedy", "accuracy", "loss", "findings gone", "findings new", "run")  # columns of the table of --try
COLOURS = {"error": "red", "warning": "yellow", "note": ""}


def lines(findings: Sequence[Mapping[str, Any]]) -> list[Text]:
    """A heading for each finding, and under it the line of the script, value, cause, remedy and command."""
    if not findings:
        return [Text("no findings: all measures are in their usual ranges")]
    shown = []
    for number, finding in enumerate(findings, 1):
        head = f"{number}. {finding['rule']} ({finding['severity']}){listing(finding['layers'])}"
        value = (
            "" if finding["value"] is None else f"{finding['measure']} {figure(finding['value'])}, usually {finding['usual']}. "
        )
        shown += [Text(head, style=COLOURS[finding["severity"]]), Text(f"   {value}{finding['cause']}")]
        shown.append(Text(f"   {finding['remedy']['text']}"))
        if place := finding.get("where"):
            shown.append(Text(f"   {source_line(place)}", style="cyan"))
        shown += [Text(f"   {finding['command']}")] if finding["command"] else []
    return shown


def source_line(place: Mapping[str, Any]) -> str:
    """A line of a file: its path relative to the working directory if it is below it, its number, and its text."""
    path = Path(place["file"])
    shown = path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{place['line']}: {linecache.getline(place['file'], place['line']).strip()}"


def diagnosis(record: Mapping[str, Any]) -> list[Text | Table]:
    """What was seen of a script, and its findings."""
    steps = counted(record["steps"], "step")
    of = f" of {', '.join(record['networks'])}" if record["networks"] else ""
    losses, accuracy = record["losses"], record["accuracy"]
    known = [f"loss {formatted(losses[0], '.4g')} to {formatted(losses[-1], '.4g')}"] if losses else []
    known += [f"training accuracy {100 * accuracy:.1f} % in the last batches"] if accuracy is not None else []
    evaluated = record["evaluation_accuracy"]
    known += [f"{100 * evaluated:.1f} % in evaluation"] if evaluated is not None else []
    parts: list[Text | Table] = [Text(f"{steps}{of} watched{': ' if known else ''}{', '.join(known)}")]
    parts += [Text(sentence, style="yellow") for sentence in record["unseen"]]
    if record["layers"]:
        shown = [key for key in SHOWN if any(layer.get(key) is not None for layer in record["layers"])]
        rows = []
        for layer in record["layers"]:
            cells = [formatted(layer.get(key), MEASURES[key].form) for key in shown]
            rows.append([layer["name"], *cells, layer["verdict"]])
        parts += [Text(""), table(["layer", *(MEASURES[key].title for key in shown), "verdict"], rows)]
    said = lines(record["findings"]) if record["findings"] or record["layers"] else []
    return [*parts, Text(""), *said] if said else parts


def figure(value: Any) -> str:
    """A measured value, with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower()


def tried(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The table of ``--try``."""
    cells = []
    for row in rows:
        remedy = row["remedy"] + (" (diverged)" if row["diverged"] else "")
        remedy += f" (failed: {row['failed']})" if row["failed"] else ""
        numbers = [formatted(row[key], ".4f") for key in ("accuracy", "loss")]
        cells.append([remedy, *numbers, *(", ".join(row[key]) or "-" for key in ("gone", "new")), row["run"]])
    made = table(TRIED, cells, left=len(TRIED))
    measured = [row for row in rows if row["accuracy"] is not None] or rows
    epochs = counted(rows[0]["epochs"], "epoch")
    made.caption = (
        f"{measured[0]['chosen_on']} accuracy and loss after {epochs}, the same seed; findings compared with the unchanged run"
    )
    return made
