"""Networks of other libraries, by the adapters of the documentation, against our own neurons with the same weights."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lsgcli import registry
from lsgcli.analysis import Dynamics, Layer, Sample, equivalent_width, height_of, inspect, lif_watchers, pairs
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF, initial_state, step
from tests.unit.analysis.recording import recorded

T, B, FEATURES, HIDDEN, WIDTH, BETA = 6, 5, 10, 16, 0.8, 0.6


def adapter(name, library):
    pytest.importorskip(library)
    path = Path(__file__).parents[3] / "docs" / "adapters" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Sequence(nn.Module):
    """linear, neurons, linear, neurons, linear, each over the whole sequence."""

    def __init__(self, neurons):
        super().__init__()
        torch.manual_seed(0)
        self.parts = nn.Sequential(
            nn.Linear(FEATURES, HIDDEN), neurons(), nn.Linear(HIDDEN, HIDDEN), neurons(), nn.Linear(HIDDEN, 3)
        ).double()

    def forward(self, x):
        return self.parts(x)


class Steps(Sequence):
    """The same, one step after the other; neurons may give their potential, too."""

    def forward(self, x):
        state, outputs = {}, []
        for now in x:
            for index, part in enumerate(self.parts):
                now = part(now, state[index]) if index in state else part(now)
                if isinstance(now, tuple):
                    now, state[index] = now
            outputs.append(now)
        return torch.stack(outputs)


def batches(n=2):
    generator = torch.Generator().manual_seed(3)
    return [
        (
            2 * torch.randn(T, B, FEATURES, generator=generator, dtype=torch.float64),
            torch.randint(0, 3, (B,), generator=generator),
        )
        for _ in range(n)
    ]


def ours(**changes):
    return Sequence(lambda: LIF(method="fixed", decay=BETA, threshold=0.5, width=WIDTH, **changes))


class Rectangular(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * registry.get("surrogate", "rectangular")(x, torch.tensor(WIDTH))


def compare(found, expected, leave_out=()):
    """Every number of two records, but those that are called so."""
    for one, other in zip(found["layers"], expected["layers"], strict=True):
        same(*({**r["per_step"], **r["u_std_predicted"], **r["histogram"], **r["drift"], **r} for r in (one, other)), leave_out)


def same(one, other, leave_out):
    parts = {"name", "reason", "per_step", "u_std_predicted", "gain_predicted", "drift", "histogram"}
    for key in one.keys() - parts - set(leave_out):
        if isinstance(one[key], str) or one[key] is None:
            assert one[key] == other[key], key
        else:  # a width that was found by adding up is exact to 1e-5
            here, there = ([v for v in np.atleast_1d(r[key]) if v is not None] for r in (one, other))
            assert here == pytest.approx(there, rel=1e-4, abs=2e-5), key


def by_hooks(net):
    """Our neurons as any other library's."""
    return [Layer(one.name, one.module, one.weight, one.dynamics) for one in lif_watchers.layers(net)]


@pytest.mark.parametrize("threads", [1, 2])
def test_hooks_see_what_the_backend_sees(threads):
    torch.set_num_threads(threads)
    try:
        compare(inspect(ours(), batches(), detailed=True, adapter=by_hooks), inspect(ours(), batches(), detailed=True))
    finally:
        torch.set_num_threads(1)


class Skipping(Sequence):
    """What enters the first neurons goes on to the second as well, past them."""

    def forward(self, x):
        first, neurons, second, others, last = self.parts
        current = first(x)
        return last(others(second(neurons(current)) + 0.3 * current))


def test_a_current_that_others_read_too():
    net = Skipping(lambda: LIF(method="fixed", decay=BETA, threshold=0.5, width=WIDTH))
    found = inspect(net, batches(), detailed=True, adapter=by_hooks)
    compare(found, inspect(net, batches(), detailed=True))
    assert found["layers"][0]["grad_zero"] > 0.1


