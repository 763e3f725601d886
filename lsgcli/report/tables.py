"""Text that several reports share, and the output formats of an ablation: table, Markdown, CSV, LaTeX and JSON.

Each format is a function of the record returned by :meth:`lsgcli.sweeps.collect.Collection.summary`.
"""

import re
import string
import sys
from collections.abc import Callable, Sequence

from lsgcli.analysis.rules.base import few
from lsgcli.config.fields import Values
from lsgcli.report.output import csv_text
from lsgcli.report.terminal import console, fitted
from lsgcli.runs.table import spread
from lsgcli.system.files import json_text

Row = Values
Summary = Row  # of an ablation, with its rows
Lines = list[list[str]]  # headings, then the cells of each row
NOTHING = "-"


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
    return f": {few(layers)}" if layers else ""


def formatted(value: float | None, form: str) -> str:
    """A number in a format, or ``-`` for None."""
    return NOTHING if value is None else format(value, form)


def _percent(value: float | None, form: str = ".2f") -> str:
    return formatted(None if value is None else 100 * value, form)


def _with_spread(mean: float | None, std: float | None) -> str:
    return _percent(mean) + ("" if std is None else f" +- {_percent(std)}")


def _over_runs(values: Sequence[float | None]) -> str:
    found = spread(values)
    return _with_spread(found["mean"], found["std"])


def _cells(row: Row) -> dict[str, str]:
    """The cells of a row, by the headings of their columns."""
    runs: dict[int, list[float]] = {}  # of several folds, the mean
    for seed, accuracy in zip(row["seeds"], row["accuracies"], strict=True):
        runs.setdefault(seed, []).append(accuracy)
    seeds = {seed: _percent(spread(own)["mean"]) for seed, own in runs.items()}
    seeds |= dict.fromkeys(row["diverged"], "diverged") | dict.fromkeys(row["missing"], "missing")
    return {
        "method": row["method"],
        "width": row["width_formula"] or f"{row['width']:g}",
        "T": str(row["T"]),
        # Those that differ between rows.
        **{name: NOTHING if value is None else str(value) for name, value in row["settings"].items()},
        "accuracy %": _over_runs(row["accuracies"]),
        "n": str(row["n"]),
        "each seed": " ".join(seeds[seed] for seed in sorted(seeds)),
        "last %": _over_runs(row["last"]),
        "best %": _over_runs(row["best"]),
        "difference": _percent(row["difference"], "+.2f"),
        "95 % interval": " to ".join(_percent(end, "+.2f") for end in row["interval"] or ()) or NOTHING,
        "p": formatted(row["p"], ".3f"),
        "verdict": row["verdict"],
        "paper %": _with_spread(row["paper"], row["paper_std"]),
    }


# Columns that a narrow terminal does without, in this order.
DISPENSABLE = ("each seed", "paper %", "last %", "best %", "95 % interval", "p", "T", "width", "n")


def _lines(summary: Summary) -> Lines:
    rows = [_cells(row) for row in summary["rows"]]
    return [list(rows[0]), *(list(row.values()) for row in rows)]


def _said(summary: Summary) -> list[str]:
    """Text below the table: a conclusion for each row, missing runs, and notes."""
    missing = []
    for one in summary["missing"]:
        fold = f", fold {one['fold']}" if one["fold"] else ""
        missing.append("Missing: {row}, seed {seed}{own}: {state} ({run}).".format(own=fold, **one))
    return [*(row["conclusion"] for row in summary["rows"]), *missing, *summary["notes"]]


def as_table(summary: Summary) -> str:
    """Aligned columns, as many as fit the terminal; if not even accuracy, difference and verdict do, each row is a block."""
    head, *rows = _lines(summary)
    out = console(sys.stdout)
    made, left_out = fitted(head, rows, out.width, DISPENSABLE, left=len(head))
    with out.capture() as captured:
        out.print(made)
    lines = [line.rstrip() for line in captured.get().splitlines()]
    if left_out:
        lines.append(f"more columns in a wider terminal, or with --format markdown: {', '.join(left_out)}")
    return "\n".join([*lines, "", *_said(summary)])


def as_markdown(summary: Summary) -> str:
    """A Markdown table, and a list of conclusions and notes."""
    lines = _lines(summary)
    lines.insert(1, ["---"] * len(lines[0]))
    shown = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([*shown, "", *(f"- {text}" for text in _said(summary))])


def as_csv(summary: Summary) -> str:
    """Comma-separated values with unformatted numbers, accuracies 0 to 1, and lists separated by spaces."""
    lines = []
    for row in summary["rows"]:
        values = {**row["settings"], **row}
        del values["settings"]
        lines.append([" ".join(map(str, value)) if isinstance(value, list) else value for value in values.values()])
    return csv_text([list(values), *lines]).rstrip("\n")


def as_latex(summary: Summary) -> str:
    r"""A ``tabular`` with rules of the package booktabs, followed by conclusions and notes as comments."""
    lines = _lines(summary)
    head, *body = [" & ".join(map(_latex, line)) + r" \\" for line in lines]
    begin = rf"\begin{{tabular}}{{{'l' * len(lines[0])}}}"
    shown = [r"% \usepackage{booktabs}", begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*shown, *(f"% {text}" for text in _said(summary))])


LATEX = str.maketrans(
    {char: "\\" + char for char in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
    }
)
MATH = {  # text as escaped, and in mathematics
    r"v\_th": r"$v\sb{\mathrm{th}}$",
    r"sqrt(1+beta\textasciicircum{}2)": r"$\sqrt{1+\beta^2}$",
    "+-": r"$\pm$",
}


def _latex(text: str) -> str:
    if text == NOTHING:
        return "--"
    text = text.translate(LATEX)
    for plain, formula in MATH.items():
        text = text.replace(plain, formula)
    return re.sub(r"(?<!\S)([+-])(?=\d)", r"$\1$", text)


FORMATS: dict[str, Callable[[Summary], str]] = {
    "table": as_table,
    "markdown": as_markdown,
    "csv": as_csv,
    "latex": as_latex,
    "json": json_text,
}
