"""NIR: the form of the graph, what is refused, and that other simulators run it with the same spikes; tests/contract has the same network."""

import contextlib
import copy
import io
import json
import operator
import re
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from torch import nn

import lsgcli
from lsgcli.config.run import RunConfig
from lsgcli.data.batches import Batch
from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.export.base import chosen
from lsgcli.export.nir import NIR, draw, execute
from lsgcli.export.verify import KINDS, compare
from lsgcli.models.base import SpikingNet
from lsgcli.models.fold import fold
from lsgcli.models.vggsnn import VGGSNN
from lsgcli.neurons import LIF, TdBatchNorm2d
from lsgcli.store.checkpoint import Checkpoint, describe
from tests.exports import NETWORKS, exported, samples, saved, slow_if
from tests.nir_readers import READERS
from tests.unit.models.helpers import sequence, small

DT = 1e-4
# Inputs that are no squares of even sides: the kernel of a linear layer, and the convolutions of zeros, take other forms.
ODD = {"vggsnn": [(16, 48), (32, 16)], "resnet19-add": [(10, 11), (9, 10)], "resnet19-sew": [(10, 9), (7, 12)]}


@pytest.fixture(scope="module", params=NETWORKS)
def written(request, tmp_path_factory):
    """(what was exported, path of its graph)."""
    folder = tmp_path_factory.mktemp(request.param)
    return exported(saved(request.param, folder / "net.safetensors"), "nir", folder / "net.nir"), folder / "net.nir"


def write(network, path, **options):
    config = {
        **describe(network),
        "classes": [f"class {i}" for i in range(network.spec.num_classes)],
        "settings": RunConfig(dataset="event-folder", T=network.T).to_dict(),
        "data": {"static": False, "mean": None, "std": None},
        "export": {
            "layers": {layer.name: {"threshold": 0.5} for layer in network.spiking_layers()},
            **{"readout": "mean", "trained_T": network.T, "lsg": "0.1", "mode": None, "quantize": None, "fold_bn": True},
        },
    }
    NIR().write(network, Checkpoint(network.state_dict(), config), path, chosen("nir", **options))
    return config


@pytest.fixture
def plain(tmp_path):
    """(a folded VGGSNN, path of its graph)."""
    network = fold(small("vggsnn", dtype=torch.float32))
    write(network, tmp_path / "net.nir")
    return network, tmp_path / "net.nir"


def frames(height, width, which):
    net = fold(small(which, dtype=torch.float32, input_size=width, input_height=height))
    return net, sequence(net, batch=3, seed=7)


def differences(network, path, x):
    """The comparison of a folded network with its file on frames x, and how many spikes differ."""
    result = compare(network, NIR().open(path), [Batch(x, torch.zeros(x.shape[1], dtype=torch.int64), 0)])
    return result, sum(result[kind] for kind in KINDS)


def test_form(written):
    """Nodes that all readers take, r = 1, tau and threshold as the Euler step of dt needs them; weights as they are."""
    found, path = written
    network = found.written
    assert not met_too_early(nir.read(path).edges)
    graph = nir.read(path)
    kinds = {type(node) for node in graph.nodes.values()}
    assert kinds <= {nir.Input, nir.Conv2d, nir.SumPool2d, nir.LIF, nir.Output}
    for layer in network.spiking_layers():
        node, beta = graph.nodes[layer.name], layer.lif.beta.item()
        for value, expected in [
            (node.r, 1),
            (node.v_leak, 0),
            (node.v_reset, 0),
            (node.tau, DT / (1 - beta)),
            (node.v_threshold, (1 - beta) * layer.lif.threshold),
        ]:
            assert value.dtype == np.float32
            np.testing.assert_allclose(value, expected, rtol=3e-7)
        assert np.unique(node.tau).size == 1
    first = network.spiking_layers()[0]
    np.testing.assert_array_equal(graph.nodes[f"{first.name}.synapse"].weight, first.synapse.weight.detach().numpy())
    np.testing.assert_array_equal(graph.nodes[f"{first.name}.synapse"].bias, first.synapse.bias.detach().numpy())


def test_at_the_threshold(tmp_path):
    """u = v_th exactly fires with us; NIR asks for more than the threshold."""
    network = fold(small("vggsnn", dtype=torch.float32))
    first = network.spiking_layers()[0]
    with torch.no_grad():
        first.synapse.weight.zero_()
        first.synapse.bias.fill_(first.lif.threshold)
    for b in torch.linspace(-3, 3, 7):
        first.lif.b.data.fill_(b)
        write(network, tmp_path / "net.nir")
        assert NIR().open(tmp_path / "net.nir").run(sequence(network)).spikes["conv1"].all()
        node = nir.read(tmp_path / "net.nir").nodes["conv1"]
        assert np.all(node.v_threshold < first.lif.threshold * DT / node.tau.astype(np.float64))


