"""NIR: the form of the graph, what it says about itself, what is refused; that it is the same network is in tests/contract."""

import copy
import json
import operator

import nir
import numpy as np
import pytest
import torch
from torch import nn

from lsgcli.config.run import RunConfig
from lsgcli.data.batches import Batch
from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.export.base import chosen
from lsgcli.export.nir import NIR, draw
from lsgcli.export.nir_runner import execute
from lsgcli.export.verify import KINDS, compare
from lsgcli.models.base import SpikingNet
from lsgcli.models.fold import fold
from lsgcli.models.vggsnn import VGGSNN
from lsgcli.neurons import LIF, TdBatchNorm2d
from lsgcli.store.checkpoint import Checkpoint, describe
from tests.exports import NETWORKS, exported, saved
from tests.unit.models.helpers import sequence, small

DT = 1e-4
# Inputs that are no squares of even sides: the kernel of a linear layer, and the convolutions of zeros, take other forms.
ODD = {"vggsnn": [(16, 48), (32, 16)], "resnet19-add": [(10, 11), (9, 10)], "resnet19-sew": [(10, 9), (7, 12)]}


@pytest.fixture(scope="module", params=NETWORKS)
def written(request, tmp_path_factory):
    """(network, path of its graph, configuration)."""
    folder = tmp_path_factory.mktemp(request.param)
    found = exported(saved(request.param, folder / "net.safetensors"), "nir", folder / "net.nir")
    return found.written, folder / "net.nir", found.content.config


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
    network, path, _ = written
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


def test_pool_is_in_the_next_weights(plain):
    """Sums of 2 x 2, and a quarter of the weights behind them; the last layer too."""
    network, path = plain
    graph = nir.read(path)
    assert graph.nodes["conv2.pool"].kernel_size.tolist() == [2, 2]
    synapse = network.spiking_layers()[2].synapse
    np.testing.assert_array_equal(graph.nodes["conv3.synapse"].weight, synapse.weight.detach().numpy() / 4)
    np.testing.assert_array_equal(graph.nodes["conv4.synapse"].weight, network.features[3].current.conv.weight.detach().numpy())
    classifier = network.classifier.weight.detach().numpy() / 4
    np.testing.assert_array_equal(graph.nodes["classifier"].weight.reshape(classifier.shape), classifier)


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
    network, path, config = written
    about = nir.read(path).metadata
    assert about["T"] == network.T
    assert about["dt"] == DT
    assert about["readout"] == "mean over T"
    assert json.loads(about["classes"]) == config["classes"]
    assert "v_threshold = (1 - beta) v_th" in about["scaling"]
    assert list(json.loads(about["layers"])) == [layer.name for layer in network.spiking_layers()]
    assert about["lsg.export_version"] == "1"
    assert json.loads(about["lsg.config"]) == json.loads(json.dumps(config))


def test_joins():
    """add sums currents in front of the block's last neurons, sew sums spikes in front of what reads them."""
    sources = {}
    for which in ("resnet19-add", "resnet19-sew"):
        for source, target in draw(fold(small(which, dtype=torch.float32)), DT).edges:
            sources.setdefault((which[9:], target), set()).add(source)
    assert sources["add", "block1.2.lif2"] == {"block1.2.lif2.synapse", "block1.1.lif2"}
    assert sources["add", "block2.1.lif2"] == {"block2.1.lif2.synapse", "block2.1.lif2.shortcut"}
    assert sources["sew", "block1.3.lif1.synapse"] == {"stem", "block1.1.lif2", "block1.2.lif2"}
    assert sources["sew", "block2.2.lif1.synapse"] == {"block2.1.lif2", "block2.1.shortcut"}


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
    network.features[2] = nn.Sequential(network.features[2])


def unfolded(network):
    network.features[1].current.norm = TdBatchNorm2d(network.spec.channels(128))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (soft_reset, "conv4: found neurons of class SoftReset.*\n.*soft reset"),
        (unknown_network, "found the network OtherNet, for which no conversion"),
        (unknown_block, "found the block Sequential, for which no conversion"),
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
        (foreign, "no lsg metadata"),
        (unknown_node, "Scale"),
        (wrong_shape, "expected a NIR graph, found: .*mismatch"),
        (lost_edge, "inputs and outputs: found"),
        (other_layers(other=[6]), "layers with neurons: found .*other"),
        (other_layers(conv2=[1, 2, 3]), "neurons of conv2: found 6"),
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
    with pytest.raises(ConfigError, match=r"found \(3, 2, 2, 16, 24\), expected .* \(2, 16, 16\)"):
        NIR().open(plain[1]).run(torch.zeros(3, 2, 2, 16, 24))


def test_the_same_bytes_twice(tmp_path):
    """No time, no order of a set: the file is a function of the network."""
    network = fold(small("resnet19-sew", dtype=torch.float32))
    write(network, tmp_path / "a.nir")
    write(copy.deepcopy(network), tmp_path / "b.nir")
    assert (tmp_path / "a.nir").read_bytes() == (tmp_path / "b.nir").read_bytes()
