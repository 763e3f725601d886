"""Results of an ablation: mean, standard deviation, paired differences from the baseline, and what they show."""

import math
import statistics
from collections.abc import Sequence

from scipy import special

from lsgcli.config.fields import Values
from lsgcli.config.run import RunConfig, varying, without_effect
from lsgcli.config.source import traits
from lsgcli.runs.table import Repetition, spread, what_counts
from lsgcli.sweeps import paper
from lsgcli.sweeps.plan import Cell
from lsgcli.system.schema import Record

Result = tuple[Cell, Values | None]  # a run and its final record, None if unfinished
NO_VARIATION = "without variation between {unit}s, noise cannot be estimated"
WITHIN_NOISE = "within noise: the interval includes 0. With {n} {unit}s, a true difference of {detectable:.2f} points is found in 80 % of experiments"
BY_INTERVAL = (
    " than the baseline by this interval alone; p = {p:.3f} after correction for all rows, so not significant in this table"
)
ROUNDING = 1e-9  # differences and standard deviations of accuracies below this count as 0


def rows(
    cells: Sequence[Cell],
    records: Sequence[Values | None],
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
    by_row: dict[int, list[Result]] = {}
    for cell, record in sorted(zip(cells, records, strict=True), key=lambda result: Repetition.of(result[0].config)):
        by_row.setdefault(cell.row, []).append((cell, record))
    every = [by_row[number] for number in sorted(by_row)]
    configs = [results[0][0].config for results in every]
    names = varied(configs)
    baselines: dict[tuple[str, str], list[Result]] = {}  # by data set, and label of different data under the same settings
    summaries = []
    for config, results in zip(configs, every, strict=True):
        data = results[0][0].data
        baseline = baselines.setdefault((config.dataset, data), results)
        row = {**_settings(config, configs, names), **_accuracies(results), **_comparison(results, baseline, margin)}
        row["label"] += f", data {data}" if data else ""
        summaries.append({**row, **_reported(config, table)})
    correct(summaries)
    for row, results in zip(summaries, every, strict=True):
        is_baseline = results is baselines[results[0][0].config.dataset, results[0][0].data]
        row["verdict"], row["conclusion"] = _conclude(row, is_baseline=is_baseline)
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


def holm(ps: Sequence[float]) -> list[float]:
    """p values with Holm's correction: the probability of any false positive among all tests is at most that of a single test.

    Source: Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of Statistics, 1979.
    """
    adjusted = [0.0] * len(ps)
    largest = 0.0
    for rank, k in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[k]))
        adjusted[k] = largest
    return adjusted


def correct(rows: Sequence[Record]) -> None:
    """Apply :func:`holm` to ``p`` of the rows that have one, in place."""
    tested = [row for row in rows if row["p"] is not None]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p"] = p


def _settings(config: RunConfig, configs: Sequence[RunConfig], varying: Sequence[str]) -> Record:
    own = {"method": config.method, "width": paper.fixed_width(config), "T": config.T}
    names = [name for name in varying if name not in own]
    others = {name: getattr(config, name) if _matters(name, config) else None for name in names}
    widths = {another.width for another in configs if another.method == config.method}
    label = config.method
    if len(widths) > 1:
        label += f", width {config.width:g}"
    if "T" in varying:
        label += f", T {config.T}"
    for name in names:
        if _matters(name, config):
            label += f", {name} {others[name]}"
    formula = None if own["width"] is not None else traits("method", config.method).width.formula
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


def _finished(results: Sequence[Result]) -> dict[Repetition, Values]:
    """The final record of each run that has an accuracy."""
    return {
        Repetition.of(cell.config): record for cell, record in results if record is not None and record["accuracy"] is not None
    }


