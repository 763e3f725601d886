"""What experiments say about findings."""

import math

import pytest

from lsgcli.analysis.experiments.verdict import Experiment, Outcome, best_of, confirm, is_better, sentence

UNCHANGED = Outcome(loss=2.3, accuracy=0.1, skill=0.0, held_out_skill=0.0)


def tried(name, skill, rules=("silent",), general=False, error=""):
    outcome = Outcome(accuracy=skill, skill=skill, error=error)
    return Experiment(
        name, f"change {name}", rules, general, f"remedy {name}", outcome=outcome, learns=is_better(outcome, UNCHANGED)
    )


def finding(rule, severity="error"):
    return {"rule": rule, "severity": severity, "remedy": {"text": ""}}


@pytest.mark.parametrize(
    ("outcome", "before", "better"),
    [
        (Outcome(skill=0.9), UNCHANGED, True),
        (Outcome(skill=0.2), UNCHANGED, False),  # better, but it does not learn
        (Outcome(skill=0.9), Outcome(skill=0.85), False),
        (Outcome(skill=0.9, error="ValueError: x"), UNCHANGED, False),
        (Outcome(skill=0.9), Outcome(error="RuntimeError: x"), True),
        (Outcome(skill=0.9, held_out_skill=0.8), Outcome(skill=0.9, held_out_skill=0.1), True),
        (Outcome(skill=0.1, held_out_skill=0.8), Outcome(skill=0.9, held_out_skill=0.1), False),
        (Outcome(), UNCHANGED, False),
    ],
)
def test_what_counts_as_better(outcome, before, better):
    assert is_better(outcome, before) == better


def test_a_confirmed_finding_comes_first_and_a_refuted_one_last():
    done = [tried("a", 0.1, ("silent",)), tried("b", 0.9, ("state-kept", "graph-twice"))]
    found = confirm([finding("silent"), finding("labels"), finding("state-kept", "warning"), finding("drift", "note")], done)
    assert [(one["rule"], one["confirmed"]) for one in found] == [
        ("state-kept", True),
        ("labels", None),
        ("silent", False),
        ("drift", None),
    ]


def test_a_note_alone_is_not_the_answer():
    """What an experiment stands for comes first; a note that it confirms says so."""
    found = confirm([finding("silent"), finding("blocked", "note")], [tried("b", 0.9, ("narrow-window", "blocked"))])
    assert [(one["rule"], one["severity"], one["confirmed"]) for one in found] == [
        ("narrow-window", "error", True),
        ("silent", "error", None),
        ("blocked", "note", True),
    ]


def test_nothing_is_refuted_where_nothing_helps():
    done = [tried("a", 0.1, ("silent",)), tried("b", 0.15, ("state-kept",))]
    found = confirm([finding("silent"), finding("labels")], done)
    assert [(one["rule"], one["confirmed"]) for one in found] == [("silent", None), ("labels", None)]
    assert sentence(done, UNCHANGED).startswith("None of these changes")


def test_an_experiment_that_fails_refutes_nothing():
    done = [tried("a", 0.0, ("silent",), error="ValueError: x"), tried("b", 0.9, ("state-kept",))]
    found = confirm([finding("silent"), finding("state-kept")], done)
    assert [(one["rule"], one["confirmed"]) for one in found] == [("state-kept", True), ("silent", None)]


def test_a_cause_that_no_finding_names_becomes_one():
    (first, second) = confirm([finding("labels")], [tried("b", 0.9, ("state-kept", "no-reset"))])
    assert (first["rule"], first["confirmed"], first["severity"], first["remedy"]["text"]) == (
        "state-kept",
        True,
        "error",
        "remedy b",
    )
    assert "state" in first["cause"]
    assert (second["rule"], second["confirmed"]) == ("labels", None)


def test_a_specific_change_stands_before_a_general_one_that_does_as_well():
    done = [
        tried("general", 0.95, ("learning-rate",), True),
        tried("specific", 0.9, ("frozen",)),
        tried("weak", 0.5, ("dropout",)),
    ]
    assert [one.intervention for one in best_of(done)] == ["specific", "general"]
    assert sentence(done, UNCHANGED).startswith("It learns once change specific.")
    found = confirm([finding("dropout"), finding("frozen")], done)
    assert [(one["rule"], one["confirmed"]) for one in found] == [("frozen", True), ("dropout", None)]  # which helps less


def test_experiments_that_only_localise():
    assert "in the neurons" in sentence([tried("rectified", 0.9, ())], UNCHANGED)
    assert "by heart" in sentence([tried("one-batch", 0.9, ())], UNCHANGED)
    assert sentence([], UNCHANGED) == "No experiment applies to what was seen."
    assert sentence([], Outcome(skill=0.9)).startswith("It learns as it is")


def test_even_an_ordinary_network_does_not_learn():
    done = [tried("adam", 0.05, ("learning-rate",), True), tried("ordinary", 0.0, ())]
    found = confirm([finding("silent")], done)
    assert [(one["rule"], one["confirmed"]) for one in found] == [("labels", True), ("silent", None)]
    assert "own label" in found[0]["remedy"]["text"]
    found = confirm([finding("silent"), finding("batch-as-time")], done)
    assert [(one["rule"], one["confirmed"]) for one in found] == [("batch-as-time", True), ("silent", None)]
    assert sentence(done, UNCHANGED).endswith("look at inputs and labels.")
    assert "inputs and labels belong together" in sentence([tried("ordinary", 0.9, ())], UNCHANGED)
    assert [one["rule"] for one in confirm([], [tried("ordinary", 0.0, (), error="ValueError: x")])] == []
    assert math.isnan(Outcome().loss)
