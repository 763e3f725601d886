"""Findings: all rules applied to the evidence on a network, ranked, with the command that tries each remedy; and the verdicts that follow. Imports no torch."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite, nan

from lsgcli import registry
from lsgcli.analysis.measures import value
from lsgcli.analysis.rules.base import CAUSES, SEVERITIES, SYMPTOMS, Evidence, Rule
from lsgcli.analysis.rules.errors import explained
from lsgcli.config.fields import Values
from lsgcli.config.run import from_dict, option_words, without_effect
from lsgcli.errors import ConfigError, LsgError
from lsgcli.system.files import finite
from lsgcli.system.schema import Record

Finding = Record


def findings(evidence: Evidence, limits: Mapping[str, float] | None = None, run: str = "") -> list[Finding]:
    """Findings on a network, the most serious first, and of equals the earliest in the order of the rules.

    If the network has learned its task, all are notes.

    Args:
        limits: thresholds of rules, by name; the others have their own.
        run: path of the run or checkpoint that commands continue from; empty for a network without one.

    Returns:
        ``[{"rule", "severity", "layers", "measure", "value", "usual", "cause", "remedy": {"text", "settings", "alternative"}, "command", "source",
        "follows"}]`` of JSON types. ``command`` is None if no setting is the remedy; ``alternative`` has other settings that may help; ``follows`` is
        the rule of the finding of which this one is a symptom, and therefore a note.
    """
    records: list[Finding] = []
    limits = limits or {}
    seen = evidence.seen
    crash, failure = explained(seen)
    for name, rule in ranked().items():
        if rule.alone and any(record["severity"] == "error" for record in records):
            continue
        found = failure if name == crash and failure else rule.found(evidence, limits.get(name, rule.limit))
        if found is None:
            continue
        follows = _cause(name, records, crash)
        severity = "error" if name == crash else _severity(rule, evidence, found.layers)
        settings, alternative = (_resolved(evidence.settings, given) for given in (found.settings, found.alternative))
        words = [word for setting, value in settings.items() for word in option_words(setting, value)]
        record = {
            "rule": name,
            "severity": "note" if follows else severity,
            "follows": follows,
            "layers": list(found.layers),
            "measure": found.measure or rule.measure,
            "value": finite(found.value),
            "usual": rule.usual if found.measure in ("", rule.measure) else "",
            "cause": rule.cause,
            "remedy": {"text": found.advice or rule.advice, "settings": dict(settings), "alternative": dict(alternative)},
            "command": shlex.join(["lsg", "train", "--config", run, *words]) if words and run else None,
            "source": rule.source,
        }
        if seen is not None:
            line = found.where or seen.lines.get(rule.at) or next(map(seen.line_of, found.layers), None)
            record["where"] = line and line._asdict()
            record["remedy"]["edits"] = [edit._asdict() for edit in found.edits]
        records.append(record)
        if name == "not-finite":  # what was measured afterwards says nothing of its cause
            evidence = replace(evidence, flow={**evidence.flow, "layers": []}, diverged=True)
    return sorted(records, key=lambda record: SEVERITIES.index(record["severity"]))


def _resolved(own: Values, settings: Values) -> Values:
    """Settings of a remedy, without those that would have no effect in the run; empty without one, or if they do not fit the others."""
    if not own or not settings:
        return {}
    from lsgcli.neurons import LIF

    try:
        config = from_dict({**own, **settings})
        LIF(config)  # checks that neuron and method fit
    except LsgError:
        return {}
    return {name: value for name, value in settings.items() if not without_effect({name: value}, [config])}


def _cause(name: str, records: Sequence[Finding], crash: str) -> str | None:
    """The rule of the first error, if ``name`` is a symptom.

    An error that ends the script is explained by missing surrogates alone, and explains all else. Numbers that are not finite are no mere symptom:
    nothing is learned from there on.
    """
    if crash not in ("", "script-failed", name) and name != "no-surrogate":
        return crash
    errors = (record["rule"] for record in records if record["severity"] == "error")
    return next(errors, None) if name in SYMPTOMS and name != "not-finite" else None


def _severity(rule: Rule, evidence: Evidence, layers: Sequence[str]) -> str:
    """The severity of a rule, lower in a network that learns, but not below the least."""
    lower = rule.severity
    if evidence.learned:
        lower = "note"
    elif evidence.progresses and (evidence.seen is not None or not layers):
        lower = max("warning", rule.severity, key=SEVERITIES.index)
    return min(lower, rule.least, key=SEVERITIES.index)


def judge(evidence: Evidence, limits: Mapping[str, float] | None = None, run: str = "") -> list[Finding]:
    """:func:`findings`, from which the record of the evidence gets ``findings``, ``thresholds``, and for each layer ``verdict`` and ``reason``.

    A layer's verdict is the worst finding that names it; ``network`` if only findings on the whole network are errors or warnings; otherwise ``ok``.
    """
    found = findings(evidence, limits, run)
    serious = [finding for finding in found if finding["severity"] != "note"]
    told = serious + [finding for finding in found if finding["follows"]]
    whole = ", ".join(finding["rule"] for finding in serious if not finding["layers"])
    for layer in evidence.layers:
        named = next((finding for finding in told if layer["name"] in finding["layers"]), None)
        if named is not None:
            layer["verdict"], layer["reason"] = named["rule"], _reason(layer, named)
        else:
            layer["verdict"] = "network" if whole else "ok"
            layer["reason"] = whole
    own = {name: rule.limit for name, rule in ranked().items() if isfinite(rule.limit)}
    evidence.flow["thresholds"] = {**own, **(limits or {})}
    evidence.flow["findings"] = found
    return found


def _reason(layer: Values, finding: Finding) -> str:
    measure = finding["measure"]
    found = layer[measure] if measure in layer else value(layer, measure) or finding["value"]
    number = f"{found:.3g}" if isinstance(found, float) else found
    return f"{finding['measure']} {'not finite' if found is None else number}{usually(finding)}"


def usually(finding: Values) -> str:
    """The usual range of a finding's measure, after its value; empty where the measure is not that of its rule."""
    return f", usually {finding['usual']}" if finding["usual"] else ""