def test_about_itself(written):
    found, path = written
    network, config = found.written, found.content.config
    about = nir.read(path).metadata
    assert about["T"] == network.T
    assert about["dt"] == DT
    assert about["readout"] == "mean over T"
    assert json.loads(about["classes"]) == config["classes"]
    assert "v_threshold = (1 - beta) v_th" in about["scaling"]
    assert list(json.loads(about["layers"])) == [layer.name for layer in network.spiking_layers()]
    assert about["lsg.export_version"] == "1"
    assert json.loads(about["lsg.config"]) == json.loads(json.dumps(config))


def met_too_early(edges):
    """Edges whose target norse runs before their source: it goes depth first (nirtorch's trace_execution)."""
    order = []

    def visit(name):
        if name not in order:
            order.append(name)
            for source, target in edges:
                if source == name:
                    visit(target)

    visit("input")
    assert len(order) == len({name for edge in edges for name in edge})
    return [(source, target) for source, target in edges if order.index(source) >= order.index(target)]


@pytest.mark.parametrize(("which", "height", "width"), [(which, *size) for which, sizes in ODD.items() for size in sizes])
def test_inputs_that_are_no_squares(which, height, width, tmp_path):
    network, x = frames(height, width, which)
    write(network, tmp_path / "net.nir")
    result, different = differences(network, tmp_path / "net.nir", x)
    assert different == 0
    assert result["spikes_compared"] > 1000
    assert result["max_logit_error"] < 1e-5


@pytest.mark.parametrize("options", [{"reset": "soft"}, {"reset": "none"}, {"init_potential": "measured"}, {"neuron": "clif"}])
def test_neurons_that_nir_has_not(options):
    with pytest.raises(ConfigError, match="NIR: conv1: found neurons of"):
        draw(fold(small("vggsnn", **options)), DT)


def test_input_gain_and_learned_threshold(tmp_path):
    """The graph's neuron has the gain by itself; the threshold is the learned one."""
    options = {"input_gain": "1-beta", "threshold_learned": True, "decay": 0.4}
    net = fold(small("vggsnn", dtype=torch.float32, **options))
    with torch.no_grad():
        for layer in net.spiking_layers():
            layer.lif.q.add_(-0.4)
    write(net, tmp_path / "net.nir")
    result, different = differences(net, tmp_path / "net.nir", sequence(net, batch=3, seed=7))
    assert different == 0
    assert result["max_logit_error"] < 1e-5


def test_other_dt(tmp_path):
    """tau follows dt; the spikes stay."""
    network, x = frames(16, 16, "vggsnn")
    write(network, tmp_path / "net.nir", dt=1e-3)
    graph = nir.read(tmp_path / "net.nir")
    beta = network.spiking_layers()[3].lif.beta.item()
    np.testing.assert_allclose(graph.nodes["conv4"].tau, 1e-3 / (1 - beta), rtol=2e-7)
    assert graph.metadata["dt"] == 1e-3
    assert differences(network, tmp_path / "net.nir", x)[1] == 0


