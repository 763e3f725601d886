"""What makes a measurement meaningless: frozen weights, NaN, neurons in two places, adapters that contradict the module, low precision."""

import math
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from lsgcli import models
from lsgcli.analysis import Dynamics, Layer, inspect, pairs
from lsgcli.analysis.gradients import WeightGradients
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF
from tests.unit.analysis import oracle
from tests.unit.analysis.test_against_numpy import T, flat, network
from tests.unit.analysis.test_against_numpy import data as of_network

BETA, WIDTH = 0.6, 0.8


@pytest.mark.parametrize("frozen", [["classifier"], ["hidden.0"], ["hidden.1"], ["hidden", "classifier"]])
def test_frozen_weights_have_the_gradient_flow_of_trained_ones(frozen):
    net = network()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not name.startswith(tuple(frozen)))
    expected = oracle.measures(oracle.Network(net.state_dict()), flat(of_network()))
    for layer, numbers in zip(inspect(net, of_network())["layers"], expected, strict=True):
        for name in ("grad_norm", "grad_ratio", "temporal_share", "snr", "grad_zero"):
            assert layer[name] == pytest.approx(numbers[name], rel=1e-9), name
        assert layer["verdict"] == "ok"
    assert [p.requires_grad for p in net.parameters()] == [not n.startswith(tuple(frozen)) for n, _ in net.named_parameters()]


@pytest.mark.parametrize("method", ["lsg", "ds-atgo"])  # within the backend, and timestep by timestep
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_potentials_that_are_not_finite_are_found(method, value):
    net = models.build("mlp", T=T, num_classes=3, input_size=12, input_height=1, width_multiplier=1 / 16, method=method)
    with torch.no_grad():
        net.hidden[1].current.conv.weight[0].fill_(value)
    x = torch.rand(T, 5, net.spec.in_channels, 1, 12)
    flow = inspect(net, [(x, torch.zeros(5, dtype=torch.long))])
    assert flow["layers"][1]["u_mean"] is None
    assert flow["layers"][1]["verdict"] == "not-finite"
    assert flow["findings"][0]["rule"] == "not-finite"


class Shared(nn.Module):
    """The same neurons after both linear layers."""

    def __init__(self, **settings):
        super().__init__()
        self.first, self.second, self.neurons, self.last = nn.Linear(4, 6), nn.Linear(6, 6), LIF(**settings), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.neurons(self.second(self.neurons(self.first(x)))))


class Skipped(Shared):
    def forward(self, x):
        return self.last(self.second(self.first(x)))


@pytest.mark.parametrize("method", ["lsg", "ds-atgo"])
@pytest.mark.parametrize(("kind", "calls"), [(Shared, 2), (Skipped, 0)])
def test_neurons_in_two_places_or_none_are_refused(method, kind, calls):
    with pytest.raises(ConfigError, match=rf"layer neurons: its module was called {calls} times .* expected once") as caught:
        inspect(kind(method=method), [(torch.rand(T, 5, 4), torch.zeros(5, dtype=torch.long))])
    assert "in one place" in caught.value.hint


Output = namedtuple("Output", "spikes potential")


class Foreign(nn.Module):
    """Neurons of another library, with soft reset and a surrogate of its own, called with a sequence or with one timestep."""

    def __init__(self, form=None, steps=False):
        super().__init__()
        self.form, self.steps, self.u, self.o = form, steps, 0.0, 0.0

    def forward(self, current):
        outputs = []
        for now in [current] if self.steps else current:
            self.u = BETA * (self.u - 0.5 * self.o) + now
            hard = (self.u >= 0.5).to(now.dtype)
            soft = (self.u - 0.5) / WIDTH
            self.o = hard + (soft - soft.detach()) * (soft.detach().abs() < 0.5)
            outputs.append(self.o)
        o = outputs[0] if self.steps else torch.stack(outputs)
        self.u, self.o = (self.u, self.o) if self.steps else (0.0, 0.0)
        return o if self.form is None else Output(o, self.u) if self.form is Output else self.form([o, self.u])


class Foreigners(nn.Module):
    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        self.one, self.neurons, self.two = nn.Linear(8, 40), Foreign(**options), nn.Linear(40, 3)

    def forward(self, x):
        if self.neurons.steps:
            self.neurons.u = self.neurons.o = 0.0
            return torch.stack([self.two(self.spikes(self.neurons(self.one(now)))) for now in x])
        return self.two(self.spikes(self.neurons(self.one(x))))

    def spikes(self, out):
        return out.spikes if isinstance(out, Output) else out[0] if isinstance(out, tuple | list) else out


def adapter(**changes):
    p = Dynamics(torch.tensor(BETA), 0.5, WIDTH, lambda x, width: (x.abs() < width / 2) / width, "soft")

    def layers(net):
        found = [Layer(n, m, w, lambda: p, steps=m.steps) for n, m, w in pairs(net, Foreign)]
        return [Layer(**{**vars(one), **{k: v for k, v in changes.items() if k == "steps"}}) for one in found]

    p = p._replace(**{k: v for k, v in changes.items() if k != "steps"})
    return layers


