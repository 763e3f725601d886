"""Findings: all rules applied to the evidence on a network, ranked, with the command that tries each remedy. Imports no torch."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from lsgcli import registry
from lsgcli.analysis.rules import SEVERITIES, Evidence, Rule
from lsgcli.config.run import option_words


@dataclass(frozen=True)
class Advice:
    """How findings are made.

    Attributes:
        limits: of rules, by name; the others have their own.
        run: path of the run or checkpoint that commands continue from; empty for a network without one.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    run: str = ""


def findings(evidence: Evidence, advice: Advice = Advice()) -> list[dict[str, Any]]:
    """Findings on a network, the most serious first, and of equals the earliest in the order of the rules.

    If the network has learned its task, all are notes.

    Returns:
        ``[{"rule", "severity", "layers", "measure", "value", "usual", "cause", "remedy": {"text", "settings"}, "command", "source"}]``
        of JSON types. ``command`` is None if no setting is the remedy.
    """
    records: list[dict[str, Any]] = []
    for name, rule in ranked().items():
        if rule.alone and any(record["severity"] == "error" for record in records):
            continue
        found = rule.found(evidence, advice.limits.get(name, rule.limit))
        if found is None:
            continue
        text, settings = rule.remedy(evidence, found)
        number = isinstance(found.value, float) and not isfinite(found.value)
        records.append(
            {
                "rule": name,
                "severity": "note" if evidence.learned else rule.severity,
                "layers": list(found.layers),
                "measure": found.measure or rule.measure,
                "value": None if number else found.value,
                "usual": rule.usual,
                "cause": " ".join((rule.__doc__ or "").split()),
                "remedy": {"text": text, "settings": dict(settings)},
                "command": command(advice.run, settings) if settings and advice.run else None,
                "source": rule.source,
            }
        )
    return sorted(records, key=lambda record: SEVERITIES.index(record["severity"]))


def ranked() -> dict[str, Rule]:
    """All rules by name, in the order of causes; those of other packages follow lsg's."""
    rules = {name: registry.get("rule", name)() for name in registry.names("rule")}
    return dict(sorted(rules.items(), key=lambda item: item[1].place))


def command(run: str, settings: Mapping[str, Any]) -> str:
    """The command that trains a run again with other settings."""
    words = [word for name, own in settings.items() for word in option_words(name, own)]
    return shlex.join(["lsg", "train", "--config", run, *words])
