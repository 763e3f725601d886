"""The benchmarks of a GPU where there is none: the model of its traffic, occupancy, and a rehearsal of all parts."""

import json
import subprocess
import sys
import time

import pytest

from benchmarks import gpu, gpu_kernels, traffic
from lsgcli.sweeps.bench import cases


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
