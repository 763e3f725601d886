"""Text that several reports share, and the output formats of an ablation: table, Markdown, CSV, LaTeX and JSON.

Each format is a function of the record returned by :meth:`lsgcli.sweeps.collect.Collection.summary`.
"""

import re
import statistics
import string
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lsgcli.report.output import csv_text
from lsgcli.report.terminal import console, fitted
from lsgcli.system.files import json_text

Row = Mapping[str, Any]
Summary = Row  # of an ablation, with its rows
Lines = list[list[str]]  # headings, then the cells of each row
NOTHING = "-"
MOST = 4  # names of layers in a line


def letters(n: int) -> list[str]:
    """Names of columns: A, B, ..., Z, AA, BB, ..."""
    return [string.ascii_uppercase[k % 26] * (k // 26 + 1) for k in range(n)]


def problems(layers: Sequence[Row]) -> list[str]:
    """The verdicts in a gradient-flow record that are not ok, each with its layers and the reason of the first of them."""
    named: dict[str, list[Row]] = {}
    for layer in layers:
        if layer.get("verdict", "ok") != "ok":
            named.setdefault(layer["verdict"], []).append(layer)
    lines = []
    for verdict, found in named.items():
        names = "" if verdict == "network" else listing([layer["name"] for layer in found])
        lines.append(f"{verdict}{names} ({found[0]['reason']})")
    return lines


def listing(layers: Sequence[str]) -> str:
    """The names of some layers, after a colon; empty for none."""
    more = f" and {len(layers) - MOST} more" if len(layers) > MOST else ""
    return f": {', '.join(layers[:MOST])}{more}" if layers else ""


def formatted(value: float | None, form: str) -> str:
    """A number in a format, or ``-`` for None."""
    return NOTHING if value is None else format(value, form)


def _percent(value: float | None, form: str = ".2f") -> str:
    return NOTHING if value is None else format(100 * value, form)


def _mean(mean: float | None, std: float | None) -> str:
    return _percent(mean) + ("" if std is None else f" +- {_percent(std)}")


def _mean_of(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return _mean(statistics.fmean(known) if known else None, statistics.stdev(known) if len(known) > 1 else None)


def _seeds(row: Row) -> str:
    runs: dict[int, list[float]] = {}  # of several folds, the mean
    for seed, accuracy in zip(row["seeds"], row["accuracies"], strict=True):
        runs.setdefault(seed, []).append(accuracy)
    known = {
        **{seed: _percent(statistics.fmean(own)) for seed, own in runs.items()},
        **dict.fromkeys(row["diverged"], "diverged"),
        **dict.fromkeys(row["missing"], "missing"),
    }
    return " ".join(known[seed] for seed in sorted(known))


def _interval(row: Row) -> str:
    return NOTHING if row["interval"] is None else " to ".join(_percent(end, "+.2f") for end in row["interval"])


SETTINGS = ("method", "width", "T")  # other settings that differ between rows have columns after these
COLUMNS: dict[str, Callable[[Row], str]] = {
    "method": lambda row: row["method"],
    "width": lambda row: row["width_formula"] or f"{row['width']:g}",
    "T": lambda row: str(row["T"]),
    "accuracy %": lambda row: _mean(row["mean"], row["std"]),
    "n": lambda row: str(row["n"]),
    "each seed": _seeds,
    "last %": lambda row: _mean_of(row["last"]),
    "best %": lambda row: _mean_of(row["best"]),
    "difference": lambda row: _percent(row["difference"], "+.2f"),
    "95 % interval": _interval,
    "p": lambda row: formatted(row["p"], ".3f"),
    "verdict": lambda row: row["verdict"],
    "paper %": lambda row: _mean(row["paper"], row["paper_std"]),
}
# Columns that a narrow terminal does without, in this order.
DISPENSABLE = ("each seed", "paper %", "last %", "best %", "95 % interval", "p", "T", "width", "n")


def _lines(rows: Sequence[Row]) -> Lines:
    head = [*SETTINGS, *rows[0]["settings"], *(name for name in COLUMNS if name not in SETTINGS)]
    return [head, *([COLUMNS[name](row) if name in COLUMNS else str(row["settings"][name]) for name in head] for row in rows)]


def _said(summary: Summary) -> list[str]:
    """Text below the table: a conclusion for each row, missing runs, and notes."""
    missing = []
    for one in summary["missing"]:
        fold = f", fold {one['fold']}" if one["fold"] else ""
        missing.append(f"Missing: {one['row']}, seed {one['seed']}{fold}: {one['state']} ({one['run']}).")
    return [*(row["conclusion"] for row in summary["rows"]), *missing, *summary["notes"]]


def as_table(summary: Summary) -> str:
    """Aligned columns, as many as fit the terminal; if not even accuracy, difference and verdict do, each row is a block."""
    head, *rows = _lines(summary["rows"])
    out = console(sys.stdout)
    made, left_out = fitted(head, rows, out.width, DISPENSABLE, left=len(head))
    with out.capture() as captured:
        out.print(made)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    lines += [f"more columns in a wider terminal, or with --format markdown: {', '.join(left_out)}"] if left_out else []
    return "\n".join([*lines, "", *_said(summary)])


def as_markdown(summary: Summary) -> str:
    """A Markdown table, and a list of conclusions and notes."""
    lines = _lines(summary["rows"])
    lines.insert(1, ["---"] * len(lines[0]))
    shown = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([*shown, "", *(f"- {text}" for text in _said(summary))])


def as_csv(summary: Summary) -> str:
    """Comma-separated values with unformatted numbers, accuracies 0 to 1, and lists separated by spaces."""
    rows = [{**row["settings"], **row} for row in summary["rows"]]
    first = [*SETTINGS, *rows[0]["settings"]]
    fields = [*first, *(name for name in rows[0] if name not in (*first, "settings"))]
    cells = ([" ".join(map(str, row[key])) if isinstance(row[key], list) else row[key] for key in fields] for row in rows)
    return csv_text([fields, *cells]).rstrip("\n")


def as_latex(summary: Summary) -> str:
    r"""A ``tabular`` with rules of the package booktabs, followed by conclusions and notes as comments."""
    lines = _lines(summary["rows"])
    head, *body = [" & ".join(map(_latex, line)) + r" \\" for line in lines]
    begin = rf"\begin{{tabular}}{{{'l' * len(lines[0])}}}"
    shown = [r"% \usepackage{booktabs}", begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*shown, *(f"% {text}" for text in _said(summary))])


LATEX = {char: "\\" + char for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


# Parts of formulas, escaped as text, and in mathematics.
FORMULAS = {r"v\_th": r"$v\sb{\mathrm{th}}$", r"sqrt(1+beta\textasciicircum{}2)": r"$\sqrt{1+\beta^2}$"}


def _latex(text: str) -> str:
    text = "".join(LATEX.get(char, char) for char in text)
    for plain, formula in FORMULAS.items():
        text = text.replace(plain, formula)
    text = text.replace("+-", r"$\pm$")
    return re.sub(r"(?<!\S)([+-])(?=\d)", r"$\1$", "--" if text == NOTHING else text)


FORMATS: dict[str, Callable[[Summary], str]] = {
    "table": as_table,
    "markdown": as_markdown,
    "csv": as_csv,
    "latex": as_latex,
    "json": json_text,
}
