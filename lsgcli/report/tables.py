"""An ablation's rows as text: for a terminal, a page, a spreadsheet or a program."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

HEAD = ("method", "width", "T", "accuracy %", "n", "each seed", "difference", "95 % interval", "", "paper %")


def conclusion(row: Mapping[str, Any]) -> str:
    """Whether a row differs from the baseline by more than noise, in plain words."""
    if row["interval"] is None:
        return "" if row["difference"] is None else "one seed: nothing can be said"
    low, high = row["interval"]
    if low <= 0 <= high:
        return "within noise"
    return "better than the baseline" if low > 0 else "worse than the baseline"


def _cells(row: dict[str, Any]) -> list[str]:
    def percent(value: float | None, form: str = ".2f") -> str:
        return "-" if value is None else format(100 * value, form)

    spread = "" if row["std"] is None else f" +- {percent(row['std'])}"
    interval = (
        "-" if row["interval"] is None else f"{percent(row['interval'][0], '+.2f')} to {percent(row['interval'][1], '+.2f')}"
    )
    return [
        row["method"],
        "2 v_th sqrt(1+beta^2)" if row["width"] is None else f"{row['width']:g}",
        str(row["T"]),
        percent(row["mean"]) + spread,
        str(row["n"]) + (f" ({row['diverged']} diverged)" if row["diverged"] else ""),
        " ".join(percent(accuracy) for accuracy in row["accuracies"]),
        percent(row["difference"], "+.2f"),
        interval,
        conclusion(row),
        percent(row["paper"]),
    ]


def as_table(rows: list[dict[str, Any]]) -> str:
    """Aligned columns."""
    lines = [list(HEAD), *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """A Markdown table."""
    lines = [list(HEAD), ["---"] * len(HEAD), *(_cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Comma-separated values, numbers as they are; lists separated by spaces."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: " ".join(map(str, value)) if isinstance(value, list) else value for key, value in row.items()})
    return text.getvalue().rstrip("\n")


def as_json(rows: list[dict[str, Any]]) -> str:
    """``{"rows": [...]}``."""
    return json.dumps({"rows": rows})


FORMATS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "table": as_table,
    "markdown": as_markdown,
    "csv": as_csv,
    "json": as_json,
}
