"""``lsg bench``."""

import json

import pytest

from lsgcli.sweeps import bench

TINY = ("--width-multiplier", "0.0625", "-T", "2", "--size", "16", "--batch-size", "2", "--rounds", "2", "--threads", "1")
ROW = {"contender": "lsg fp32", "case": "a case", "samples_per_s": 2000.04, "ms": 1.25}
RECORD = {
    "machine": {"processor": "CPU", "threads": 2, "device": "cpu", "precision": "fp32", "because": "as set", "load": 0.0},
    "rows": [
        ROW | {"time_over_lsg": None},
        ROW | {"contender": "floor fp32", "time_over_lsg": {"ratio": 0.5, "low": 0.4, "high": 0.6}},
    ],
}


@pytest.fixture
def measured(monkeypatch):
    """Arguments of the measurement, which returns RECORD."""
    calls = []
    monkeypatch.setattr(bench, "bench", lambda *arguments: (calls.append(arguments), RECORD)[1])
    return calls


def test_table(lsg, measured):
    words = " ".join(lsg("bench", "--arch", "resnet19", "-T", "2").stdout.split())
    assert "processor: CPU threads: 2 device: cpu" in words
    assert "a case lsg fp32 2,000 1.25 - - - a case floor fp32 2,000 1.25 0.5 0.4 0.6" in words
    ((config, modes, rounds, _),) = measured
    assert (config.arch, config.T, modes, rounds) == ("resnet19", 2, ["train", "inference", "stream"], 5)


@pytest.mark.slow
def test_a_measurement(lsg):
    done = lsg("bench", *TINY, "--device", "cpu", "--precision", "fp32", "--mode", "train,stream", "--json", status=0)
    record = json.loads(done.stdout)
    names = ["lsg fp32", "lsg-auto fp32", "floor fp32"]
    assert [row["contender"] for row in record["rows"]] == names * 2
    for row in record["rows"]:
        batch, T = (1, 2) if row["case"].endswith("stream") else (2, 1)
        assert row["samples_per_s"] == pytest.approx(1e3 * batch / (row["ms"] * T))
        assert (row["time_over_lsg"] is None) == (row["contender"] == "lsg fp32")
    assert record["machine"]["threads"] == 1
