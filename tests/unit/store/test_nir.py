"""NIR graphs of other programs as lsg's networks: the spikes of the library that wrote them, NIR's equation, and what is refused."""

import itertools

import nir
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lsgcli import models
from lsgcli.config.run import RunConfig
from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.export.nir import NIR
from lsgcli.export.runners import NetworkRunner
from lsgcli.store import checkpoint
from lsgcli.store.nir import is_foreign
from tests import exports, networks
from tests.nir_writers import SIZE, WRITERS

SHAPE = (3, 4, 4)  # of the neurons in graphs written here


def ends(inputs=(2, 4, 4), outputs=(5,)):
    return {"input": nir.Input(np.array(inputs)), "output": nir.Output(np.array(outputs))}


def neurons(*shape, tau=3e-4, r=1.0, v_leak=0.0, v_threshold=0.1, v_reset=0.0):
    values = {"tau": tau, "r": r, "v_leak": v_leak, "v_threshold": v_threshold, "v_reset": v_reset}
    return nir.LIF(**{key: np.broadcast_to(np.array(value, float), shape).copy() for key, value in values.items()})


def convolution(seed=0, **changes):
    rng = np.random.default_rng(seed)
    geometry = {"stride": 1, "padding": 1, "dilation": 1, "groups": 1, **changes}
    return nir.Conv2d((4, 4), rng.normal(size=(3, 2 // geometry["groups"], 3, 3)) / 3, bias=rng.normal(size=3) / 3, **geometry)


def affine(inputs=48, outputs=5):
    rng = np.random.default_rng(1)
    return nir.Affine(rng.normal(size=(outputs, inputs)) / 3, rng.normal(size=outputs) / 3)


def flatten(*shape):
    return nir.Flatten({"input": np.array(shape)}, 0, -1)


def written(path, inner, *, edges=None, metadata=None, **more):
    """Write a chain of nodes, or nodes with these edges."""
    nodes = {**ends(), **more, **inner}
    names = ["input", *inner, "output"]
    chain = list(itertools.pairwise(names)) if edges is None else edges
    nir.write(path, nir.NIRGraph(nodes, chain, metadata=metadata or {}, type_check=False))
    return path


def plain(**changes):
    """conv, LIF, flatten, linear, LIF."""
    return {
        "conv": convolution(),
        "lif": neurons(*SHAPE),
        "flatten": flatten(*SHAPE),
        "fc": affine(),
        "out": neurons(5),
        **changes,
    }


def simulated(nodes, x, dt):
    """NIR's equations with Euler steps in float64: spikes of each layer of neurons, and outputs, (T, B, ...)."""
    spikes, x = {}, x.double()
    for name, node in nodes.items():
        if isinstance(node, nir.Conv2d):
            weight, bias = torch.tensor(node.weight), torch.tensor(node.bias)
            out = F.conv2d(x.flatten(0, 1), weight, bias, node.stride, node.padding, node.dilation, node.groups)
            x = out.unflatten(0, x.shape[:2])
        elif isinstance(node, nir.Affine | nir.Linear):
            x = x.flatten(2) @ torch.tensor(node.weight).T + torch.tensor(getattr(node, "bias", 0.0))
        elif isinstance(node, nir.AvgPool2d | nir.SumPool2d):
            divisor = 1 if isinstance(node, nir.SumPool2d) else None
            sizes = [tuple(map(int, value)) for value in (node.kernel_size, node.stride, node.padding)]
            x = F.avg_pool2d(x.flatten(0, 1), *sizes, divisor_override=divisor).unflatten(0, x.shape[:2])
        elif isinstance(node, nir.LIF | nir.IF):
            leak = torch.tensor(getattr(node, "v_leak", 0.0))
            v, fired = torch.tensor(node.v_reset) + torch.zeros_like(x[0]), []
            for current in x:
                slope = torch.tensor(node.r) * current
                v = v + (dt / torch.tensor(node.tau) * (leak - v + slope) if isinstance(node, nir.LIF) else dt * slope)
                o = v > torch.tensor(node.v_threshold)
                v = torch.where(o, torch.tensor(node.v_reset), v)
                fired.append(o.double())
            x = spikes[name] = torch.stack(fired)
    return spikes, x.flatten(2)


def check_equal(path, nodes, *, dt=1e-4, inputs=(2, 4, 4)):
    """lsg's spikes and outputs are those of the equations, and every layer fires."""
    x = torch.rand(10, 6, *inputs, generator=torch.Generator().manual_seed(3)) * 4
    spikes, outputs = simulated(nodes, x, dt)
    model, _ = checkpoint.load(path)
    shaped = x if len(inputs) == 3 else x[..., None, None]
    found = NetworkRunner(model, {}).run(shaped)
    assert found.spikes.keys() == spikes.keys()
    for name, expected in spikes.items():
        assert 0.01 < expected.mean() < 0.99
        assert (found.spikes[name].reshape(expected.shape) != expected).double().mean() < 1e-3
    torch.testing.assert_close(found.logits.double(), outputs, rtol=1e-4, atol=1e-4)
    return model


@pytest.mark.parametrize("library", WRITERS)
def test_spikes_of_the_library(library, tmp_path):
    """Equal at 99.9 % of the entries, and so are the outputs."""
    pytest.importorskip(library)
    torch.manual_seed(0)
    own = WRITERS[library](tmp_path / "net.nir")
    x = 3 * torch.rand(12, 4, 2, SIZE, SIZE)
    outputs, spikes = own.run(x)
    assert is_foreign(tmp_path / "net.nir")
    model, _ = checkpoint.load(tmp_path / "net.nir")
    found = NetworkRunner(model, {}).run(x)
    assert len(found.spikes) == len(spikes) == 3
    for mine, theirs in zip(found.spikes.values(), spikes, strict=True):
        assert theirs.mean() > 0.001
        assert (mine.reshape(theirs.shape) == theirs).double().mean() >= 0.999
    assert ((found.logits - outputs).abs() < 1e-5).double().mean() >= 0.999


def test_channels_and_gains(tmp_path):
    """tau per channel and per neuron of a vector; r neither 1 nor tau / dt, before which a pool lies; a rest that is not 0."""
    tau = np.array([2e-4, 4e-4, 9e-4])[:, None, None]
    nodes = {
        "conv": convolution(),
        "pool": nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "lif": neurons(3, 2, 2, tau=4e-4, r=7.0, v_leak=-0.5, v_threshold=-0.2, v_reset=-0.5),
        "conv2": nir.Conv2d((2, 2), np.random.default_rng(5).normal(size=(3, 3, 1, 1)), 1, 0, 1, 1, np.full(3, 0.2)),
        "lif2": neurons(3, 2, 2, tau=tau, r=tau / 1e-4),
        "flatten": flatten(3, 2, 2),
        "fc": affine(12),
        "out": neurons(5, tau=[2e-4, 3e-4, 4e-4, 5e-4, 6e-4], r=1.0),
    }
    model = check_equal(written(tmp_path / "a.nir", nodes), nodes)
    layers = [layer.lif for layer in model.spiking_layers()]
    assert [lif.config.input_gain for lif in layers] == ["1", "1", "1-beta"]
    torch.testing.assert_close(layers[1].beta, torch.tensor([1 / 2, 3 / 4, 8 / 9]))
    assert [len(layer.beta.shape) for layer in layers] == [0, 1, 1]


def test_integrate_and_fire(tmp_path):
    """IF of r = 1 / dt and of another r; sums over windows with padding."""
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([1, 1]))
    nodes = {
        "conv": convolution(),
        "if": nir.IF(np.full(SHAPE, 1e4), np.full(SHAPE, 2.0), np.zeros(SHAPE)),
        "pool": pool,
        "flatten": flatten(3, 3, 3),
        "fc": affine(27),
        "out": nir.IF(np.full(5, 6e3), np.full(5, 0.5), np.zeros(5)),
    }
    model = check_equal(written(tmp_path / "a.nir", nodes), nodes)
    assert all(layer.lif.beta == 1 for layer in model.spiking_layers())


def test_integrate_and_fire_in_timesteps(tmp_path):
    """norse and sinabs write IF with r = 1 for u[t] = u[t-1] + I[t]."""
    of_timesteps = {name: nir.IF(np.ones(s), np.full(s, 2.0), np.zeros(s)) for name, s in (("lif", SHAPE), ("out", (5,)))}
    path = written(tmp_path / "a.nir", plain(**of_timesteps))
    check_equal(path, plain(**of_timesteps), dt=1)


def test_timestep_in_the_metadata(tmp_path):
    nodes = plain(lif=neurons(*SHAPE, tau=20e-3), out=neurons(5, tau=5e-3))
    check_equal(written(tmp_path / "a.nir", nodes, metadata={"dt": 1e-3}), nodes, dt=1e-3)


def test_vectors(tmp_path):
    """A network of vectors takes images of as many values; it ends without neurons."""
    nodes = {"fc": affine(32, 7), "lif": neurons(7), "last": affine(7)}
    path = written(tmp_path / "a.nir", nodes, input=nir.Input(np.array([32])))
    model = check_equal(path, nodes, inputs=(32,))
    assert model.spec.in_channels == 32


def test_groups_and_dilation(tmp_path):
    weight = np.random.default_rng(0).normal(size=(4, 1, 2, 2))
    conv = nir.Conv2d((4, 4), weight, (1, 2), (2, 1), (2, 1), 2, np.full(4, 0.1))
    out = conv.output_type["output"]
    nodes = {"conv": conv, "lif": neurons(*out), "flatten": flatten(*out), "fc": affine(int(np.prod(out)))}
    check_equal(written(tmp_path / "a.nir", nodes), nodes)


def test_checkpoint_and_graph_again(tmp_path):
    """Saved as a checkpoint and loaded, and exported as NIR and run by the interpreter of lsg's own graphs, outputs are equal."""
    pool = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    nodes = {
        "conv": convolution(),
        "before": pool,
        "lif": neurons(3, 2, 2),
        "after": pool,
        "flatten": flatten(3, 1, 1),
        "fc": affine(3),
        "out": neurons(5, v_threshold=0.01),
    }
    model = check_equal(written(tmp_path / "a.nir", nodes), nodes)
    settings = RunConfig(arch="nir", T=5, size=4, dataset="digits-dvs")
    data = {"channels": 2, "static": False, "mean": None, "std": None, "samples": "none"}
    path = networks.as_trained(tmp_path / "a.safetensors", model, [f"class {i}" for i in range(5)], settings, data)
    x = 4 * torch.rand(5, 3, 2, 4, 4)
    torch.testing.assert_close(checkpoint.load(path)[0](x), model(x), rtol=0, atol=0)
    exports.exported(path, "nir", tmp_path / "again.nir", T=5)
    assert not is_foreign(tmp_path / "again.nir")
    found = NIR().open(tmp_path / "again.nir").run(x)
    torch.testing.assert_close(found.logits, model(x), rtol=1e-5, atol=1e-5)
    assert list(found.spikes) == ["lif", "out"]
    assert all(spikes.any() for spikes in found.spikes.values())


SHAPED = np.ones(SHAPE)
CUBA = nir.CubaLIF(*(SHAPED * value for value in (1e-3, 1e-3, 1.0, 0.0, 0.1)))
BRANCHES = [("input", "conv"), ("conv", "lif"), ("lif", "flatten"), ("flatten", "fc"), ("fc", "out"), ("out", "output")]
REFUSED = {
    "cuba": (plain(lif=CUBA), "lif: found a node CubaLIF"),
    "subgraph": (plain(lif=nir.NIRGraph({**ends((5,))}, [("input", "output")])), "lif: found a node NIRGraph"),
    "tau within a channel": (plain(lif=neurons(*SHAPE, tau=np.linspace(2e-4, 9e-4, 48).reshape(SHAPE), r=1)), "lif: found tau"),
    "tau": (plain(lif=neurons(*SHAPE, tau=1e-5)), "lif: found tau 1e-05 s"),
    "thresholds": (plain(out=neurons(5, v_threshold=[0.1, 0.2, 0.3, 0.4, 0.5])), "out: found v_threshold - v_leak"),
    "negative threshold": (plain(lif=neurons(*SHAPE, v_threshold=-1)), "lif: found v_threshold -1 above v_leak"),
    "reset": (plain(lif=neurons(*SHAPE, v_reset=-0.5)), "lif: found v_reset -0.5"),
    "r per neuron": (plain(out=neurons(5, r=[1.0, 2.0, 3.0, 4.0, 5.0])), "out: found r dt / tau"),
    "scale": (plain(fc=nir.Scale(np.arange(48.0))), "fc: found a node Scale"),
    "neurons first": ({"first": neurons(2, 4, 4), **plain()}, "first: found neurons without weights before them"),
    "flatten": (plain(flatten=nir.Flatten({"input": np.array(SHAPE)}, 1, -1)), "flatten: found axes 1 to -1"),
    "infinite": (plain(conv=nir.Conv2d((4, 4), np.full((3, 2, 3, 3), np.inf), 1, 1, 1, 1, np.ones(3))), "conv: found a weight"),
    "padding": (plain(conv=convolution(padding=1000)), "conv: found a kernel (3, 3) with padding (1000, 1000)"),
    "kernel": (plain(conv=nir.Conv2d((4, 4), np.ones((3, 2, 9, 9)), 1, 0, 1, 1, np.ones(3))), "conv: found a kernel (9, 9)"),
    "weights": (plain(fc=affine(40)), "layers.2.weight: found torch.float32 of shape [5, 40]"),
    "groups": (plain(conv=nir.Conv2d((4, 4), np.ones((3, 1, 3, 3)), 1, 1, 1, 2, np.ones(3))), "conv: found 2 groups"),
    "name": ({"a\x1b[31m": convolution(), **plain(conv=flatten(2, 4, 4))}, "graph: layers[0].name: found 'a\\x1b[31m'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what, tmp_path):
    nodes, message = REFUSED[what]
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(written(tmp_path / "a.nir", nodes))
    assert f"a.nir: {'cannot build its network: ' if message.startswith('layers.') else ''}{message}" in error.value.message


@pytest.mark.parametrize(
    ("edges", "more", "message"),
    [
        ([*BRANCHES, ("out", "fc")], {}, "fc: found 2 edges into it and 1 out of it"),
        ([*BRANCHES, ("lif", "output")], {}, "lif: found 1 edges into it and 2 out of it"),
        ([*BRANCHES, ("lif", "spare")], {"spare": neurons(*SHAPE)}, "lif: found 1 edges into it and 2 out of it"),
        ([*BRANCHES, ("spare", "spare")], {"spare": neurons(*SHAPE)}, "spare: found a node apart"),
        (BRANCHES[1:], {}, "conv: found 0 edges into it and 1 out of it"),
        (BRANCHES, {"second": nir.Input(np.array([2]))}, "second: found 0 edges into it and 0 out of it"),
    ],
)
def test_only_chains(edges, more, message, tmp_path):
    """Recurrence, joins, forks, loops beside the chain, gaps, several inputs."""
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(written(tmp_path / "a.nir", plain(), edges=edges, **more))
    assert message in error.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "graph: not valid JSON"),
        ('{"input": [2, 4, 4]}', "graph: found no layers, expected one"),
        ('{"input": [2, 4, 4], "layers": []}', "graph: found no neurons after a convolution or linear layer"),
        ('{"input": [2, 4, 4], "layers": [{"kind": "pool", "name": "a"}]}', "graph: layers[0]: found no kernel"),
        ('{"input": [2, 4, 4], "layers": [{"kind": "linear", "name": "a", "out": 0}]}', "graph: layers[0].out: found 0"),
        (None, "found no graph"),
    ],
)
def test_graph_in_a_checkpoint(text, message, tmp_path):
    """A checkpoint, which may come from anyone, is checked as a file is."""
    content = checkpoint.read(written(tmp_path / "a.nir", plain()))
    settings, data = RunConfig(arch="nir").to_dict(), {"static": False, "mean": None, "std": None}
    config = {**content.config, "classes": list("abcde"), "settings": settings, "data": data}
    changed = {**config, "model": {**config["model"], "graph": text}}
    checkpoint.save(tmp_path / "a.safetensors", checkpoint.Checkpoint(content.weights, changed))
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(tmp_path / "a.safetensors")
    assert message in error.value.message


def test_without_a_graph():
    """The network alone is not an architecture to train."""
    with pytest.raises(ConfigError, match="found no graph"):
        models.build("nir", T=2, num_classes=3, in_channels=2, input_size=4)