class Plain(nn.Module):
    """Our equations, called step by step: the tensor of spikes that it gives is the one that its reset reads."""

    def __init__(self):
        super().__init__()
        self.state = None

    def forward(self, current):
        (p,) = (
            LIF(method="fixed", decay=BETA, threshold=0.5, width=WIDTH)
            .double()
            .parameters_for(current[None])
            .each_step(current[None])
        )
        o, self.state = step(current, self.state or initial_state(current), p)
        return o


def plain_layers(net):
    p = next(iter(lif_watchers.layers(ours()))).dynamics()
    return [Layer(name, module, weight, lambda: p, steps=True) for name, module, weight in pairs(net, Plain)]


def plain_reset(net):
    for module in net.modules():
        if isinstance(module, Plain):
            module.state = None


def test_spikes_that_the_reset_reads_too():
    found = inspect(Steps(Plain), batches(), detailed=True, adapter=plain_layers, reset=plain_reset)
    compare(found, inspect(ours(), batches(), detailed=True))


@pytest.mark.parametrize(("strict", "spikes"), [(False, [0.0, 1.0, 1.0]), (True, [0.0, 0.0, 1.0])])
def test_a_neuron_at_the_threshold(strict, spikes):
    u = torch.tensor([0.4, 0.5, 0.6])
    p = Dynamics(torch.tensor(0.5), 0.5, torch.ones(()), registry.get("surrogate", "triangular"), strict=strict)
    assert p.fires(u, torch.empty(3)).tolist() == spikes


@pytest.mark.parametrize("mode", ["m", "s"])
def test_spikingjelly(mode):
    jelly = adapter("spikingjelly_lif", "spikingjelly")
    from spikingjelly.activation_based import neuron, surrogate

    def neurons():
        settings = {"decay_input": False, "v_threshold": 0.5, "v_reset": 0.0, "step_mode": mode}
        return neuron.LIFNode(1 / (1 - BETA), surrogate_function=surrogate.Rect(alpha=1 / WIDTH), **settings)

    net = (Sequence if mode == "m" else Steps)(neurons)
    compare(
        inspect(net, batches(), detailed=True, adapter=jelly.layers, reset=jelly.reset),
        inspect(ours(), batches(), detailed=True),
    )


# The reset's gradient is detached there, and with it what comes through it.
THROUGH_RESET = {"grad_norm", "grad_ratio", "grad_relative", "grad_zero", "grad_zero_weight"}
THROUGH_RESET |= {"gain", "gain_between", "temporal_share", "snr"}


@pytest.mark.parametrize("hidden", [False, True])
def test_snntorch(hidden):
    snn = adapter("snntorch_leaky", "snntorch")
    import snntorch

    def neurons():
        grad = Rectangular.apply
        return snntorch.Leaky(BETA, threshold=0.5, spike_grad=grad, reset_mechanism="zero", init_hidden=hidden)

    found = inspect(Steps(neurons), batches(), adapter=snn.layers, reset=snn.reset)
    compare(found, inspect(ours(), batches()), leave_out=THROUGH_RESET)
    assert all(0 < layer["temporal_share"] < 1 for layer in found["layers"])


def own_rates(net, kind, reset, data):
    """Firing rates of modules of a class, from their own spikes."""
    calls = recorded(net, kind, lambda: [(reset(net), net(x)) for x, _ in data])
    return {name: float(torch.stack([spikes.mean() for _, spikes in own]).mean()) for name, own in calls.items()}


