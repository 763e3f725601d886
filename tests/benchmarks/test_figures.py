"""Records and their table, passes of a convolution, statistics of the evidence over its parts, and memory by part."""

import dataclasses
import gzip
import json

import pytest
import torch
from torch.nn import functional as F

from benchmarks import evidence, measuring, profiling, zeros
from benchmarks.bench import cases
from benchmarks.bench.steps import prepare
from lsgcli.sweeps.collect import collect
from tests.unit.sweeps.helpers import plan, write_run

TINY = cases.case("vggsnn", width=1 / 16, T=3, batch=2, size=16)


def test_the_passes_of_a_convolution_are_those_of_autograd(monkeypatch):
    monkeypatch.setattr(torch, "rand_like", torch.ones_like)
    one = zeros.Convolution(2, (3, 5), 8, 3, 2)
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


def test_records_of_an_experiment_are_one_table_of_the_same_bytes(tmp_path):
    for name, record in {"step-b": {"x": [1, None]}, "step-a": {"x": 2}, "step-a-quick": {"x": 3}}.items():
        path = measuring.write(name, record, tmp_path)
    assert path.name == "quick.json.gz"  # a look is kept apart
    content = (tmp_path / "step.json.gz").read_bytes()
    assert json.loads(gzip.decompress(content)) == {"step-a": {"x": 2}, "step-b": {"x": [1, None]}}
    measuring.change("step-a", lambda old: {"x": old["x"] + 1}, tmp_path)
    assert measuring.read("step-a", tmp_path) == {"x": 3}
    assert measuring.read("step-c", tmp_path) is None
    measuring.write("step-a", {"x": 2}, tmp_path)
    assert (tmp_path / "step.json.gz").read_bytes() == content
