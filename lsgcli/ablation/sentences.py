"""Whether a row of an ablation differs from the baseline by more than noise between seeds, in plain words."""

from collections.abc import Mapping
from typing import Any

ROUNDING = 1e-9  # a difference of accuracies that is none


def conclude(row: Mapping[str, Any], *, is_baseline: bool) -> tuple[str, str]:
    """A verdict in a word or two, and a sentence that says why.

    The verdict is ``better`` or ``worse`` only where the 95 % interval of the paired difference leaves 0 out.

    Args:
        row: as in :func:`lsgcli.ablation.statistics.rows`; accuracies are 0 to 1, the sentence speaks of percentage points.
        is_baseline: the others are compared with this row.
    """
    verdict, text = _compared(row) if row["n"] and not is_baseline else _alone(row, is_baseline)
    return verdict, f"{row['label']}: {text}.{_left_out(row)}"


def _alone(row: Mapping[str, Any], is_baseline: bool) -> tuple[str, str]:
    if row["n"]:
        return "baseline", "the baseline"
    what = "every run diverged" if row["diverged"] and not row["missing"] else "no run has finished with a result"
    return ("baseline" if is_baseline else "unknown"), what


def _compared(row: Mapping[str, Any]) -> tuple[str, str]:
    shared, difference, interval = row["shared"], row["difference"], row["interval"]
    if not shared:
        if not row["baseline_n"]:
            return "unknown", "the baseline has no result to compare with"
        return "unknown", "no seed in common with the baseline, so they are not compared"
    points = f"{100 * difference:+.2f} points"
    if shared == 1:
        return "unknown", f"{points} with one seed; whether that is more than noise cannot be said"
    seeds = f"{shared} seeds"
    if interval is None and abs(difference) < ROUNDING:
        return "within noise", f"the same accuracy as the baseline with each of {seeds}; no difference was seen"
    if interval is None:
        return "unknown", f"{points} with each of {seeds}; differences without any spread leave nothing to judge noise by"
    low, high = interval
    told = f"{points} (95 % interval {100 * low:+.2f} to {100 * high:+.2f}, {seeds})"
    if low <= 0 <= high:
        return "within noise", f"{told}, within noise: the interval includes 0"
    few = "; two seeds are few to say so, run more" if shared == 2 else ""
    verdict = "better" if low > 0 else "worse"
    return verdict, f"{told}, {verdict} than the baseline by more than noise{few}"


def _left_out(row: Mapping[str, Any]) -> str:
    total = row["n"] + len(row["diverged"]) + len(row["missing"])
    told = ""
    if row["diverged"] and row["n"]:
        told += f" {len(row['diverged'])} of {total} runs diverged, and count in no figure."
    if row["missing"]:
        told += f" {len(row['missing'])} of {total} runs {'is' if len(row['missing']) == 1 else 'are'} missing."
    return told
