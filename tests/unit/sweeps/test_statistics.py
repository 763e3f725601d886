"""What is concluded from runs: against scipy, against tables of t, and by hand."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from lsgcli.sweeps.plan import Cell
from lsgcli.sweeps.statistics import compared, correct, rows
from tests import tiny
from tests.unit.sweeps.helpers import record, table


def test_mean_and_sample_standard_deviation():
    (row,) = table(("fixed", [0.5, 0.6, 0.8]))
    mean = (0.5 + 0.6 + 0.8) / 3
    assert row["mean"] == pytest.approx(mean)
    assert row["std"] == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in (0.5, 0.6, 0.8)) / 2))
    assert (row["n"], row["difference"], row["interval"], row["verdict"]) == (3, None, None, "baseline")
    assert table(("fixed", [0.5]))[0]["std"] is None


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_interval_is_that_of_a_paired_t_test(n):
    rng = np.random.default_rng(n)
    base, other = rng.normal(0.9, 0.01, n).tolist(), rng.normal(0.91, 0.01, n).tolist()
    row = table(("fixed", base), ("lsg", other))[1]
    expected = stats.ttest_rel(other, base).confidence_interval(0.95)
    assert row["difference"] == pytest.approx(np.mean(other) - np.mean(base))
    assert row["interval"] == pytest.approx([expected.low, expected.high])
    assert row["shared"] == n


@pytest.mark.parametrize(
    ("base", "other", "verdict", "words"),
    [
        (
            [0.5, 0.6, 0.7],
            [0.6, 0.7, 0.81],
            "better",
            "+10.33 points (95 % interval +8.90 to +11.77, 3 seeds), better than the",
        ),
        ([0.5, 0.6, 0.7], [0.4, 0.5, 0.59], "worse", "worse than the baseline by more than noise"),
        ([0.5, 0.6, 0.7], [0.7, 0.5, 0.7], "within noise", "within noise: the interval includes 0"),
        ([0.5], [0.9], "unknown", "+40.00 points with one seed, which does not show whether it is more than noise"),
        ([0.5, 0.6], [0.6, 0.75], "within noise", "2 seeds, one degree of freedom)"),
        ([0.5, 0.6], [0.6, 0.701], "better", "two seeds are weak evidence, run more"),
        ([0.5, 0.6], [0.6, 0.701], "better", "2 seeds, one degree of freedom)"),
        ([0.5, 0.6, 0.7], [0.6, 0.7, 0.8], "unknown", "+10.00 points for each of 3 seeds; without variation between seeds"),
        ([0.5, 0.6, 0.7], [0.5, 0.6, 0.7], "within noise", "the same accuracy as the baseline for each of 3 seeds"),
        ([None, None], [0.5, 0.6], "unknown", "the baseline has no result to compare with"),
        (["missing"], [0.5], "unknown", "the baseline has no result to compare with"),
        ({0: 0.5, 1: 0.6}, {2: 0.5, 3: 0.7}, "unknown", "no seed in common with the baseline"),
        ([0.5, 0.6], [None, None], "unknown", "every run diverged"),
        ([0.5, 0.6], [None, "missing"], "unknown", "no run has finished"),
    ],
)
def test_conclusions(base, other, verdict, words):
    row = table(("fixed", base), ("lsg", other))[1]
    assert row["verdict"] == verdict
    assert row["conclusion"].startswith("lsg: ")
    assert words in row["conclusion"]


def test_differences_are_of_shared_seeds_only():
    row = table(("fixed", {0: 0.5, 1: 0.6, 2: 0.9}), ("lsg", {1: 0.65, 2: 0.97, 3: 0.1}))[1]
    assert row["difference"] == pytest.approx((0.05 + 0.07) / 2)
    assert row["mean"] == pytest.approx((0.65 + 0.97 + 0.1) / 3)
    assert (row["n"], row["shared"], row["seeds"]) == (3, 2, [1, 2, 3])


def test_a_diverged_run_is_a_result():
    row = table(("fixed", [0.5, 0.6, 0.7]), ("lsg", [0.6, None, 0.8]))[1]
    assert (row["n"], row["diverged"], row["seeds"], row["accuracies"]) == (2, [1], [0, 2], [0.6, 0.8])
    assert row["difference"] == pytest.approx(0.1)
    assert row["conclusion"].endswith("1 of 3 runs diverged and are excluded.")


def test_a_missing_run_is_said_to_be_missing():
    base, row = table(("fixed", [0.5, "missing", "missing"]), ("lsg", [0.6, "missing", 0.8]))
    assert (base["missing"], row["missing"], row["diverged"]) == ([1, 2], [1], [])
    assert base["conclusion"] == "fixed: the baseline. 2 of 3 runs are missing."
    assert row["conclusion"].endswith("1 of 3 runs is missing.")


def test_rows_are_named_by_what_tells_them_apart():
    def labels(*settings):
        return [row["label"] for row in table(*((one, [0.5]) for one in settings))]

    assert labels({"method": "fixed"}, {"method": "lsg"}) == ["fixed", "lsg"]
    by_width = [{"method": "fixed", "width": 1.0}, {"method": "fixed", "width": 0.5}, {"method": "lsg"}]
    assert labels(*by_width) == ["fixed, width 1", "fixed, width 0.5", "lsg"]
    assert labels({"T": 2}, {"T": 4}) == ["lsg, T 2", "lsg, T 4"]
    assert labels({"lr": 0.1}, {"lr": 0.2}) == ["lsg, lr 0.1", "lsg, lr 0.2"]
    twice = [{"method": "lsg", "width": 0.5}, {"method": "lsg", "width": 1.0}]
    assert len(set(labels(*twice))) == 2  # though the method has no use for it


def test_other_settings_are_told():
    found = table(({"lr": 0.1, "surrogate": "atan"}, [0.5]), ({"lr": 0.2, "surrogate": "atan"}, [0.6]))
    assert [row["settings"] for row in found] == [{"lr": 0.1}, {"lr": 0.2}]


def test_each_data_set_has_a_baseline_of_its_own():
    sets = [{"dataset": name, "method": method} for name in ("digits", "digits-dvs") for method in ("fixed", "lsg")]
    found = table(*zip(sets, ([0.5, 0.6], [0.6, 0.65], [0.1, 0.2], [0.3, 0.1]), strict=True))
    assert [row["verdict"] for row in found] == ["baseline", "within noise"] * 2
    assert [row["difference"] for row in found] == [None, pytest.approx(0.075), None, pytest.approx(0.05)]


def test_last_and_best_stand_beside_the_split_that_chose():
    results = {1: record(0.7, last=0.6, best=0.7), 0: record(0.8, last=0.5, best=0.8)}
    (row,) = rows([Cell(0, tiny.config(seed=seed), None, result=result) for seed, result in results.items()])
    assert (row["seeds"], row["last"], row["best"], row["best_chosen_on"]) == ([0, 1], [0.5, 0.6], [0.8, 0.7], "val")


def test_p_has_holms_correction():
    """By hand: the smallest of three counts three times, the next twice, and none falls below the one before."""
    for plain, corrected in (([0.04, 0.01, 0.03], [0.06, 0.03, 0.06]), ([0.5, None, 0.9], [1.0, None, 1.0]), ([], [])):
        corrected_rows = [{"p": p} for p in plain]
        correct(corrected_rows)
        assert [row["p"] for row in corrected_rows] == pytest.approx(corrected)
    base, one, two = [0.5, 0.6, 0.7], [0.55, 0.62, 0.78], [0.52, 0.61, 0.69]
    found = [row["p"] for row in table(("fixed", base), ("lsg", one), ("trainable-decay", two))]
    plain = [stats.ttest_rel(other, base).pvalue for other in (one, two)]
    assert found[0] is None
    assert found[1:] == pytest.approx([min(1, 2 * plain[0]), max(plain[1], min(1, 2 * plain[0]))])


def test_what_only_the_interval_shows_is_said():
    """p = 0.042 of one row, 0.125 of three: more than noise by itself, not among three rows."""
    base, one, two = [0.5, 0.6, 0.7], [0.55, 0.69, 0.75], [0.52, 0.61, 0.69]
    noise = {"method": "lsg", "lr": 0.2}
    alone, among = (
        table(("fixed", base), ("lsg", one), *others)[1] for others in ((), (("trainable-decay", two), (noise, two)))
    )
    assert stats.ttest_rel(one, base).pvalue == pytest.approx(0.042, abs=5e-4)
    assert alone["conclusion"].endswith("better than the baseline by more than noise.")
    assert among["p"] > 0.05
    assert (
        f"by this interval alone; p = {among['p']:.3f} after correction for all rows, so not significant" in among["conclusion"]
    )


def test_equivalence_is_two_one_sided_tests():
    differences = [0.001, -0.002, 0.003, 0.0, -0.001]
    for margin in (0.0005, 0.002, 0.003, 0.01):
        above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
        assert compared(differences, margin=margin)["equivalent"] == (max(above, below) < 0.05)
    assert compared([0.1], margin=1.0)["equivalent"] is None
    sentence = table(("fixed", [0.5, 0.6, 0.7]), ("lsg", [0.501, 0.599, 0.7]), margin=0.05)[1]["conclusion"]
    assert sentence.endswith("equivalent within 5 points.")


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_detectable_difference_against_an_integral(n):
    """Power of the test, averaged over the distribution of the sample's standard deviation."""
    differences = np.random.default_rng(n).normal(0, 1, n).tolist()
    true = compared(differences)["detectable"] / np.std(differences, ddof=1) * math.sqrt(n)
    critical, df = stats.t.ppf(0.975, n - 1), n - 1

    def found(s):
        limit = critical * s / math.sqrt(df)
        return stats.chi.pdf(s, df) * (stats.norm.sf(limit - true) + stats.norm.cdf(-limit - true))

    assert integrate.quad(found, 0, 12, limit=200)[0] == pytest.approx(0.8, abs=1e-4)


