"""Results of an ablation: mean, standard deviation, paired differences from the baseline, and what they show."""

import math
import statistics
from collections.abc import Mapping, Sequence

from scipy import special

from lsgcli.config.fields import Values
from lsgcli.config.run import RunConfig, varying, without_effect
from lsgcli.registry import traits
from lsgcli.runs.table import Repetition, spread, what_counts
from lsgcli.sweeps import paper
from lsgcli.sweeps.plan import Cell
from lsgcli.system.schema import Record

Finished = Mapping[Repetition, Values]  # the final records of a row's runs that have an accuracy
# Of the difference from the baseline, in percentage points.
UNKNOWN_NOISE = (
    "{difference:+.2f} points for each of {shared} {unit}s; without variation between {unit}s, noise cannot be estimated"
)
INTERVAL = "{difference:+.2f} points (95 % interval {low:+.2f} to {high:+.2f}, {shared} {unit}s"
WITHIN_NOISE = (
    "), within noise: the interval includes 0. With {shared} {unit}s, a true difference of {detectable:.2f} points is found in 80 % of "
    "experiments"
)
BY_INTERVAL = "this interval alone; p = {p:.3f} after correction for all rows, so not significant in this table"
ROUNDING = 1e-9  # differences and standard deviations of accuracies below this count as 0


def rows(
    cells: Sequence[Cell],
    table: str | None = None,
    margin: float | None = None,
) -> list[Record]:
    """The table, one row per variant, in order. Accuracies, 0 to 1, are of the checkpoint that ``lsg train`` prints.

    Args:
        table: the paper's table with which to compare.
        margin: differences below this, 0 to 1, count as equivalent; None: no test for equivalence.

    Returns:
        Records of JSON types:
        ``method``, ``width`` (None if ``width_formula`` determines it), ``T``, ``settings`` (others that differ between rows, None where they have no effect), ``label``;
        ``mean``, ``std`` (sample standard deviation, None for fewer than two), ``n``;
        ``seeds``, ``folds`` (``I/K``; empty without folds), ``accuracies``, ``last``, ``best`` (of each finished run), ``best_chosen_on`` (``val`` or ``test``);
        ``diverged``, ``missing`` (seeds without an accuracy);
        ``difference``: mean over shared seeds of the paired difference from the baseline, which is the first row of the same data; in an
        ablation over folds, mean over shared folds of the mean over seeds, and so everything below;
        ``interval``: its 95 % confidence interval by Student's t; both are None for the baseline, and ``interval`` also for fewer
        than two shared seeds or differences without variance; ``shared``: number of shared seeds;
        ``p``: of the paired t test, with Holm's correction over the rows of the table; ``detectable``: the difference that this number of
        seeds would show in 80 % of experiments; ``equivalent``: whether two one-sided tests place the difference within ``margin``;
        ``verdict``: ``better`` or ``worse`` only if the interval excludes 0; ``conclusion``: a sentence with the reason;
        ``paper``, ``paper_std``: the values in the paper's ``table`` for the same settings; for others, ``paper_other`` is the
        nearest value, and ``paper_differs`` says in which settings the run differs from it.
    """
    by_row: dict[int, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.row, cell.repetition)):
        by_row.setdefault(cell.row, []).append(cell)
    configs = [members[0].config for members in by_row.values()]
    names = varied(configs)
    baselines: dict[tuple[str, str], Finished] = {}  # by data set, and label of different data under the same settings
    summaries = []
    for config, members in zip(configs, by_row.values(), strict=True):
        data = members[0].data
        finished = {cell.repetition: cell.result for cell in members if cell.result and cell.result["accuracy"] is not None}
        baseline = baselines.setdefault((config.dataset, data), finished)
        is_baseline = baseline is finished
        row = {
            **_settings(config, configs, names),
            **_accuracies(members, finished),
            **_comparison(finished, {} if is_baseline else baseline, margin),
            **_reported(config, table),
            "verdict": "baseline" if is_baseline else "unknown",
        }
        row["label"] += f", data {data}" if data else ""
        summaries.append(row)
    correct(summaries)
    for row in summaries:
        row["verdict"], row["conclusion"] = _conclude(row)
    return summaries


