"""The failures of experiment E10 are complete: texts, sources, parts."""

import pytest

from benchmarks.faults import judging
from benchmarks.faults.cases import PARTS, Case, failures, healthy
from benchmarks.faults.running import alone, findings

FAILURES = failures()


@pytest.mark.parametrize("case", FAILURES, ids=lambda case: case.name)
def test_a_failure_is_a_healthy_script_with_edits_that_apply_once(case: Case):
    text = case.text()
    if not case.settings:
        compile(text, case.name, "exec")
    assert case.edits
    assert case.edited_lines()
    assert case.source
    assert case.causes


def test_names_and_scripts():
    names = [case.name for case in FAILURES]
    assert len(set(names)) == len(names)
    assert {case.script for case in FAILURES} <= {case.name for case in healthy()}
    assert len(FAILURES) >= 60
    assert len(healthy()) >= 25


def test_no_script_tells_its_fault():
    """Scripts are written under a neutral name, and an edit adds no comment."""
    for case in FAILURES:
        for old, new in case.edits:
            assert new.count("#") <= old.count("#"), case.name


def test_an_edit_that_does_not_apply_is_an_error():
    script = healthy()[0].script
    with pytest.raises(ValueError, match="0 times"):
        Case("name", script, edits=[["no such text", ""]]).text()


def test_the_part_depends_on_the_name_alone():
    assert Case("snntorch-01", "a/b.py").part == Case("snntorch-01", "c/d.py", "a fault").part == "test"
    assert Case("snntorch-01", "a/second/b.py").part == "second"
    assert {case.part for case in FAILURES} == set(PARTS)


def test_scripts_are_in_folders_of_their_library():
    assert {case.library for case in healthy()} == {"snntorch", "spikingjelly", "norse", "sinabs", "torch", "lsg"}


def test_every_cause_has_rules_and_every_failure_that_does_harm_is_judged():
    rules = judging.read("rules.toml")["causes"]
    assert {cause for case in FAILURES for cause in case.causes} == set(rules)


def test_figures_of_a_made_record():
    case = next(case for case in FAILURES if case.name == "norse-04")
    right = next(iter(judging.accepted(case)))
    finding = {"rule": right, "remedy": {"settings": {}}, "severity": "error", "line": None}
    record = {
        "findings": [finding | {"rule": "another"}, finding, finding | {"rule": "a third"}],
        "seconds": 2.0,
        "cured": True,
    }
    assert judging.hits(case, record) == [False, True, False]
    row = judging.table([case], {case.name: record}).splitlines()[-1]
    assert row.startswith(
        "| all | 0 of 1 (0 %) | 1 of 1 (100 %) | 1 of 1 (100 %) | 50 % | 33 % | 1 of 1 (100 %) | 0 of 1 (0 %) |"
    )


@pytest.mark.slow
def test_a_failure_and_its_twin():
    broken = next(case for case in FAILURES if case.name == "torch-04")
    assert broken.part == "tuning"
    assert alone(broken)["score"] < 0.3
    found = findings(broken)
    assert found["seconds"] > 0
    assert "line" in found["findings"][0]
    healthy_twin = Case(broken.script, broken.script)
    assert alone(healthy_twin)["score"] > 0.7
    assert not [finding for finding in findings(healthy_twin)["findings"] if finding["severity"] == "error"]
