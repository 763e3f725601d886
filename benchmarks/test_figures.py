"""The roofline of convolutions against hand-made figures and plain autograd; statistics of the evidence over its parts."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from benchmarks import evidence, profiling, roofline
from benchmarks.bench import cases, checking
from benchmarks.bench.steps import prepare
from lsgcli.sweeps.collect import collect
from tests.unit.sweeps.helpers import plan, write_run

TINY = cases.case("vggsnn", width=1 / 16, T=3, batch=2, size=16)


@pytest.mark.parametrize("network", ["vggsnn", "resnet19"])
def test_the_roofline_counts_the_operations_of_a_step(network):
    case = dataclasses.replace(TINY, network=network, T=2 if network == "resnet19" else 3)
    found = roofline.convolutions(case)
    counted = checking.facts(prepare(cases.CONTENDERS["floor"], case, "fp32", torch.get_num_threads()))
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


def test_p_is_corrected_over_the_rows_of_all_parts(tmp_path):
    """Differences 0.1, 0.2 and 0.3 have t = 2 sqrt(3) with 2 degrees of freedom, p = 0.0742; of two such rows, each has twice that."""
    parts = {}
    for part in ("first", "second"):
        here = plan(tmp_path / part, {"method": "fixed"}, {"method": "lsg"}, seeds=(0, 1, 2))
        for cell in here.cells():
            write_run(cell, 0.5 + (cell.config.method == "lsg") * (cell.config.seed + 1) / 10)
        parts[part] = {"rows": collect(tmp_path / part).summary()["rows"]}
    for table in evidence.tables({"tables": parts}):
        assert [row[table.head.index("p")] for row in table.rows] == ["-", "0.148"]


def test_a_row_of_which_more_than_one_run_diverged_is_unstable(tmp_path):
    accuracies = {("fixed", 0): 0.5, ("fixed", 1): None, ("fixed", 2): 0.7, ("lsg", 0): None, ("lsg", 1): None, ("lsg", 2): 0.7}
    for cell in plan(tmp_path, {"method": "fixed"}, {"method": "lsg"}, seeds=(0, 1, 2)).cells():
        write_run(cell, accuracies[cell.config.method, cell.config.seed])
    (table,) = evidence.tables({"tables": {"part": {"rows": collect(tmp_path).summary()["rows"]}}})
    assert [row[1] for row in table.rows] == ["**60.0 +- 14.1**, 1 diverged", "unstable, 2 diverged"]


@pytest.mark.parametrize(("name", "network"), [("lsg", "vggsnn"), ("Floor", "resnet19")])
def test_memory_kept_for_the_backward_pass_is_found_once(name, network):
    ready = prepare(
        cases.Contender(name, best=True), dataclasses.replace(TINY, network=network), "fp32", torch.get_num_threads()
    )
    seen = {}  # storage -> bytes
    for module in ready.built.network.modules():
        if isinstance(module, torch.nn.Conv2d):
            # The floor keeps what its convolutions read; so does lsg, and its neurons also what the convolutions put out.
            module.register_forward_hook(lambda module, args, out: seen.update(kept(out if name == "lsg" else args[0])))

    def kept(tensor):
        return {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()}

    held = profiling.memory(ready)
    expected = sum(bytes_ for pointer, bytes_ in seen.items() if pointer != ready.x.untyped_storage().data_ptr())
    part = "saved by neurons and normalisation" if name == "lsg" else "saved by convolutions"
    assert held[part] == pytest.approx(expected, rel=0.02)  # lsg: and vectors per channel
    assert held["weights"] == 4 * sum(p.numel() for p in ready.built.network.parameters())
    assert held["peak"] > 50e6