def varied(configs: Sequence[RunConfig]) -> list[str]:
    """Names of the settings that differ between the rows in which they have an effect."""
    found = []
    for name in varying([what_counts(config) for config in configs]):
        values = [getattr(config, name) for config in configs if _matters(name, config)]
        if any(value != values[0] for value in values):
            found.append(name)
    return found


def _matters(name: str, config: RunConfig) -> bool:
    """Whether a setting has an effect in a row."""
    return not without_effect({name: None}, [config])


def compared(differences: Sequence[float], folds: int = 0, margin: float | None = None) -> Record:
    """Paired t test of differences of seeds, or of ``folds``.

    The standard error of the mean of n differences with the standard deviation s is s sqrt(1/n); over K folds s sqrt(1/n + 1/(K - 1)),
    because they share training samples: 1/(K - 1) is the number of test samples per training sample. Source: Nadeau and Bengio,
    "Inference for the Generalization Error", Machine Learning 52, 2003.

    Returns:
        ``difference``: mean; ``interval``: its 95 % confidence interval by Student's t; ``p`` of the two-sided test; ``detectable``: the
        true difference that this test at 5 % would find with a probability of 80 %, from the noncentral t distribution; ``equivalent``:
        whether two one-sided tests at 5 % place the difference between -margin and margin, which is the case if the 90 % interval lies
        inside. Source: Schuirmann, "A Comparison of the Two One-Sided Tests Procedure and the Power Approach", Journal of
        Pharmacokinetics and Biopharmaceutics, 1987. All are None for fewer than two differences, or if all are equal, because noise
        cannot be estimated, but for ``difference`` of at least one.
    """
    found: Record = dict.fromkeys(("difference", "interval", "p", "detectable", "equivalent"))
    n = len(differences)
    if n:
        found["difference"] = statistics.fmean(differences)
    deviation = statistics.stdev(differences) if n > 1 else 0.0
    if deviation < ROUNDING:
        return found
    mean = found["difference"]
    error = deviation * math.sqrt(1 / n + (1 / (folds - 1) if folds else 0))

    def half(probability: float) -> float:
        return error * float(special.stdtrit(n - 1, probability))

    found["interval"] = [mean - half(0.975), mean + half(0.975)]
    found["p"] = 2 * float(special.stdtr(n - 1, -abs(mean) / error))
    found["detectable"] = error * float(special.nctdtrinc(n - 1, 0.2, half(0.975) / error))
    if margin is not None:
        found["equivalent"] = abs(mean) + half(0.95) < margin
    return found


def correct(rows: Sequence[Record]) -> None:
    """Holm's correction of ``p`` of the rows that have one, in place.

    The probability of any false positive among all tests is then at most that of a single test. Source: Holm, "A Simple Sequentially
    Rejective Multiple Test Procedure", Scandinavian Journal of Statistics, 1979.
    """
    tested = sorted((row for row in rows if row["p"] is not None), key=lambda row: row["p"])
    largest = 0.0
    for rank, row in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * row["p"]))
        row["p"] = largest


def _settings(config: RunConfig, configs: Sequence[RunConfig], varying: Sequence[str]) -> Record:
    width = paper.fixed_width(config)
    own = {"method": config.method, "width": width, "T": config.T}
    others = {name: getattr(config, name) if _matters(name, config) else None for name in varying if name not in own}
    label = config.method
    if len({another.width for another in configs if another.method == config.method}) > 1:
        label += f", width {config.width:g}"
    for name in [name for name in ("T", *others) if name in varying and _matters(name, config)]:
        label += f", {name} {getattr(config, name)}"
    formula = traits("method", config.method).width.formula if width is None else None
    return {**own, "width_formula": formula, "settings": others, "label": label}