@pytest.mark.parametrize("settings", [{}, {"v_reset": None}, {"v_reset": -0.2}, {"decay_input": True}])
def test_spikingjelly_fires_as_the_adapter_says(settings):
    jelly = adapter("spikingjelly_lif", "spikingjelly")
    from spikingjelly.activation_based import neuron

    changed = {"decay_input": False, "v_threshold": 0.5, "v_reset": 0.0, "step_mode": "m", **settings}
    net = Sequence(lambda: neuron.LIFNode(2.5, **changed))
    rates = own_rates(net, neuron.LIFNode, jelly.reset, batches())
    found = inspect(net, batches(), adapter=jelly.layers, reset=jelly.reset)
    assert {layer["name"]: layer["firing_rate"] for layer in found["layers"]} == pytest.approx(rates)
    assert rates["parts.1"] > 0.05
    assert found["layers"][0]["alpha"] == pytest.approx(1.0, rel=1e-4)  # of Sigmoid(alpha=4)
    assert found["layers"][0]["temporal_share"] > 0


@pytest.mark.parametrize("mechanism", ["subtract", "zero", "none"])
def test_snntorch_fires_as_the_adapter_says(mechanism):
    snn = adapter("snntorch_leaky", "snntorch")
    import snntorch

    net = Steps(lambda: snntorch.Leaky(0.7, threshold=0.5, reset_mechanism=mechanism, init_hidden=True)).float()
    data = [(x.float(), y) for x, y in batches()]  # which its own surrogates turn everything into
    rates = own_rates(net, snntorch.Leaky, snn.reset, data)
    found = inspect(net, data, adapter=snn.layers, reset=snn.reset)
    assert {layer["name"]: layer["firing_rate"] for layer in found["layers"]} == pytest.approx(rates)
    assert min(rates.values()) > 0.05


def test_snntorch_of_a_kind_that_is_not_mapped():
    snn = adapter("snntorch_leaky", "snntorch")
    import snntorch

    with pytest.raises(ValueError, match="reset_delay"):
        snn.dynamics(snntorch.Leaky(0.7, reset_delay=False))


class Smooth(nn.Module):
    """Neurons without a reset whose output is sigmoid(k (u - v_th)): their surrogate is the true derivative."""

    k = 3.0

    def forward(self, current):
        u, outputs = torch.zeros_like(current[0]), []
        for now in current:
            u = BETA * u + now
            outputs.append(torch.sigmoid(self.k * (u - 0.5)))
        return torch.stack(outputs)


def test_mismatch_of_a_smooth_network_is_1():
    def layers(net):
        height = height_of(lambda x: torch.sigmoid(Smooth.k * x))
        p = Dynamics(torch.tensor(BETA), 0.5, equivalent_width(height), height, "none")
        return [Layer(name, module, weight, lambda: p) for name, module, weight in pairs(net, Smooth)]

    found = inspect(Sequence(Smooth), batches(1), adapter=layers, sample=Sample(40, step=1e-4))
    assert [layer["mismatch"] for layer in found["layers"]] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert found["layers"][0]["alpha"] == pytest.approx(4 / Smooth.k, rel=1e-5)


@pytest.mark.parametrize("name", registry.names("surrogate"))
def test_equivalent_width_of_our_own_shapes(name):
    shape = registry.get("surrogate", name)
    found = equivalent_width(lambda x, _: shape(x, torch.tensor(0.7, dtype=torch.float64)))
    assert float(found) == pytest.approx(0.7, rel=1e-4)


def test_neurons_that_are_called_otherwise_than_the_adapter_says():
    class Twice(Sequence):
        def forward(self, x):
            return self.parts(x[:3]).mean(0) + self.parts(x[3:]).mean(0)

    net = Twice(lambda: LIF(decay=BETA))
    with pytest.raises(ConfigError, match=r"parts\.1: its module was called 2 times"):
        inspect(net, batches(1), adapter=by_hooks)


def test_no_batches():
    with pytest.raises(ConfigError, match="no mini-batches"):
        inspect(ours(), [])


def test_modules_in_another_order_than_they_run_are_refused():
    """All neurons would be paired with the last weights."""
    net = nn.ModuleDict(
        {"synapses": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]), "neurons": nn.ModuleList([LIF(), LIF()])}
    )
    with pytest.raises(ConfigError, match=r"the neurons neurons\.0 and neurons\.1 registered after the same weights"):
        list(pairs(net, LIF))
