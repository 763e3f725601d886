"""The graph in other simulators: the same spikes in every layer, the same logits, for batches of several samples."""

import contextlib
import io
import re
from pathlib import Path

import nir
import numpy as np
import pytest
import torch

import lsgcli
from lsgcli.export.nir import NIR
from lsgcli.export.verify import KINDS, compare
from tests.exports import NETWORKS, exported, samples, saved, slow_if
from tests.nir_readers import READERS

PAGE = Path(lsgcli.__file__).parents[1] / "docs" / "nir.md"
CODE = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
FORKED = [slow_if(which != "resnet19-add", which) for which in NETWORKS if which.startswith("resnet19")]


@pytest.fixture(scope="module", params=[*NETWORKS, slow_if(True, "ms-resnet18")])
def written(request, tmp_path_factory):
    """(what was exported, path of its graph)."""
    folder = tmp_path_factory.mktemp(request.param)
    found = exported(saved(request.param, folder / "net.safetensors"), "nir", folder / "net.nir")
    return found, folder / "net.nir"


@pytest.fixture(params=READERS)
def reader(request):
    """Each simulator that is installed."""
    pytest.importorskip(request.param)
    return READERS[request.param]


def test_same_spikes(written, reader):
    """Batches of 4, one after another: each begins at rest."""
    found, path = written
    result = compare(found.written, reader(path), samples(found.content.config, 4, 4))
    assert [result[kind] for kind in KINDS] == [0, 0, 0]
    assert len(result["per_layer"]) == len(found.written.spiking_layers())
    assert result["predictions_different"] == 0
    assert result["max_logit_error"] < 1e-5


@pytest.mark.parametrize("which", FORKED)
def test_why_convolutions_of_zeros(which, reader, tmp_path):
    """Without those that put the branches into order, norse takes the second branch from the step before; others need none."""
    exported(saved(which, tmp_path / "net.safetensors"), "nir", tmp_path / "net.nir")
    graph = nir.read(tmp_path / "net.nir")
    ordering = {name for name in graph.nodes if name.endswith(".order")}
    assert len(ordering) == 2
    assert not any(graph.nodes[name].weight.any() or graph.nodes[name].bias.any() for name in ordering)
    nodes = {name: node for name, node in graph.nodes.items() if name not in ordering}
    edges = [edge for edge in graph.edges if not ordering & set(edge)]
    nir.write(tmp_path / "plain.nir", nir.NIRGraph(nodes, edges, metadata=graph.metadata))
    with_order, without = NIR().open(tmp_path / "net.nir"), reader(tmp_path / "plain.nir")
    x = next(samples(with_order.config, 4)).x
    expected, found = with_order.run(x).spikes, without.run(x).spikes
    wrong = {name for name in expected if not torch.equal(expected[name], found[name])}
    assert bool(wrong) == (reader is READERS["norse"])
    assert not any(name.startswith(("stem", "block1")) for name in wrong)


@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated:DeprecationWarning")  # norse uses it
@pytest.mark.parametrize("which", ["vggsnn", slow_if(True, "resnet19-add")])
@pytest.mark.parametrize("name", READERS)
def test_as_documented(name, which, tmp_path, monkeypatch):
    """The lines of the page, a second time too."""
    pytest.importorskip(name)
    (code,) = [code for code in CODE if f"from {name}" in code or f"import {name}" in code]
    exported(saved(which, tmp_path / "net.safetensors"), "nir", tmp_path / "net.nir")
    runner = NIR().open(tmp_path / "net.nir")
    x = next(samples(runner.config, 4)).x
    frames = x.expand(runner.T, *x.shape) if runner.static else x
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        names = {"frames": frames}
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, names)
        logits = names["logits"] if torch.is_tensor(names["logits"]) else torch.stack(names["logits"])
        assert (logits - runner.run(x).logits).abs().max() < 1e-5
        assert torch.equal(names["predictions"], runner.run(x).logits.mean(0).argmax(1))


@pytest.mark.parametrize("name", ["snntorch", "spikingjelly"])
def test_decays_per_channel_are_refused_there(name, tmp_path):
    """As the page says."""
    pytest.importorskip(name)
    exported(saved("vggsnn", tmp_path / "net.safetensors"), "nir", tmp_path / "net.nir")
    graph = nir.read(tmp_path / "net.nir")
    node = graph.nodes["conv2"]
    node.tau *= np.linspace(1, 2, len(node.tau), dtype=np.float32).reshape(-1, 1, 1)
    node.v_threshold /= np.linspace(1, 2, len(node.tau), dtype=np.float32).reshape(-1, 1, 1)
    nir.write(tmp_path / "net.nir", graph)
    with pytest.raises((AssertionError, ValueError), match=r"same for all neurons|must be uniform"):
        READERS[name](tmp_path / "net.nir")