def _accuracies(results: Sequence[Result]) -> Record:
    finished = _finished(results)
    accuracies = [record["accuracy"] for record in finished.values()]
    chosen_on = sorted({record["best_chosen_on"] for record in finished.values() if "best_chosen_on" in record})
    return {
        **spread(accuracies),
        "seeds": [repetition.seed for repetition in finished],
        "folds": [repetition.settings["fold"] for repetition in finished if repetition.folds],
        "accuracies": accuracies,
        "last": [record.get("test_accuracy_last") for record in finished.values()],
        "best": [record.get("test_accuracy_best") for record in finished.values()],
        "best_chosen_on": " and ".join(chosen_on) or None,
        "diverged": [cell.config.seed for cell, record in results if record is not None and record["accuracy"] is None],
        "missing": [cell.config.seed for cell, record in results if record is None],
    }


def _comparison(results: Sequence[Result], baseline: Sequence[Result], margin: float | None) -> Record:
    own = _finished(results)
    reference = {} if results is baseline else _finished(baseline)
    units: dict[int, list[float]] = {}  # differences by seed, or by fold
    for one in own.keys() & reference.keys():
        units.setdefault(one.fold or one.seed, []).append(own[one]["accuracy"] - reference[one]["accuracy"])
    pairs = [statistics.fmean(sorted(units[unit])) for unit in sorted(units)]
    folds = Repetition.of(results[0][0].config).folds
    return {**compared(pairs, folds, margin), "margin": margin, "shared": len(pairs), "baseline_n": len(reference)}


def _conclude(row: Values, *, is_baseline: bool) -> tuple[str, str]:
    """The verdict and the sentence with its reason, in percentage points."""
    n = row["n"]
    diverged = len(row["diverged"])
    missing = len(row["missing"])
    if is_baseline and n:
        verdict = "baseline"
        text = "the baseline"
    elif n:
        verdict, text = _compared(row)
    else:
        verdict = "baseline" if is_baseline else "unknown"
        text = "every run diverged" if diverged and not missing else "no run has finished"
    sentence = f"{row['label']}: {text}."
    total = n + diverged + missing
    if diverged and n:
        sentence += f" {diverged} of {total} runs diverged and are excluded."
    if missing:
        sentence += f" {missing} of {total} runs {'is' if missing == 1 else 'are'} missing."
    return verdict, sentence


def _compared(row: Values) -> tuple[str, str]:
    shared = row["shared"]
    interval = row["interval"]
    if not row["baseline_n"]:
        return "unknown", "the baseline has no result to compare with"
    if not shared:
        return "unknown", "no seed in common with the baseline, so no comparison"
    low, high = interval or (0.0, 0.0)
    points = {
        "difference": row["difference"],
        "low": low,
        "high": high,
        "detectable": row["detectable"],
        "margin": row["margin"],
    }
    fields = {name: value and 100 * value for name, value in points.items()}
    if shared == 1:
        verdict = "unknown"
        text = "{difference:+.2f} points with one {unit}, which does not show whether it is more than noise"
    elif interval is None and abs(row["difference"]) < ROUNDING:
        verdict = "within noise"
        text = "the same accuracy as the baseline for each of {n} {unit}s"
    elif interval is None:
        verdict = "unknown"
        text = "{difference:+.2f} points for each of {n} {unit}s; " + NO_VARIATION
    else:
        freedom = ", one degree of freedom" if shared == 2 else ""
        text = f"{{difference:+.2f}} points (95 % interval {{low:+.2f}} to {{high:+.2f}}, {{n}} {{unit}}s{freedom}), "
        verdict = "better" if low > 0 else "worse"
        if low <= 0 <= high:
            verdict = "within noise"
            text += WITHIN_NOISE
        elif row["p"] > 0.05:
            text += verdict + BY_INTERVAL
        else:
            text += f"{verdict} than the baseline by more than noise"
        if shared == 2 and verdict != "within noise":
            text += "; two {unit}s are weak evidence, run more"
        if row["equivalent"] is not None:
            shown = "equivalent" if row["equivalent"] else "not shown to be equivalent"
            text += f"; {shown} within {{margin:g}} points"
    return verdict, text.format(n=shared, unit="fold" if row["folds"] else "seed", p=row["p"], **fields)
