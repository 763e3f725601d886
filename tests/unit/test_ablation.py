"""Ablations: which runs there are, and what is concluded from them."""

import math

import pytest
from scipy import stats

from lsgcli import ablation
from lsgcli.ablation import Cell
from lsgcli.report.tables import FORMATS, conclusion
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
    assert conclusion(table(("none", base), ("lsg", other))[1]) == expected


def test_a_diverged_run_is_a_result():
    row = table(("none", [0.5, 0.6, 0.7]), ("lsg", [0.6, None, 0.8]))[1]
    assert (row["n"], row["diverged"], row["accuracies"]) == (2, 1, [0.6, 0.8])
    assert row["difference"] == pytest.approx(0.1)


def test_papers_tables():
    assert [variant["method"] for variant in ablation.TABLES["1"]] == ["none", "trainable-decay", "lsg"]
    assert sorted(v.get("width", 0) for v in ablation.TABLES["2"]) == [0, 0.5, 1.0, 2.5, 5.0, 10.0]
    assert [variant["T"] for variant in ablation.TABLES["3"]] == [2, 4, 6]


def papers_column(table, **settings):
    """What the paper reports, in the rows of one of its tables under some settings."""
    base = tiny.config(**{"arch": "resnet19", "width_multiplier": 1.0, "T": 2, **settings})
    variants = ablation.TABLES[table]
    cells = ablation.cells([base.replace(**variant) for variant in variants], variants, [0])
    return [row["paper"] for row in ablation.rows(cells, [{"accuracy": 0.9, "test_accuracy_last": 0.9}] * len(cells), table)]


def test_papers_figures_stand_beside_the_same_network_only():
    assert papers_column("2", dataset="cifar10") == [0.9268, 0.9212, 0.9068, 0.6154, 0.3082, 0.9441]
    assert papers_column("1", dataset="cifar100") == [0.7387, 0.7412, 0.7622]
    assert papers_column("3", dataset="cifar100") == [0.7632, 0.7685, 0.7713]  # the two tables differ in the paper
    assert papers_column("1", dataset="cifar-dvs", arch="vggsnn", T=10) == [0.7380, 0.7540, 0.7750]
    for other in ({"width_multiplier": 0.5}, {"arch": "vggsnn"}, {"T": 4}, {"residual": "sew"}, {"surrogate": "atan"}):
        assert papers_column("1", **{"dataset": "cifar10", **other}) == [None, None, None]


def test_cells_are_found_again_and_settings_matter():
    variants = ablation.grid({"method": ["lsg", "none"], "T": [2, 4]})

    def cells(seeds, **changes):
        return ablation.cells([tiny.config(**{**changes, **variant}) for variant in variants], variants, seeds)

    first = cells([0, 1])
    assert len({cell.path for cell in first}) == 8
    assert [(cell.config.method, cell.config.T) for cell in first[:4]] == [("lsg", 2), ("lsg", 4), ("none", 2), ("none", 4)]
    assert [cell.path for cell in cells([0, 1], workers=5, data_dir="elsewhere")] == [cell.path for cell in first]
    assert not {cell.path for cell in cells([0, 1], lr=0.2)} & {cell.path for cell in first}
    more_seeds = cells([1, 2])
    assert {c.path for c in more_seeds} & {c.path for c in first} == {c.path for c in first if c.config.seed == 1}


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_formats_carry_every_seed(form):
    rows = table(("none", [0.5125, 0.625]), ("lsg", [0.75, 0.875]))
    text = FORMATS[form](rows)
    numbers = ("0.5125", "0.625", "0.75", "0.875") if form in ("json", "csv") else ("51.25", "62.50", "75.00", "87.50")
    assert all(number in text for number in numbers)
