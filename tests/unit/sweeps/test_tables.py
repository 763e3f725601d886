"""The table in its formats."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

from lsgcli.report.tables import FORMATS
from lsgcli.sweeps.collect import Collection
from lsgcli.sweeps.plan import Cell
from tests import tiny
from tests.unit.sweeps.helpers import record


def summary(*rows, **settings):
    """Of (settings, accuracies); an accuracy of "missing" is a run that has not finished."""
    cells = []
    for number, (own, accuracies) in enumerate(rows):
        for seed, accuracy in enumerate(accuracies):
            result = None if accuracy == "missing" else record(accuracy, last=0.25, best=0.875)
            config = tiny.config(**{**settings, **own}, seed=seed)
            cells.append(Cell(number, config, Path(f"abl/row{number}/s{seed}"), result=result))
    return Collection(cells, None).summary()


TWO = (({"method": "fixed"}, [0.5125, 0.625]), ({"method": "lsg"}, [0.75, 0.875]))


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_formats_carry_every_seed_and_the_conclusion(form, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # a narrow terminal leaves out columns
    text = FORMATS[form](summary(*TWO))
    numbers = ("0.5125", "0.625", "0.75", "0.875") if form in ("json", "csv") else ("51.25", "62.50", "75.00", "87.50")
    assert all(number in text for number in numbers)
    assert "within noise: the interval includes 0" in text or "by more than noise" in text
    text = FORMATS[form](summary(({"method": "fixed"}, [0.5, "missing"]), ({"method": "lsg"}, [None, "missing"])))
    assert "diverged" in text
    assert ("missing" if form == "csv" else "abl/row1/s1") in text


def test_table_in_a_narrow_terminal(monkeypatch):
    """A table while accuracy, difference and verdict fit, then blocks; no line but sentences is longer than the terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    head, *_ = table = FORMATS["table"](summary(*TWO)).splitlines()[:3]
    assert max(map(len, table)) <= 80
    assert {"method", "accuracy %", "difference", "verdict"} <= set(re.split(r"  +", head))
    monkeypatch.setenv("COLUMNS", "30")
    block = FORMATS["table"](summary(*TWO)).splitlines()
    assert block[0] == "fixed"
    assert "  accuracy %: 56.88 +- 7.95" in block
    monkeypatch.setenv("COLUMNS", "300")
    head, *rows = FORMATS["table"](summary(*TWO)).splitlines()[:3]
    starts = [match.start() for match in re.finditer(r"(?<=  )\S", head)]
    assert len(starts) > 10
    assert all(row[start - 2 : start] == "  " != row[start] for row in rows for start in starts)


def test_markdown_has_as_many_cells_in_every_line():
    text = FORMATS["markdown"](summary(({"lr": 0.1}, [0.5125, 0.625]), ({"lr": 0.25}, [0.75, 0.875])))
    head, rule, first, second = (line for line in text.splitlines() if line.startswith("|"))
    assert {line.count("|") for line in (rule, first, second)} == {head.count("|")}
    assert set(rule) == set("| -")
    for line, value in ((head, "lr"), (first, "0.1"), (second, "0.25")):  # rows differ in this setting
        assert f"| {value} |" in line


def test_csv_is_read_back():
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](summary(*TWO, ({"method": "lsg", "lr": 0.3}, [0.5, None]))))))
    assert [(row["method"], row["lr"]) for row in rows] == [("fixed", "0.05"), ("lsg", "0.05"), ("lsg", "0.3")]
    assert [float(x) for x in rows[1]["accuracies"].split()] == [0.75, 0.875]
    assert float(rows[1]["mean"]) == 0.8125
    assert rows[0]["difference"] == ""
    assert rows[2]["diverged"] == "1"


def test_json_keeps_its_fields():
    (row, *_), told = (json.loads(FORMATS["json"](summary(*TWO)))[key] for key in ("rows", "schema"))
    assert told == "lsg.ablation/1"
    contract = {"method", "width", "T", "mean", "std", "n", "accuracies", "last", "paper", "difference", "interval"}
    assert contract <= row.keys()


def test_latex_is_a_tabular_of_escaped_cells():
    text = FORMATS["latex"](summary(*TWO))
    columns = re.search(r"\\begin\{tabular\}\{(l+)\}", text)[1]
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"):
        assert text.count(rule) == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == len(columns) - 1
        assert not re.search(r"(?<!\\)[%#_]", row)
    assert r"56.88 $\pm$ 7.95" in text
    assert r"2 $v\sb{\mathrm{th}}$ $\sqrt{1+\beta^2}$" in text  # the width's formula
    outside = text[text.index(r"\end{tabular}") :].splitlines()[1:]
    assert outside
    assert all(line.startswith("%") for line in outside)
    assert "$-$" in FORMATS["latex"](summary(*TWO[::-1]))


def test_a_setting_is_shown_only_where_it_has_an_effect():
    """`--table 1 --decay-lr 0.01`: the fixed decay has no such rate, and the others have the same."""
    fixed = tiny.config(method="fixed").decay_lr
    rows = [({"method": name, "decay_lr": lr}, [0.5, 0.6]) for name, lr in (("fixed", fixed), ("lsg", 0.01))]
    found = summary(*rows)["rows"]
    assert [row["settings"] for row in found] == [{}, {}]
    assert [row["label"] for row in found] == ["fixed", "lsg"]
    assert "decay_lr" not in FORMATS["markdown"](summary(*rows))
    three = summary(*rows, ({"method": "lsg", "decay_lr": 0.02}, [0.5, 0.6]))
    assert [row["settings"] for row in three["rows"]] == [{"decay_lr": None}, {"decay_lr": 0.01}, {"decay_lr": 0.02}]
    assert [row["label"] for row in three["rows"]] == ["fixed", "lsg, decay_lr 0.01", "lsg, decay_lr 0.02"]
    lines = [line.split(" | ") for line in FORMATS["markdown"](three).splitlines() if line.startswith("| ")]
    column = lines[0].index("decay_lr")
    assert [line[column] for line in lines if line[0] != "| ---"] == ["decay_lr", "-", "0.01", "0.02"]
