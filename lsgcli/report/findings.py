"""Findings of ``lsg inspect-gradients --advise``, and the table of ``--try``, in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from lsgcli.errors import counted
from lsgcli.report.tables import formatted, listing
from lsgcli.report.terminal import Table

COLOURS = {"error": "red", "warning": "yellow", "note": ""}


def lines(findings: Sequence[Mapping[str, Any]]) -> list[Text]:
    """A heading for each finding, and under it value, cause, remedy and command."""
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
        shown += [Text(f"   {finding['command']}")] if finding["command"] else []
    return shown


def figure(value: Any) -> str:
    """A measured value, with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower()


def tried(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The table of ``--try``."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("remedy", "accuracy", "loss", "findings gone", "findings new", "run"):
        table.add_column(title, justify="right" if title in ("accuracy", "loss") else "left")
    for row in rows:
        numbers = [formatted(row[key], ".4f") for key in ("accuracy", "loss")]
        remedy = row["remedy"] + (" (diverged)" if row["diverged"] else "")
        table.add_row(remedy, *numbers, *(", ".join(row[key]) or "-" for key in ("gone", "new")), row["run"])
    measured = [row for row in rows if row["accuracy"] is not None] or rows
    epochs = counted(rows[0]["epochs"], "epoch")
    table.caption = (
        f"{measured[0]['chosen_on']} accuracy and loss after {epochs}, the same seed; findings compared with the unchanged run"
    )
    return table
