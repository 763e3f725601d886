"""The roofline of convolutions, and whole runs beside a peer's script: their figures against hand-made ones and plain autograd."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchmarks import checking, epoch, measuring, roofline, startup, workers
from benchmarks.steps import prepare

TINY = workers.case("vggsnn", width=1 / 16, T=3, batch=2, size=16)


@pytest.mark.parametrize("network", ["vggsnn", "resnet19"])
def test_the_roofline_counts_the_operations_of_a_step(network):
    case = dataclasses.replace(TINY, network=network, T=2 if network == "resnet19" else 3)
    found = roofline.convolutions(case)
    counted = checking.facts(prepare(workers.CONTENDERS["floor"], case, "fp32", torch.get_num_threads()))
    linear = {"vggsnn": 10 * 32 * 3, "resnet19": (32 * 16 + 16 * 10) * 2}[network]
    assert sum(one.operations * count for one, count in found.items()) == 2 * case.batch * (counted["macs_per_sample"] - linear)
    assert sum(found.values()) == {"vggsnn": 8, "resnet19": 19}[network]


def test_the_passes_of_a_convolution_are_those_of_autograd(monkeypatch):
    monkeypatch.setattr(torch, "rand_like", torch.ones_like)
    one = roofline.Convolution(2, (3, 5), 8, 3, 2)
    torch.manual_seed(0)
    work = one.work("fp32")
    torch.manual_seed(0)
    x = torch.randint(0, 2, (2, 3, 8, 8), dtype=torch.uint8).float().requires_grad_()
    weight = torch.nn.Conv2d(3, 5, 3, bias=False).weight
    out = F.conv2d(x, weight, None, 2, 1)
    out.sum().backward()
    torch.testing.assert_close(work["forward"](), out)
    torch.testing.assert_close(work["gradient of the input"]()[0], x.grad)
    torch.testing.assert_close(work["gradient of the weight"]()[1], weight.grad)
    assert one.operations == 2 * weight.numel() * out.numel() // 5
    sizes = (x.numel(), weight.numel(), out.numel())
    assert [one.moved(precision) for precision in ("fp32", "bf16")] == [4 * sum(sizes), 2 * sum(sizes)]
    assert one.moved("int8") == sizes[0] + sizes[1] + 4 * sizes[2]


def kernel(name, precision, operations, moved, seconds, count=1):
    about = {"case": dataclasses.asdict(TINY), "precision": precision, "convolution": "3x3", "count": count, "pass": name}
    return {**about, "operations": operations, "bytes": moved, "seconds": {"median": seconds}}


def test_the_bound_is_the_longer_of_computing_and_moving():
    peaks = {"fp32, matrices": 50e9, "fp32, convolution": 100e9, "bandwidth, copy": 10e9, "bandwidth, sum": 8e9}
    kernels = [
        kernel("forward", "fp32", 2e9, 1e6, 0.025, 2),  # 20 ms by operations
        kernel("gradient of the weight", "fp32", 2e9, 0.3e9, 0.06, 2),  # 30 ms by bytes
    ]
    rates, sums, each = roofline.tables({"peaks": peaks, "kernels": kernels})
    assert rates.rows == [
        ("fp32", "convolution", "**100 GOP/s**", "matrices 50"),
        ("bandwidth", "copy", "**10 GB/s**", "sum 8"),
    ]
    assert sums.rows[0][1:] == ("fp32", "40.0, 50.0, **80 %**", "-", "60.0, 120.0, **50 %**", "100.0, 170.0, **59 %**")
    assert each.rows[0][1:] == (2, 2.0, 1.0, "2000", "20.0, 25.0, **80 %**", "30.0, 60.0, **50 %**, memory")


def test_a_run_counts_the_memory_of_its_processes(tmp_path, monkeypatch):
    size = 60_000_000
    child = f"import time; kept = bytearray(b'1') * {size}; print('{{\"pid\": 1}}', flush=True); time.sleep(3)"
    parent = f"import subprocess, sys; kept = bytearray(b'1') * {size}; subprocess.run([sys.executable, '-c', {child!r}])"
    (tmp_path / "parent.py").write_text(parent)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    alone = epoch.memory(os.getpid())
    found = epoch.run(["parent"])
    assert found["lines"] == [{"pid": 1}]
    assert 2 * size < found["peak_bytes"] < 2 * size + 60_000_000
    assert found["seconds"] > 3
    assert alone > 50e6
    assert epoch.memory(2**22) == 0  # no such process
    with pytest.raises(SystemExit, match=r"ended with status 1(.|\n)*No module named"):
        epoch.run(["no_such_module"])


def test_what_a_run_took_is_read_from_its_output():
    lines = [{"event": "start", "steps": 3}, {"event": "step", "epoch": 0, "step": 1}]
    lines += [
        {"event": "epoch", "epoch": epoch_, "seconds": 2.0 + epoch_, "test_accuracy": 0.5 + epoch_ / 10} for epoch_ in (0, 1)
    ]
    lines += [{"event": "end", "test_accuracy_last": 0.6}]
    ours = epoch.trained("lsg", {"seconds": 8.0, "peak_bytes": 300e6, "lines": lines})
    assert ours == {"seconds": 8.0, "peak_bytes": 300e6, "epochs_seconds": 5.0, "samples": 96, "test_accuracy": 0.6}
    lines = [{"epoch": 0, "samples": 96, "train_loss": 1.0, "test_accuracy": 0.7, "seconds": 9.0}]
    theirs = epoch.trained("spikingjelly", {"seconds": 16.0, "peak_bytes": 900e6, "lines": lines})
    record = {"recordings": 700, "runs": {"lsg": [ours] * 3, "spikingjelly": [theirs] * 3}}
    record["frames"] = {"lsg": {"seconds": 1.5, "peak_bytes": 100e6}}
    times, ratios, frames = epoch.tables(record)
    assert times.rows[0] == ("lsg", 8.0, "8 to 8", 12.0, 5.0, "300", "60.0 %")
    assert ratios.rows == [("lsg", "spikingjelly", "**2.00 x**", "2.00 to 2.00", "1.80 x", "0.33 x")]
    assert frames.rows == [("lsg", 1.5, "100")]


@pytest.mark.slow
def test_the_peers_script_trains_on_frames_of_all_events(tmp_path):
    pytest.importorskip("spikingjelly")
    rng = np.random.default_rng(0)
    for part, count in (("Train", 20), ("Test", 5)):
        for index in range(2 * count):
            events = rng.integers(1, 33, (205, 5), dtype=np.uint8)  # x, y in the middle; polarity 0
            path = tmp_path / "data" / part / str(index % 2) / f"{index:05}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            events.tofile(path)
    options = {"width": 1 / 16, "epochs": 2}
    for module in (
        epoch.preparing(tmp_path, tmp_path / "data")["spikingjelly"],
        *(epoch.command(name, tmp_path, tmp_path / "data", **options) for name in ("spikingjelly", "spikingjelly-best")),
    ):
        lines = epoch.run(module)["lines"]
    assert [(line["epoch"], line["samples"]) for line in lines] == [(0, 32), (1, 32)]
    assert all(0 <= line["test_accuracy"] <= 1 and line["train_loss"] > 0 for line in lines)
    frames = np.load(min((tmp_path / "peer").glob("frames*/train/0/*.npz")))["frames"]
    assert frames.shape == (10, 2, 34, 34)
    assert frames.sum((1, 2, 3)).tolist() == [20.0] * 9 + [25.0]


def test_cpu_time_of_commands():
    """That of the children alone, whatever else runs, and not the time that they wait."""
    busy = "import time\nwhile time.process_time() < 0.3: pass\ntime.sleep(0.5)"
    run = {"busy": lambda: subprocess.run([sys.executable, "-c", busy], check=True)}
    found = measuring.interleaved(run, rounds=2, warm=0, clock=measuring.of_children)["busy"]
    assert 0.3 <= found["min"] <= found["median"] < 0.5
    (table,) = startup.tables({"cpu": {"lsg --help": found}})
    assert table.rows[0][:2] == ("`lsg --help`", f"{found['min']:.3f}")
