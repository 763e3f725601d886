"""Findings: all rules applied to the evidence on a network, ranked, with the command that tries each remedy. Imports no torch."""

import shlex
from collections.abc import Mapping
from typing import Any

from lsgcli import registry
from lsgcli.analysis.rules.base import CAUSES, SEVERITIES, Evidence, Rule
from lsgcli.config.run import option_words
from lsgcli.system.files import finite


def findings(evidence: Evidence, limits: Mapping[str, float] | None = None, run: str = "") -> list[dict[str, Any]]:
    """Findings on a network, the most serious first, and of equals the earliest in the order of the rules.

    If the network has learned its task, all are notes.

    Args:
        limits: thresholds of rules, by name; the others have their own.
        run: path of the run or checkpoint that commands continue from; empty for a network without one.

    Returns:
        ``[{"rule", "severity", "layers", "measure", "value", "usual", "cause", "remedy": {"text", "settings"}, "command", "source"}]``
        of JSON types. ``command`` is None if no setting is the remedy.
    """
    records: list[dict[str, Any]] = []
    for name, rule in ranked().items():
        if rule.alone and any(record["severity"] == "error" for record in records):
            continue
        found = rule.found(evidence, (limits or {}).get(name, rule.limit))
        if found is None:
            continue
        text, settings = rule.remedy(evidence, found)
        words = [word for setting, value in settings.items() for word in option_words(setting, value)]
        records.append(
            {
                "rule": name,
                "severity": "note" if evidence.learned else rule.severity,
                "layers": list(found.layers),
                "measure": found.measure or rule.measure,
                "value": finite(found.value),
                "usual": rule.usual,
                "cause": " ".join((rule.__doc__ or "").split()),
                "remedy": {"text": text, "settings": dict(settings) if evidence.settings else {}},
                "command": shlex.join(["lsg", "train", "--config", run, *words]) if words and run else None,
                "source": rule.source,
            }
        )
    return sorted(records, key=lambda record: SEVERITIES.index(record["severity"]))


def ranked() -> dict[str, Rule]:
    """All rules by name, in the order of causes."""
    names = [*CAUSES, *sorted(set(registry.names("rule")) - set(CAUSES))]
    return {name: registry.get("rule", name)() for name in names}
