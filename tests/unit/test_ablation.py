"""Ablations: which runs there are, and what is concluded from them."""

import math

import pytest
from scipy import stats

from lsgcli import ablation
from lsgcli.ablation import Cell
from lsgcli.report.tables import FORMATS
from tests import tiny


def results(values, method="lsg", variant=0, start=0):
    """Cells and final records of one variant, a seed per accuracy."""
    cells = [Cell(variant, tiny.config(method=method, seed=start + i), None) for i in range(len(values))]
    return cells, [{"accuracy": v, "test_accuracy_last": v} for v in values]


def table(*groups):
    """Rows of several variants."""
    cells, records = [], []
    for variant, (method, values) in enumerate(groups):
        more = results(values, method, variant)
        cells += more[0]
        records += more[1]
    return ablation.rows(cells, records)


def test_mean_and_sample_standard_deviation():
    (row,) = table(("none", [0.5, 0.6, 0.8]))
    mean = (0.5 + 0.6 + 0.8) / 3
    assert row["mean"] == pytest.approx(mean)
    assert row["std"] == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in (0.5, 0.6, 0.8)) / 2))
    assert (row["n"], row["difference"], row["interval"]) == (3, None, None)


def test_interval_is_that_of_a_paired_t_test():
    base, other = [0.50, 0.61, 0.70, 0.66], [0.53, 0.66, 0.71, 0.70]
    row = table(("none", base), ("lsg", other))[1]
    expected = stats.ttest_rel(other, base).confidence_interval(0.95)
    assert row["difference"] == pytest.approx(sum(other) / 4 - sum(base) / 4)
    assert row["interval"] == pytest.approx([expected.low, expected.high])


@pytest.mark.parametrize(
    ("base", "other", "expected"),
    [
        ([0.5, 0.6, 0.7], [0.6, 0.7, 0.81], "better than the baseline"),
        ([0.5, 0.6, 0.7], [0.4, 0.5, 0.59], "worse than the baseline"),
        ([0.5, 0.6, 0.7], [0.7, 0.5, 0.7], "within noise"),
        ([0.5], [0.9], "one seed: nothing can be said"),
    ],
)
def test_conclusion(base, other, expected):
    assert ablation.conclusion(table(("none", base), ("lsg", other))[1]) == expected


def test_a_diverged_run_is_a_result():
    row = table(("none", [0.5, 0.6, 0.7]), ("lsg", [0.6, None, 0.8]))[1]
    assert (row["n"], row["diverged"], row["accuracies"]) == (2, 1, [0.6, 0.8])
    assert row["difference"] == pytest.approx(0.1)


def test_papers_tables():
    assert [variant["method"] for variant in ablation.TABLES["1"]] == ["none", "trainable-decay", "lsg"]
    assert sorted(v.get("width", 0) for v in ablation.TABLES["2"]) == [0, 0.5, 1.0, 2.5, 5.0, 10.0]
    assert [variant["T"] for variant in ablation.TABLES["3"]] == [2, 4, 6]
    cells = ablation.cells(tiny.config(dataset="cifar10", T=2, width=1.0), ablation.TABLES["2"], [0])
    rows = ablation.rows(cells, [{"accuracy": 0.9, "test_accuracy_last": 0.9}] * 6)
    assert [row["paper"] for row in rows] == [0.9268, 0.9212, 0.9068, 0.6154, 0.3082, 0.9441]


def test_cells_are_found_again_and_settings_matter():
    variants = ablation.grid({"method": ["lsg", "none"], "T": [2, 4]})
    first = ablation.cells(tiny.config(), variants, [0, 1])
    assert len({cell.path for cell in first}) == 8
    assert [(cell.config.method, cell.config.T) for cell in first[:4]] == [("lsg", 2), ("lsg", 4), ("none", 2), ("none", 4)]
    assert [cell.path for cell in ablation.cells(tiny.config(), variants, [0, 1])] == [cell.path for cell in first]
    other = ablation.cells(tiny.config(lr=0.2), variants, [0, 1])
    assert not {cell.path for cell in other} & {cell.path for cell in first}
    more_seeds = ablation.cells(tiny.config(), variants, [1, 2])
    assert {c.path for c in more_seeds} & {c.path for c in first} == {c.path for c in first if c.config.seed == 1}


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_formats_carry_every_seed(form):
    rows = table(("none", [0.5125, 0.625]), ("lsg", [0.75, 0.875]))
    text = FORMATS[form](rows)
    numbers = ("0.5125", "0.625", "0.75", "0.875") if form in ("json", "csv") else ("51.25", "62.50", "75.00", "87.50")
    assert all(number in text for number in numbers)