def test_folds_are_compared_with_the_corrected_variance():
    """Three folds and two seeds: the differences of folds, averaged over seeds, with the factor 1/3 + 1/2 in place of 1/3."""
    rng = np.random.default_rng(0)
    accuracies = rng.uniform(0.4, 0.8, (2, 3, 2))  # row, fold, seed
    cells = []
    for row, fold, seed in np.ndindex(2, 3, 2):
        config = tiny.config(method=("fixed", "lsg")[row], seed=seed, fold=f"{fold + 1}/3")
        cells.append(Cell(row, config, None, result=record(accuracies[row, fold, seed])))
    row = rows(cells, margin=0.9)[1]
    differences = (accuracies[1] - accuracies[0]).mean(1)
    mean, error = differences.mean(), differences.std(ddof=1) * math.sqrt(1 / 3 + 1 / 2)
    assert (row["n"], row["shared"], row["mean"]) == (6, 3, pytest.approx(accuracies[1].mean()))
    assert row["std"] == pytest.approx(accuracies[1].std(ddof=1))
    assert row["difference"] == pytest.approx(mean)
    assert row["interval"] == pytest.approx([mean - 4.302653 * error, mean + 4.302653 * error], rel=1e-5)
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(mean) / error, 2))
    assert row["equivalent"] == (abs(mean) + stats.t.ppf(0.95, 2) * error < 0.9)
    assert row["seeds"] == [0, 0, 0, 1, 1, 1]
    assert row["folds"] == ["1/3", "2/3", "3/3"] * 2
    assert "3 folds" in row["conclusion"]
