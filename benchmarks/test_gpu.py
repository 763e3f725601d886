"""The benchmarks of a GPU where there is none: the model of its traffic, occupancy, and a rehearsal of all parts."""

import json
import subprocess
import sys
import time

import pytest

from benchmarks import gpu, gpu_kernels, gpu_parts, measuring, traffic
from benchmarks.bench import cases


@pytest.mark.parametrize(
    ("name", "registers", "shared", "warps", "resident"),
    [
        ("sm_80", 64, 0, 8, 32),  # 65,536 registers: 4 blocks of 256 threads
        ("sm_80", 33, 0, 4, 48),  # a scheduler gives registers to a warp by 256: 12 warps of 40 registers per thread
        ("sm_80", 32, 48 * 1024, 8, 24),  # shared memory of 3 blocks, each with the driver's 1 KiB
        ("sm_86", 32, 0, 4, 48),
        ("sm_86", 32, 0, 1, 16),  # 16 blocks
        ("sm_90", 255, 0, 8, 8),
        ("gfx942", 128, 0, 4, 16),  # 512 registers per lane: 4 wavefronts on each of 4 SIMDs
        ("gfx942", 40, 64 * 1024, 4, 4),
    ],
)
def test_occupancy(name, registers, shared, warps, resident):
    architecture = gpu_kernels.ARCHITECTURES[name]
    assert architecture.occupancy(registers, shared, warps) == resident / architecture.warps


def test_floor_of_the_convolutions():
    """Two FLOP per multiply-accumulate; three passes, but two for the first layer; as many samples as the batch."""
    case = cases.case("vggsnn", batch=4)
    sides, channels = (48, 48, 24, 24, 12, 12, 6, 6), (2, 64, 128, 256, 256, 512, 512, 512, 512)
    macs = [9 * a * b * side**2 for a, b, side in zip(channels, channels[1:], sides, strict=False)] + [512 * 9 * 10]
    assert 10 * sum(macs) == pytest.approx(13620e6, rel=1e-3)  # per sample, as the races count
    expected = 2 * 4 * 10 * (3 * sum(macs) - macs[0]) / (0.6 * 989.4e12)
    found = traffic.floor(case, "bf16")
    assert found["operations"] == pytest.approx(expected)
    assert found["step"] >= found["kernels"] + found["operations"]
    assert traffic.floor(case, "fp32")["operations"] == pytest.approx(2 * expected)
    inference = traffic.floor(cases.case("vggsnn", "inference", batch=4), "bf16")
    assert inference["operations"] == pytest.approx(2 * 4 * 10 * sum(macs) / (0.6 * 989.4e12))


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
    row = {"network": "vggsnn", "type": "float32", "backend": "triton", "spikes": 0.1, "gradient": 1.0}
    row |= {"reference": {"spikes": 0.0, "gradient": 0.0}, "passed": False}
    layers = {"cases": 3, "backend": "triton", "equal": 2, "differ": 1, "passed_over": 0}
    tests = {"tests": 5, "failures": 1, "errors": 0, "skipped": 0, "failed": ["a::b"]}
    results = {"results": [{"case": "a", "worst": None, "failure": "forward: spikes of a"}]}
    found = {"networks": {"rows": [row]}, "random-layers": layers, "tests": tests, "selftest": results}
    (checks,) = gpu.tables({name: {"complete": True} | record for name, record in found.items()})
    assert [shown[2] for shown in checks.rows] == ["NO"] * 4


def test_an_interrupt_keeps_the_record(monkeypatch, tmp_path):
    """``benchmarks.gpu_kernels`` writes its record at the end; before that, the previous one stays."""
    monkeypatch.setattr(measuring, "RESULTS", tmp_path)
    (tmp_path / "gpu-kernels.json").write_text("the previous record")
    used = {name: {"registers": 1, "spilled": 0, "shared": 0, "occupancy": 1.0} for name in gpu_kernels.ARCHITECTURES}
    variant = {
        "kernel": "forward",
        "type": "float32",
        "options": [],
        "surrogate": "",
        "tile": (1, 1),
        "warps": 4,
        "usage": used,
    }
    calls = []

    def compiled(names, types, every=True):
        calls.append(names)
        if len(calls) == interrupted_at:
            raise KeyboardInterrupt
        return [{**variant, "usage": {name: used[name] for name in names}}]

    monkeypatch.setattr(gpu_kernels, "compiled", compiled)
    monkeypatch.setattr(gpu_kernels, "tiles", lambda names: [{"kernel": "forward", "tile": 1, "warps": 4, "usage": used}])
    monkeypatch.setattr(sys, "argv", ["gpu_kernels"])
    interrupted_at = 3  # the second architecture
    with pytest.raises(KeyboardInterrupt):
        gpu_kernels.main()
    assert (tmp_path / "gpu-kernels.json").read_text() == "the previous record"
    calls.clear()
    interrupted_at = None
    assert gpu_kernels.main() == 0
    assert json.loads((tmp_path / "gpu-kernels.json").read_text())["every"].keys() == gpu_kernels.ARCHITECTURES.keys()


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
    assert {(row["network"], row["backend"]) for row in rows} == {
        ("vggsnn", "fused"),
        ("vggsnn", "triton"),
        ("resnet19", "fused"),
    }
    assert all(row["passed"] for row in rows)
    assert {row[2] for row in gpu.tables(records)[0].rows} == {"yes"}
    assert [row["method"] for row in records["table1"]["table"]["rows"]] == ["none", "trainable-decay", "lsg"]
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