def _reported(config: RunConfig, table: str | None) -> Record:
    """What the paper reports, apart from results of other settings."""
    row: Record = dict.fromkeys(("paper", "paper_std", "paper_other", "paper_differs"))
    found = paper.reported(config, table)
    if found is not None:
        result, differences = found
        if differences:
            row |= {"paper_other": result.accuracy, "paper_differs": paper.differing(differences)}
        else:
            row |= {"paper": result.accuracy, "paper_std": result.std}
    return row


def _accuracies(cells: Sequence[Cell], finished: Finished) -> Record:
    records = finished.values()
    accuracies = [record["accuracy"] for record in records]
    chosen_on = sorted({record["best_chosen_on"] for record in records if "best_chosen_on" in record})
    return {
        **spread(accuracies),
        "seeds": [repetition.seed for repetition in finished],
        "folds": [repetition.settings["fold"] for repetition in finished if repetition.folds],
        "accuracies": accuracies,
        "last": [record.get("test_accuracy_last") for record in records],
        "best": [record.get("test_accuracy_best") for record in records],
        "best_chosen_on": " and ".join(chosen_on) or None,
        "diverged": [cell.config.seed for cell in cells if cell.result and cell.result["accuracy"] is None],
        "missing": [cell.config.seed for cell in cells if cell.result is None],
    }


def _comparison(finished: Finished, baseline: Finished, margin: float | None) -> Record:
    units: dict[int, list[float]] = {}  # differences by seed, or by fold
    folds = 0
    for one in finished.keys() & baseline.keys():
        folds = one.folds
        units.setdefault(one.fold or one.seed, []).append(finished[one]["accuracy"] - baseline[one]["accuracy"])
    pairs = [statistics.fmean(differences) for differences in units.values()]
    return {**compared(pairs, folds, margin), "margin": margin, "shared": len(pairs), "baseline_n": len(baseline)}


def _conclude(row: Values) -> tuple[str, str]:
    """The verdict and the sentence with its reason, in percentage points, of a row with the verdict ``baseline`` or ``unknown``."""
    n = row["n"]
    diverged = len(row["diverged"])
    missing = len(row["missing"])
    verdict = row["verdict"]
    if not n:
        text = "every run diverged" if diverged and not missing else "no run has finished"
    elif verdict == "baseline":
        text = "the baseline"
    else:
        verdict, text = _compared(row)
        points = {name: row[name] and 100 * row[name] for name in ("difference", "detectable", "margin")}
        low, high = row["interval"] or (0.0, 0.0)
        unit = "fold" if row["folds"] else "seed"
        text = text.format(**{**row, **points}, unit=unit, low=100 * low, high=100 * high)
    sentence = f"{row['label']}: {text}."
    total = n + diverged + missing
    if diverged and n:
        sentence += f" {diverged} of {total} runs diverged and are excluded."
    if missing:
        sentence += f" {missing} of {total} runs {'is' if missing == 1 else 'are'} missing."
    return verdict, sentence


def _compared(row: Values) -> tuple[str, str]:
    """The verdict, and a template of the reason."""
    interval = row["interval"]
    if not row["baseline_n"]:
        return "unknown", "the baseline has no result to compare with"
    if not row["shared"]:
        return "unknown", "no seed in common with the baseline, so no comparison"
    if row["shared"] == 1:
        return "unknown", "{difference:+.2f} points with one {unit}, which does not show whether it is more than noise"
    if interval is None and abs(row["difference"]) < ROUNDING:
        return "within noise", "the same accuracy as the baseline for each of {shared} {unit}s"
    if interval is None:
        return "unknown", UNKNOWN_NOISE
    low, high = interval
    two = row["shared"] == 2
    text = INTERVAL + (", one degree of freedom" if two else "")
    if low <= 0 <= high:
        verdict = "within noise"
        text += WITHIN_NOISE
    else:
        verdict = "better" if low > 0 else "worse"
        text += f"), {verdict} than the baseline by " + (BY_INTERVAL if row["p"] > 0.05 else "more than noise")
        text += "; two {unit}s are weak evidence, run more" if two else ""
    if row["equivalent"] is not None:
        text += "; equivalent" if row["equivalent"] else "; not shown to be equivalent"
        text += " within {margin:g} points"
    return verdict, text
