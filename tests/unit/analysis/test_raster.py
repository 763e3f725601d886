"""Activity of one sample against float64 numpy, and against what neurons of other libraries record themselves."""

import numpy as np
import pytest
import torch
from torch import nn

from lsgcli.analysis import activity
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF
from tests.unit.analysis import oracle
from tests.unit.analysis.test_against_numpy import B, data, flat, network
from tests.unit.analysis.test_other_libraries import Plain, Steps, batches, by_hooks, ours, plain_layers, plain_reset


def ranked(u, o):
    """Neurons (T, N) by number of spikes, then by their times, then by maximum potential."""

    def key(neuron):
        return -o[:, neuron].sum(), (-o[:, neuron]).tolist(), -u[:, neuron].max()

    return sorted(range(u.shape[1]), key=key)


def check(layer, u, o):
    """A layer of a record against u / v_th and o, (T, N)."""
    order, n = ranked(u, o), u.shape[1]
    assert (layer["neurons"], layer["active"]) == (n, (o.max(0) > 0).sum())
    assert layer["firing_rate"] == pytest.approx(o.mean())
    rows = len(layer["spikes"])
    shown = [order[k * (n - 1) // max(1, rows - 1)] for k in range(rows)]
    assert layer["spikes"] == ["".join(f"{int(fired)}" for fired in o[:, neuron]) for neuron in shown]
    ranks = {"most active": 0, "median active": (layer["active"] - 1) // 2, "silent": (layer["active"] + n - 1) // 2}
    ranks |= {"least active": n - 1, "highest potential": 0}
    for trace in layer["traces"]:
        np.testing.assert_allclose(trace["u"], u[:, order[ranks[trace["role"]]]], rtol=6e-4, atol=1e-6)


@pytest.mark.parametrize("backend", ["auto", "reference", "autograd"])
@pytest.mark.parametrize("sample", [0, B - 1])
def test_own_network_against_numpy(backend, sample):
    """Batch statistics, potentials and spikes of a network of two layers; the model is not modified."""
    net = network(backend=backend)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = activity(net.eval(), data()[0], sample)
    (x, y), *_ = flat(data())
    expected = oracle.Network(net.state_dict()).run(x, y)["layers"]
    for layer, of_oracle, params in zip(found["layers"], expected, oracle.Network(net.state_dict()).layers, strict=True):
        check(layer, of_oracle["u"][:, sample] / 0.5, of_oracle["o"][:, sample])
        assert [trace["role"] for trace in layer["traces"]] == ["most active", "median active", "silent"]
        for trace in layer["traces"]:
            assert trace["alpha"] == [pytest.approx(float(params["alpha"]) / 0.5, rel=1e-3)]
    assert found["sample"] == sample
    assert not net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


class Images(nn.Module):
    """A convolution, neurons on its images, and a mean over pixels."""

    def __init__(self, **settings):
        super().__init__()
        torch.manual_seed(2)
        fixed = {} if "method" in settings else {"method": "fixed", "width": 0.8}
        self.conv, self.lif = nn.Conv2d(2, 8, 3).double(), LIF(decay=0.6, threshold=0.5, **fixed, **settings)

    def forward(self, x):
        self.current = self.conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        self.fired = self.lif(self.current)
        return self.fired.mean((3, 4))


@pytest.mark.parametrize("elements", [1 << 18, 600])
def test_images_in_blocks(elements, monkeypatch):
    """288 neurons, of which 200 are shown; neurons are named by channel, row and column, however the layer is divided."""
    monkeypatch.setattr("lsgcli.analysis.dynamics.ELEMENTS", elements)
    net, x = Images(), torch.randn(6, 4, 2, 8, 8, dtype=torch.float64)
    (layer,) = activity(net, (x, torch.zeros(4, dtype=torch.long)), 2)["layers"]
    u, o = oracle.fire(net.conv(x.flatten(0, 1)).unflatten(0, (6, 4)).detach().numpy()[:, 2], 0.6, 0.5)
    check(layer, *(a.reshape(6, -1) for a in (u / 0.5, o)))
    assert (layer["neurons"], len(layer["spikes"])) == (288, 200)
    for trace in layer["traces"]:
        c, y, x_ = trace["neuron"]
        np.testing.assert_allclose(trace["u"], u[:, c, y, x_] / 0.5, rtol=6e-4)


def test_many_timesteps_show_fewer_neurons():
    """10,000 entries, but 50 neurons in any case."""
    x = torch.randn(400, 2, 2, 8, 8, dtype=torch.float64)
    (layer,) = activity(Images(), (x[:100], torch.zeros(2)))["layers"]
    assert len(layer["spikes"]) == 100
    (layer,) = activity(Images(), (x, torch.zeros(2)))["layers"]
    assert len(layer["spikes"]) == 50


@pytest.mark.parametrize(
    "settings", [{"neuron": "clif"}, {"neuron": "glif", "channels": 8, "steps": 6}, {"neuron": "klif"}, {"reset": "soft"}]
)
def test_potentials_reach_the_threshold_where_neurons_fire(settings):
    """Of every neuron model, also of those that run timestep by timestep."""
    net, x = Images(**settings), torch.randn(6, 4, 2, 8, 8, dtype=torch.float64)
    (layer,) = activity(net, (x, torch.zeros(4)), 3)["layers"]
    net(x)
    fired = net.fired[:, 3].detach().numpy() > 0
    assert layer["firing_rate"] == pytest.approx(fired.mean())
    for trace in layer["traces"]:
        assert (np.array(trace["u"]) >= 1).tolist() == fired[:, *trace["neuron"]].tolist()


class Fired:
    """Keeps what neurons report that run timestep by timestep."""

    def sees(self, t, u):
        return u

    def carries(self, state):
        return state

    def ends(self, current, fired, out, p):
        self.steps = fired


def test_thresholds_and_widths_that_change_over_time():
    net, x = Images(method="ds-atgo", channels=8, steps=6), torch.randn(6, 4, 2, 8, 8, dtype=torch.float64)
    (layer,) = activity(net, (x, torch.zeros(4)), 1)["layers"]
    net.lif.watcher = watcher = Fired()
    net.train()(x)

    def over_time(name):
        return (
            torch.stack([torch.as_tensor(getattr(step, name)).expand_as(step.u) for step in watcher.steps])
            .detach()
            .numpy()[:, 1]
        )

    v_th, alpha = over_time("threshold"), over_time("alpha")
    check(layer, *(a.reshape(6, -1) for a in (over_time("u") / v_th, 1.0 * (over_time("u") >= v_th))))
    for trace in layer["traces"]:
        here = (slice(None), *trace["neuron"])
        np.testing.assert_allclose(trace["alpha"], (alpha / v_th)[here], rtol=6e-4)
        assert len(set(trace["alpha"])) > 1


def test_an_image_at_every_timestep():
    """Neurons that do the same at each timestep, with their potential at each."""
    net, x = Images(), torch.randn(1, 4, 2, 8, 8, dtype=torch.float64).expand(5, 4, 2, 8, 8)
    (layer,) = activity(net, (x, torch.zeros(4)), 2)["layers"]
    u, _ = oracle.fire(net.conv(x.flatten(0, 1)).unflatten(0, (5, 4)).detach().numpy()[:, 2], 0.6, 0.5)
    for trace in layer["traces"]:
        np.testing.assert_allclose(trace["u"], u[:, *trace["neuron"]] / 0.5, rtol=6e-4)
    assert layer["traces"][0]["u"] == [layer["traces"][0]["u"][0]] * 5


@pytest.mark.parametrize(("threshold", "roles"), [(50.0, ["highest potential", "silent"]), (1e-6, None)])
def test_silent_and_saturated_layers(threshold, roles):
    net = Images()
    net.lif = LIF(method="fixed", decay=0.6, threshold=threshold, width=0.8)
    (layer,) = activity(net, (torch.rand(3, 2, 2, 8, 8).double(), torch.zeros(2)))["layers"]
    if roles:
        assert layer["active"] == 0
        assert set(layer["spikes"]) == {"000"}
        assert [trace["role"] for trace in layer["traces"]] == roles
        assert max(layer["traces"][0]["u"]) >= max(layer["traces"][1]["u"])
    net.conv.bias.data += 10
    (layer,) = activity(net, (torch.rand(3, 2, 2, 8, 8).double(), torch.zeros(2)))["layers"]
    if not roles:
        assert set(layer["spikes"]) == {"111"}
        assert [trace["role"] for trace in layer["traces"]] == ["most active", "median active", "least active"]


@pytest.mark.parametrize("sample", [-1, B])
def test_a_sample_that_the_batch_lacks(sample):
    with pytest.raises(ConfigError, match=rf"sample: found {sample}, expected 0 to {B - 1}"):
        activity(network(), data()[0], sample)


@pytest.mark.parametrize("steps", [False, True])
def test_neurons_of_another_library_have_the_same_activity(steps):
    """Our own, by an adapter that observes their module, whole or timestep by timestep."""
    (x, y), *_ = batches()
    if steps:
        found = activity(Steps(Plain), (x, y), 1, adapter=plain_layers, reset=plain_reset)
    else:
        found = activity(ours(), (x, y), 1, adapter=by_hooks)
    assert found == activity(ours(), (x, y), 1)