def data(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return [(2 * torch.randn(6, 7, 8, generator=generator).to(dtype), torch.arange(7) % 3) for _ in range(2)]


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("form", [None, tuple, list, Output])
@pytest.mark.parametrize("width", [WIDTH, torch.tensor(WIDTH)])  # a number, too
def test_modules_of_another_library_may_return_more_than_spikes(form, steps, width):
    net = Foreigners(form=form, steps=steps)
    (layer,) = inspect(net, data(), adapter=adapter(width=width))["layers"]
    fired = []
    for x, _ in data():
        current = net.one(x).detach().double().numpy()
        u, o = np.zeros_like(current[0]), np.zeros_like(current[0])
        for now in current:
            u = BETA * (u - 0.5 * o) + now
            o = (u >= 0.5).astype(float)
            fired.append(o)
    assert layer["firing_rate"] == pytest.approx(np.mean(fired), rel=1e-9)
    assert layer["alpha"] == pytest.approx(WIDTH)
    assert layer["verdict"] == "ok"


@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {"threshold": 1.5}),
        ({}, {"threshold": 0.6}),
        ({}, {"decay": torch.tensor(0.3)}),
        ({}, {"gain": 0.5}),
        ({}, {"steps": True}),
        ({"form": tuple}, {"threshold": 1.5}),
        ({"steps": True}, {"threshold": 1.5}),
    ],
)
def test_an_adapter_that_contradicts_its_module_is_refused(options, changes):
    with pytest.raises(
        ConfigError, match=r"layer neurons: found a firing rate of 0\.\d+ in the module's output and of 0\.\d+ by the"
    ):
        inspect(Foreigners(**options), data(), adapter=adapter(**changes))


def test_a_state_that_is_kept_between_batches_is_refused():
    class Kept(Foreigners):
        def forward(self, x):
            return torch.stack([self.two(self.neurons(self.one(now))) for now in x])

    def clear(net):
        net.neurons.u = net.neurons.o = 0.0

    net = Kept(steps=True)
    inspect(net, data(), adapter=adapter(), reset=clear)
    clear(net)
    inspect(net, data()[:1], adapter=adapter())
    clear(net)

    class Detached(Kept):
        def forward(self, x):
            self.neurons.u, self.neurons.o = (torch.as_tensor(v).detach() for v in (self.neurons.u, self.neurons.o))
            return super().forward(x)

    with pytest.raises(ConfigError, match="which differ in") as caught:
        inspect(Detached(steps=True), data(), adapter=adapter())
    assert "`reset`" in caught.value.hint


def test_rounding_in_bfloat16_is_no_contradiction():
    (layer,) = inspect(Foreigners().bfloat16(), data(torch.bfloat16), adapter=adapter())["layers"]
    assert 0.1 < layer["firing_rate"] < 0.6


def test_an_output_of_another_shape_is_refused():
    class Pooling(Foreign):
        def forward(self, current):
            return super().forward(current)[..., ::2]

    net = Foreigners()
    net.neurons, net.two = Pooling(), nn.Linear(20, 3)
    with pytest.raises(ConfigError, match=r"found an output \(6, 7, 20\) of its module, expected spikes \(6, 7, 40\)"):
        inspect(net, data(), adapter=adapter())


@pytest.mark.parametrize("form", [lambda *parts: parts, Output, lambda *parts: (*parts, [None])])
def test_a_network_may_return_a_tuple(form):
    class Both(Foreigners):
        def forward(self, x):
            out = super().forward(x)
            return form(out, out.cumsum(0))

    (plain,) = inspect(Foreigners(), data(), adapter=adapter())["layers"]
    assert inspect(Both(), data(), adapter=adapter())["layers"] == [plain]
    weighed = inspect(Both(), data(), adapter=adapter(), loss=lambda outputs, y: outputs[1].square().mean())
    assert weighed["layers"][0]["grad_norm"] != plain["grad_norm"]


def test_snr_of_a_bfloat16_network():
    """Against float64; means of 300 gradients, each far from 0, would stop moving in 8 bits."""
    rng, found = np.random.default_rng(0), WeightGradients(torch.zeros(50).bfloat16())
    grads = torch.from_numpy(rng.normal(1, 0.3, (300, 50))).bfloat16()
    for grad in grads:
        found.add(grad, grad)
    values = grads.double().numpy()
    assert found.snr() == pytest.approx(np.median(np.abs(values.mean(0)) / values.std(0, ddof=1)), rel=1e-5)


@pytest.mark.parametrize("batch", [torch.rand(3, 2), (torch.rand(3, 2),), "text", None])
def test_what_is_no_mini_batch(batch):
    with pytest.raises(ConfigError, match=r"inspect: found .* as mini-batch"):
        inspect(Foreigners(), [batch], adapter=adapter())
    with pytest.raises(ConfigError, match=r"found a tensor of shape \(6, 7, 8\) as mini-batch") as caught:
        inspect(Foreigners(), data()[0], adapter=adapter())  # not in a list
    assert "[(x, y)]" in caught.value.hint