def ranked() -> dict[str, Rule]:
    """All rules by name, in the order of causes."""
    listed = CAUSES + SYMPTOMS
    names = [*listed, *sorted(set(registry.names("rule")).difference(listed))]
    return {name: registry.get("rule", name)() for name in names}


def gated(found: Sequence[Finding], gates: set[str]) -> list[Finding]:
    """The findings whose rule or severity is one of ``gates``."""
    return [finding for finding in found if gates & {finding["rule"], finding["severity"]}]


def parse_gates(text: str) -> set[str]:
    """The rules and severities of ``--fail-on``, a comma-separated list.

    Raises:
        ConfigError: an unknown name.
    """
    names = {name.strip() for name in text.split(",")}
    known = [*SEVERITIES, *registry.names("rule")]
    if unknown := sorted(names.difference(known)):
        raise ConfigError(
            f"--fail-on: found {', '.join(map(repr, unknown))}, expected a comma-separated list of {', '.join(known)}"
        )
    return names


def parse_limits(texts: Iterable[str]) -> dict[str, float]:
    """The limits of ``--limit`` for rules, each as ``NAME=NUMBER``.

    Raises:
        ConfigError: an unknown name, or an invalid number.
    """
    limits = {}
    known = registry.names("rule")
    for text in texts:
        name, _, number = text.partition("=")
        try:
            limits[name] = float(number)
        except ValueError:
            limits[name] = nan
        if name not in known or not isfinite(limits[name]):
            raise ConfigError(f"--limit: found {text!r}, expected NAME=NUMBER with one of {', '.join(known)}")
    return limits