FAULTS = {
    "weight": lambda nodes: operator.imul(nodes["conv3.synapse"].weight[0, 0], 1.1),
    "bias": lambda nodes: operator.imul(nodes["conv3.synapse"].bias[:1], 1.1),
    "threshold": lambda nodes: operator.imul(nodes["conv3"].v_threshold, 1.02),
    "decay": lambda nodes: operator.imul(nodes["conv3"].tau, 1.02),
    "resistance": lambda nodes: operator.imul(nodes["conv3"].r, 1.02),
    "leak": lambda nodes: operator.iadd(nodes["conv3"].v_leak, 0.05),
    "reset": lambda nodes: operator.iadd(nodes["conv3"].v_reset, 0.05),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_part_of_the_file_counts(fault, plain):
    """The runner takes all it does from the file: each change there changes spikes."""
    network, path = plain
    x = sequence(network, batch=8)
    assert differences(network, path, x)[1] == 0
    graph = nir.read(path)
    FAULTS[fault](graph.nodes)
    nir.write(path, graph)
    assert differences(network, path, x)[1] > 0


def test_neurons_follow_their_equation():
    """tau dv/dt = (v_leak - v) + r I by forward Euler, v_reset after a spike: against a loop in double precision."""
    rng = np.random.default_rng(5)
    values = {
        "tau": rng.uniform(2e-4, 9e-4, 40),
        "r": rng.uniform(0.5, 2, 40),
        "v_leak": rng.uniform(-0.2, 0.2, 40),
        "v_threshold": rng.uniform(0.2, 0.4, 40),
        "v_reset": rng.uniform(-0.1, 0.1, 40),
    }
    currents = rng.normal(0.3, 0.6, (9, 2, 40))
    found = execute(nir.LIF(**values), torch.from_numpy(currents), DT).numpy()
    expected = np.zeros_like(currents)
    for b in range(2):
        for i in range(40):
            tau, r, leak, threshold, reset = (array[i] for array in values.values())
            v = leak
            for t in range(9):
                v += DT * ((leak - v) + r * currents[t, b, i]) / tau
                if v > threshold:
                    expected[t, b, i], v = 1, reset
    np.testing.assert_array_equal(found, expected)
    assert 0.1 < expected.mean() < 0.9


class SoftReset(LIF):
    """Neurons that subtract the threshold."""


def soft_reset(network):
    network.features[3].lif.__class__ = SoftReset


def unknown_network(network):
    network.__class__ = type(
        "OtherNet", (SpikingNet,), {name: getattr(VGGSNN, name) for name in ("forward_sequence", "spiking_layers")}
    )


def unknown_block(network):
    block = network.features[2]
    block.__class__ = type("OtherBlock", (nn.Module,), {"spiking_layer": type(block).spiking_layer})


def unfolded(network):
    network.features[1].current.norm = TdBatchNorm2d(network.spec.channels(128))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (soft_reset, "conv4: found neurons of class SoftReset"),
        (unknown_network, "found OtherNet, for which no conversion"),
        (unknown_block, "found OtherBlock, for which no conversion"),
        (unfolded, "conv2.synapse: found TdBatchNorm2d, expected it folded"),
    ],
)
def test_refused(change, message, tmp_path):
    network = fold(small("vggsnn", dtype=torch.float32))
    change(network)
    with pytest.raises(ConfigError, match=message):
        write(network, tmp_path / "net.nir")
    assert not list(tmp_path.iterdir())


def foreign(graph):
    graph.metadata = {}


def unknown_node(graph):
    graph.nodes["extra"] = nir.Scale(np.ones(graph.nodes["conv1"].input_type["input"]))
    graph.edges.remove(("conv1.synapse", "conv1"))
    graph.edges += [("conv1.synapse", "extra"), ("extra", "conv1")]


def wrong_shape(graph):
    graph.nodes["conv2.pool"].padding += 1


def lost_edge(graph):
    graph.edges.remove(("input", "conv1.synapse"))


def other_layers(**changes):
    """A graph whose metadata describe other layers."""

    def change(graph):
        graph.metadata["layers"] = json.dumps(json.loads(graph.metadata["layers"]) | changes)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (foreign, "version None"),
        (unknown_node, "Scale"),
        (wrong_shape, "expected a NIR graph, found: .*mismatch"),
        (lost_edge, "conv1.synapse"),
        (other_layers(conv2=[1, 2, 3]), "a graph that can be run"),
    ],
)
def test_graphs_that_lsg_did_not_write(change, message, plain):
    network, path = plain
    graph = nir.read(path)
    change(graph)
    nir.write(path, graph)
    with pytest.raises(CheckpointError, match=message):
        NIR().open(path).run(sequence(network))


def test_input_of_another_shape(plain):
    with pytest.raises(CheckpointError, match="a graph that can be run"):
        NIR().open(plain[1]).run(torch.zeros(3, 2, 2, 16, 24))


def test_the_same_bytes_twice(tmp_path):
    """No time, no order of a set: the file is a function of the network."""
    network = fold(small("resnet19-sew", dtype=torch.float32))
    write(network, tmp_path / "a.nir")
    write(copy.deepcopy(network), tmp_path / "b.nir")
    assert (tmp_path / "a.nir").read_bytes() == (tmp_path / "b.nir").read_bytes()


PAGE = Path(lsgcli.__file__).parents[1] / "docs" / "nir.md"
CODE = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
FORKED = [slow_if(which != "resnet19-add", which) for which in NETWORKS if which.startswith("resnet19")]


@pytest.fixture(params=READERS)
def reader(request):
    """Each simulator that is installed."""
    pytest.importorskip(request.param)
    return READERS[request.param]


@pytest.mark.parametrize("written", [*NETWORKS, slow_if(True, "ms-resnet18")], indirect=True)
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
