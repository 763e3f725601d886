"""The benchmarks of a GPU where there is none: their criteria, and a rehearsal of all parts."""

import json
import subprocess
import sys
import time

import pytest

from benchmarks import gpu, gpu_parts


@pytest.mark.parametrize(
    ("type_", "spikes", "gradient", "passed"),
    [
        ("float64", 0.0, 1e-14, True),
        ("float64", 1e-7, 0.0, False),
        ("float64", 0.0, 1e-9, False),
        ("float32", 5e-4, 1e-3, True),
        ("float32", 2e-3, 0.0, False),
        ("float32", 0.0, 0.5, False),
        ("bfloat16", 0.048, 0.42, True),
        ("bfloat16", 0.06, 0.4, False),
        ("bfloat16", 0.04, 1.0, False),  # no gradient at all
    ],
)
def test_criteria(type_, spikes, gradient, passed):
    """Of each type: equal in float64, otherwise hardly farther from it than the reference is."""
    peers = {"float64": (0.0, 0.0), "float32": (0.0, 2e-7), "bfloat16": (0.04, 0.4)}
    peer = dict(zip(("spikes", "gradient"), peers[type_], strict=True))
    assert gpu_parts.within(type_, {"spikes": spikes, "gradient": gradient}, peer) == passed


def test_a_failing_check_is_shown():
    """Every row of the table of checks says whether it passed."""
    row = {"network": "vggsnn", "type": "float32", "backend": "compiled", "spikes": 0.1, "gradient": 1.0}
    row |= {"reference": {"spikes": 0.0, "gradient": 0.0}, "passed": False}
    layers = {"cases": 3, "backend": "compiled", "equal": 2, "differ": 1, "passed_over": 0}
    tests = {"tests": 5, "failures": 1, "errors": 0, "skipped": 0, "failed": ["a::b"]}
    results = {"results": [{"case": "a", "worst": None, "failure": "forward: spikes of a"}]}
    found = {"networks": {"rows": [row]}, "random-layers": layers, "tests": tests, "selftest": results}
    (checks,) = gpu.tables({name: {"complete": True} | record for name, record in found.items()})
    assert [shown[2] for shown in checks.rows] == ["NO"] * 4


@pytest.mark.slow(first=True)
def test_rehearsal(tmp_path):
    """All parts run on the CPU; a second call has nothing left to do; another card's results are refused."""
    out = tmp_path / "out"
    words = [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    records = gpu.load(out)
    assert records.keys() == gpu.parts({}, rehearse=True).keys()
    assert {name: record.get("error") for name, record in records.items() if not record["complete"]} == {}
    assert all(
        record["rehearsal"] and record["machine"]["card"]["name"] == "rehearsal on the CPU" for record in records.values()
    )
    assert records["tests"]["tests"] > records["tests"]["skipped"]
    assert records["tests"]["failures"] == records["tests"]["errors"] == records["random-layers"]["differ"] == 0
    assert not any(result["failure"] for result in records["selftest"]["results"])
    rows = records["networks"]["rows"]
    assert {(row["network"], row["backend"]) for row in rows} == {("vggsnn", "fused"), ("resnet19", "fused")}
    assert all(row["passed"] for row in rows)
    assert {row[2] for row in gpu.tables(records)[0].rows} == {"yes"}
    assert [row["method"] for row in records["table1"]["table"]["rows"]] == ["fixed", "trainable-decay", "lsg"]
    assert "A rehearsal" in (out / "page.md").read_text()

    begin = time.monotonic()
    subprocess.run(words, capture_output=True, check=True)
    assert time.monotonic() - begin < 60
    assert gpu.load(out) == records

    record = records["rates"]
    record["machine"]["card"]["name"] = "another"
    (out / "rates.json").write_text(json.dumps(record))
    again = subprocess.run(words, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "found results of another" in again.stderr
