"""Verdicts of an ablation: whether a row differs from the baseline by more than noise, as a sentence."""

from collections.abc import Mapping
from typing import Any

ROUNDING = 1e-9  # differences of accuracies below this count as 0


def conclude(row: Mapping[str, Any], *, is_baseline: bool) -> tuple[str, str]:
    """A verdict, and a sentence with its reason.

    The verdict is ``better`` or ``worse`` only if the 95 % interval of the paired difference excludes 0.

    Args:
        row: as in :func:`lsgcli.ablation.statistics.rows`; accuracies are 0 to 1, the sentence uses percentage points.
        is_baseline: whether the row is the baseline.
    """
    verdict, text = _compared(row) if row["n"] and not is_baseline else _alone(row, is_baseline)
    return verdict, f"{row['label']}: {text}.{_left_out(row)}"


def _alone(row: Mapping[str, Any], is_baseline: bool) -> tuple[str, str]:
    if row["n"]:
        return "baseline", "the baseline"
    what = "every run diverged" if row["diverged"] and not row["missing"] else "no run has finished"
    return ("baseline" if is_baseline else "unknown"), what


def _compared(row: Mapping[str, Any]) -> tuple[str, str]:
    shared, difference, interval = row["shared"], row["difference"], row["interval"]
    if not shared:
        if not row["baseline_n"]:
            return "unknown", "the baseline has no result to compare with"
        return "unknown", "no seed in common with the baseline, so no comparison"
    points = f"{100 * difference:+.2f} points"
    if shared == 1:
        return "unknown", f"{points} with one seed, which does not show whether it is more than noise"
    seeds = f"{shared} seeds"
    if interval is None and abs(difference) < ROUNDING:
        return "within noise", f"the same accuracy as the baseline for each of {seeds}"
    if interval is None:
        return "unknown", f"{points} for each of {seeds}; without variation between seeds, noise cannot be estimated"
    low, high = interval
    text = f"{points} (95 % interval {100 * low:+.2f} to {100 * high:+.2f}, {seeds})"
    if low <= 0 <= high:
        return "within noise", f"{text}, within noise: the interval includes 0"
    few = "; two seeds are weak evidence, run more" if shared == 2 else ""
    verdict = "better" if low > 0 else "worse"
    return verdict, f"{text}, {verdict} than the baseline by more than noise{few}"


def _left_out(row: Mapping[str, Any]) -> str:
    total = row["n"] + len(row["diverged"]) + len(row["missing"])
    text = ""
    if row["diverged"] and row["n"]:
        text += f" {len(row['diverged'])} of {total} runs diverged and are excluded."
    if row["missing"]:
        text += f" {len(row['missing'])} of {total} runs {'is' if len(row['missing']) == 1 else 'are'} missing."
    return text
