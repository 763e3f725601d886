"""Which findings name an accepted cause, and the figures of experiment E10."""

import statistics
import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from benchmarks.faults.cases import HERE, Case
from benchmarks.faults.harm import scores

Runs = dict[str, dict[str, Any]]


@cache
def read(name: str) -> dict[str, Any]:
    """A table beside this file, empty if there is none."""
    path = HERE / name
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def accepted(case: Case) -> set[str]:
    """The tool's rules that name one of the causes."""
    rules = read("rules.toml")["causes"]
    return {rule for cause in case.causes for rule in rules[cause]}


def hits(case: Case, record: dict[str, Any]) -> list[bool]:
    """For each finding, in order: whether it names an accepted cause: by its rule, or a changed setting by its remedy's settings."""
    rules, changed = accepted(case), case.changed_settings()
    named = []
    for finding in record["findings"]:
        settings = (finding.get("remedy") or {}).get("settings", {})
        named.append(finding["rule"] in rules or (finding["rule"] == "unusual-settings" and not changed.isdisjoint(settings)))
    return named


def with_first_remedy(case: Case, record: dict[str, Any] | None) -> Case | None:
    """The failing script with the first finding's remedy, as written in cures.toml; None if nobody has read this finding."""
    cure = read("cures.toml").get(case.name)
    if cure is None or record is None or not record["findings"] or record["findings"][0]["rule"] != cure["rule"]:
        return None
    if cure.get("undone"):
        return replace(case, edits=[])
    return replace(case, edits=[*case.edits, *cure["edits"]])


def share(values: list[bool]) -> str:
    """In percent, with the counts."""
    return f"{sum(values)} of {len(values)} ({100 * sum(values) / len(values):.0f} %)" if values else "none"


def table(cases: list[Case], runs: Runs) -> str:
    """The figures, one row per library and one for all."""
    done = [case for case in cases if "findings" in runs.get(case.name, {})]
    libraries = sorted({case.library for case in done})
    columns: list[tuple[str, Callable[[list[Case]], str]]] = [
        ("cause first", lambda broken: share([any(hits(c, runs[c.name])[:1]) for c in broken])),
        ("among two", lambda broken: share([any(hits(c, runs[c.name])[:2]) for c in broken])),
        ("among all", lambda broken: share([any(hits(c, runs[c.name])) for c in broken])),
        ("precision of two", lambda broken: mean([precision(hits(c, runs[c.name])[:2]) for c in broken])),
        ("of all", lambda broken: mean([precision(hits(c, runs[c.name])) for c in broken])),
        ("cured by the first", lambda broken: share([runs[c.name].get("cured", False) for c in broken])),
        ("line", lambda broken: share([points_at(c, runs[c.name]) for c in broken if not c.settings])),
    ]
    lines = ["| | " + " | ".join(name for name, _ in columns) + " | errors on healthy | warnings | seconds |"]
    lines.append("|---" * (len(columns) + 4) + "|")
    for library in [*libraries, "all"]:
        chosen = [case for case in done if library in (case.library, "all")]
        broken = [case for case in chosen if case.edits]
        well = [runs[case.name]["findings"] for case in chosen if not case.edits]
        row = [measure(broken) for _, measure in columns]
        row += [share([any(f["severity"] == level for f in said) for said in well]) for level in ("error", "warning")]
        known = scores()
        pairs = [(runs[case.name]["seconds"], known[case.name]["seconds"]) for case in chosen]
        row.append(f"{statistics.median(a for a, _ in pairs):.1f}; alone {statistics.median(b for _, b in pairs):.1f}")
        lines.append(f"| {library} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def precision(named: list[bool]) -> float:
    """Share of findings that name the cause; 0 without findings."""
    return sum(named) / len(named) if named else 0.0


def mean(values: list[float]) -> str:
    """In percent."""
    return f"{100 * statistics.fmean(values):.0f} %" if values else "none"


def points_at(case: Case, record: dict[str, Any]) -> bool:
    """Whether one of the first two findings is at a line of the edits."""
    lines = case.edited_lines()
    return any(finding["line"] in lines for finding in record["findings"][:2])
