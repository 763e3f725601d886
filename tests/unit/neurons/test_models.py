"""Neurons other than LIF, and methods that set thresholds, mix outputs or learn widths: against numpy, and in networks."""

import copy
import math
from unittest import mock

import numpy as np
import pytest
import torch

from lsgcli import registry
from lsgcli.analysis import lif_watchers
from lsgcli.analysis.watchers import watching
from lsgcli.errors import ConfigError
from lsgcli.neurons import LIF
from lsgcli.neurons.surrogates import Forms, integral
from tests.unit.neurons import oracle
from tests.unit.neurons import oracle_variants as variants
from tests.unit.neurons.helpers import BACKENDS, SURROGATES, close, normal

NEURONS = registry.names("neuron")
SHAPE = (2, 3, 2, 2)  # of a step


def run(layer, T, seed, mean=0.3, std=0.8):
    """Output and gradients of a layer: of the current, and of its parameters by name; with the current and the arriving gradient."""
    current, grad = normal(T, *SHAPE, seed=seed, mean=mean, std=std), normal(T, *SHAPE, seed=seed + 1000)
    leaf = current.clone().requires_grad_()
    out = layer(leaf)
    out.backward(grad)
    gradients = {name: p.grad.numpy() for name, p in layer.named_parameters() if p.grad is not None}
    return out.detach().numpy(), {"current": leaf.grad.numpy(), **gradients}, current.numpy(), grad.numpy()


def per_channel(x):
    """Sum over samples and positions of a step, or of each of T steps."""
    return x.sum((0, 2, 3)) if x.ndim == 4 else x.sum((1, 3, 4))


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("T", range(1, 7))
def test_clif(T, surrogate):
    layer = LIF(neuron="clif", method="trainable-decay", surrogate=surrogate, decay=0.5, threshold=1.0).double()
    out, found, current, grad = run(layer, T, seed=T, mean=0.6)
    beta, slope = oracle.decay(layer.b.item())
    expected, gradients = variants.clif(current, grad, beta, 1.0, 1.0, surrogate)
    assert np.array_equal(out, expected)
    assert 0.1 < out.mean() < 0.9
    assert close(found["current"], gradients["current"])
    assert close(found["b"], gradients["beta"].sum() * slope)


@pytest.mark.parametrize("carry", [True, False])
@pytest.mark.parametrize("surrogate", ["rectangular", "triangular"])
@pytest.mark.parametrize("T", [1, 2, 3, 4, 5, 8, 16, 32])
def test_ar_lif(T, surrogate, carry):
    options = {"surrogate": surrogate, "decay": 0.5, "threshold": 1.0, "threshold_learned": True, "carry_m": carry}
    layer = LIF(neuron="ar-lif", method="trainable-decay", **options).double()
    assert (layer.a.item(), layer.c.item()) == (0, 1)
    with torch.no_grad():
        layer.a.fill_(0.4)
        layer.c.fill_(-1.3)
    out, found, current, grad = run(layer, T, seed=T, mean=0.6, std=1.2)
    beta, by_b = oracle.decay(layer.b.item())
    v_th, by_q = math.log1p(math.exp(layer.q.item())), variants.sigmoid(layer.q.item())
    expected, gradients = variants.ar_lif(current, grad, beta, 1.0, v_th, surrogate, 0.4, -1.3, carry)
    assert np.array_equal(out, expected)
    assert 0.1 < out.mean() < 0.9
    assert close(found["current"], gradients["current"])
    assert close(found["a"], gradients["a"].sum())
    assert close(found["q"], gradients["threshold"].sum() * by_q)
    if T > 1:
        assert close(found["b"], gradients["beta"].sum() * by_b)
    if carry and T > 1:
        assert close(found["c"], gradients["c"].sum())
        assert T < 4 or found["c"] != 0
    else:
        assert "c" not in found


@pytest.mark.parametrize("surrogate", ["rectangular", "atan"])
@pytest.mark.parametrize("T", range(1, 7))
def test_klif(T, surrogate):
    layer = LIF(neuron="klif", method="trainable-decay", surrogate=surrogate, decay=0.5).double()
    with torch.no_grad():
        layer.k.fill_(1.3)
    out, found, current, grad = run(layer, T, seed=T)
    beta, slope = oracle.decay(layer.b.item())
    expected, gradients = variants.klif(current, grad, beta, 1.0, 0.5, surrogate, 1.3)
    assert np.array_equal(out, expected)
    assert close(found["current"], gradients["current"])
    assert close(found["b"], gradients["beta"].sum() * slope)
    assert close(found["k"], gradients["k"].sum())


@pytest.mark.parametrize("surrogate", ["rectangular", "atan"])
@pytest.mark.parametrize("T", range(1, 7))
def test_glif(T, surrogate):
    torch.manual_seed(T)
    layer = LIF(neuron="glif", method="trainable-decay", surrogate=surrogate, decay=0.25, channels=3, steps=T).double()
    with torch.no_grad():
        for p in layer.of_neuron().values():
            p.add_(normal(*p.shape, seed=p.numel(), std=0.5))
    out, found, current, grad = run(layer, T, seed=T, mean=0.6)
    beta, slope = oracle.decay(layer.b.item())
    raw = {name: p.detach().numpy()[..., None, None] for name, p in layer.of_neuron().items()}
    raw["c"] = raw["c"][:, None]
    expected, gradients = variants.glif(current, grad, beta, 1.0, surrogate, raw)
    assert np.array_equal(out, expected)
    assert close(found["current"], gradients.pop("current"))
    assert close(found["b"], gradients.pop("beta").sum() * slope)
    for name, value in gradients.items():
        assert close(found[name], per_channel(value)), name


def test_every_neuron_is_compared_with_numpy():
    """By a test of its name, here or in test_parallel; ``lif`` by those of its backends."""
    from tests.unit.neurons import test_parallel  # which imports this module

    tests = " ".join([*globals(), *vars(test_parallel)])
    own = {name for name in NEURONS if registry.get("neuron", name).__module__.startswith("lsgcli.")}
    assert {name for name in own if f"test_{name.replace('-', '_')}" not in tests} == {"lif"}


def test_glif_starts_as_in_the_source():
    """tau 0.25, v and v_re 0.5, leak 0.0625, c 0.5; gates near 0.5, different."""
    layer = LIF(neuron="glif", decay=0.25, channels=64, steps=3)
    for name, value in {"v": 0.5, "v_re": 0.5, "leak": 0.0625, "c": 0.5}.items():
        assert torch.allclose(getattr(layer, name).sigmoid(), torch.tensor(value))
    assert layer.c.shape == (3, 64)
    for name in "ABG":
        gate = getattr(layer, name)
        assert gate.abs().max() <= 0.1
        assert gate.std() > 0.03


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("options", [{}, {"reset": "soft", "detach_reset": True, "threshold_learned": True}])
def test_the_step_of_lif_is_that_of_the_backends(surrogate, options):
    """The registered neuron ``lif``, which neurons of methods inherit, gives the spikes and gradients of ``reference``."""
    layer = LIF(method="lsg", surrogate=surrogate, backend="reference", **options).double()
    out, found, _, _ = run(layer, 5, seed=1)
    again = copy.deepcopy(layer)
    again.zero_grad()
    again.neuron.fused = False
    again_out, again_found, _, _ = run(again, 5, seed=1)
    assert again.unrolled
    assert not layer.unrolled
    assert np.array_equal(out, again_out)
    assert all(close(again_found[name], value) for name, value in found.items())


@pytest.mark.parametrize("method", ["ds-atgo", "ds-atgo-paper"])
@pytest.mark.parametrize("T", range(1, 7))
def test_ds_atgo(T, method):
    """theta[t] = m + s of the batch; alpha[t] = 1 + tanh(s - 1), or theta - 1; running thresholds in evaluation."""
    layer = LIF(method=method, decay=0.2, threshold=1.0, steps=T).double()
    out, found, current, grad = run(layer, T, seed=T)
    beta, slope = oracle.decay(layer.b.item())
    thetas = []

    def aim(u):
        deviation = u.std(ddof=1)
        thetas.append(u.mean() + deviation)
        return thetas[-1], 1 + np.tanh((deviation if method == "ds-atgo" else thetas[-1]) - 1)

    expected = oracle.lif(current, grad, beta, 1.0, 1.0, "rectangular", aim=aim)
    assert np.array_equal(out, expected.o)
    assert close(found["current"], expected.d_current)
    if T > 1:
        assert close(found["b"], expected.d_beta.sum() * slope)
    assert torch.equal(layer.theta, torch.ones(T).double())
    layer.end_step()
    running = 0.9 + 0.1 * np.array(thetas)
    assert close(layer.theta, running)
    layer.eval()
    still = iter(running)
    expected = oracle.lif(current, grad, beta, 1.0, 1.0, "rectangular", aim=lambda u: (next(still), 1.0))
    assert np.array_equal(layer(torch.tensor(current)).numpy(force=True), expected.o)
    layer.end_step()
    assert close(layer.theta, running)
    assert "theta" in layer.state_dict()


@pytest.mark.parametrize("T", [1, 2, 3, 5, 8, 16, 32])
def test_deeptage(T):
    """do/du = 1 / (1 + pi^2 (x/d)^2), d[t] = s[t]/s[1] / 4 + 3/4, twice that at --width 2; a width of 2 in evaluation."""
    layer = LIF(method="deeptage", surrogate="atan", width=2.0, threshold=0.7, decay=0.5).double()
    out, found, current, grad = run(layer, T, seed=T, mean=0.2 * T**0.5)
    beta, distances, widths = oracle.decay(layer.b.item())[0], [], []

    def aim(u):
        distances.append(np.mean([np.sqrt(((sample - 0.7) ** 2).sum()) for sample in u]))
        widths.append(2 * (0.25 * distances[-1] / distances[0] + 0.75))
        return 0.7, widths[-1]

    with_peak_1 = {"with peak 1": lambda x, d: 1 / (1 + np.pi**2 * (x / d) ** 2)}
    with mock.patch.dict(oracle.SURROGATES, with_peak_1):
        expected = oracle.lif(current, grad, beta, 2.0, 0.7, "with peak 1", aim=aim)
        assert np.array_equal(out, expected.o)
        assert close(found["current"], expected.d_current)
        assert T == 1 or np.ptp(widths) > 0.01
        leaf = torch.tensor(current, requires_grad=True)
        layer.eval()(leaf).backward(torch.tensor(grad))
        assert close(leaf.grad, oracle.lif(current, grad, beta, 2.0, 0.7, "with peak 1").d_current)


@pytest.mark.parametrize("surrogate", ["rectangular", "sigmoid"])
@pytest.mark.parametrize("width_as", ["log", "slope"])
@pytest.mark.parametrize("T", range(1, 7))
def test_asgl(T, width_as, surrogate):
    """Mixed outputs and their gradients, that of the width included; in evaluation v_th times spikes."""
    options = {"method": "asgl", "surrogate": surrogate, "width": 1.4, "smooth": 0.4, "threshold": 0.7, "decay": 0.5}
    options["width_as"] = width_as
    layer = LIF(**options).double()
    torch.manual_seed(T)
    out, found, current, grad = run(layer, T, seed=T)
    torch.manual_seed(T)
    smooth = np.stack([torch.rand(SHAPE, dtype=torch.float64).numpy() < 0.4 for _ in range(T)])
    beta, slope = oracle.decay(layer.b.item())
    # alpha as a function of the parameter, and its derivative
    width = math.exp(layer.log_width.item()) if width_as == "log" else 4 / layer.slope.item()
    by_parameter = width if width_as == "log" else -(width**2) / 4
    assert width == pytest.approx(1.4)
    assert layer.alpha.item() == pytest.approx(1.4)
    expected, gradients = variants.asgl(current, grad, beta, width, 0.7, surrogate, smooth)
    assert close(out, expected)
    assert close(found["current"], gradients["current"])
    assert close(found["log_width" if width_as == "log" else "slope"], gradients["width"].sum() * by_parameter)
    if T > 1:
        assert close(found["b"], gradients["beta"].sum() * slope)
    assert not np.isin(out, [0, 0.7]).all()
    plain, leaf = oracle.lif(current, 0.7 * grad, beta, width, 0.7, surrogate), torch.tensor(current, requires_grad=True)
    out = layer.eval()(leaf)
    out.backward(torch.tensor(grad))
    assert close(out, 0.7 * plain.o)
    assert close(leaf.grad, plain.d_current, 1e-6)


def test_asgl_with_mp_init():
    """The average is over the neurons whose u reached the threshold, not weighted by what they pass on."""
    layer = LIF(method="asgl", surrogate="sigmoid", width=1.4, smooth=0.5, decay=0.5, init_potential="measured").double()
    torch.manual_seed(0)
    _, _, current, _ = run(layer, 4, seed=1)
    torch.manual_seed(0)
    u, o, fired = np.zeros(SHAPE), np.zeros(SHAPE), np.zeros(SHAPE, bool)
    for t in range(4):
        smooth = torch.rand(SHAPE, dtype=torch.float64).numpy() < 0.5
        u = 0.5 * u * (1 - o) + current[t]
        o = np.where(smooth, variants.sigmoid(4 / 1.4 * (u - 0.5)), u >= 0.5)
        fired |= u >= 0.5
    layer.end_step()
    assert layer.initial.item() == pytest.approx(0.1 * (u * (1 - o))[fired].mean(), rel=1e-6)
    assert 0.1 < fired.mean() < 0.9


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("T", range(1, 7))
def test_trsg_with_mp_init(T, backend):
    options = {"method": "trsg", "reset": "soft", "input_gain": "1-beta", "init_potential": "measured"}
    layer = LIF(decay=0.5, threshold=1.0, backend=backend, **options).double()
    with torch.no_grad():
        layer.q.fill_(0.3)
        layer.initial.fill_(0.37)
    out, found, current, grad = run(layer, T, seed=T, mean=0.8, std=1.2)
    (beta, of_b), v_th = oracle.decay(layer.b.item()), math.log1p(math.exp(0.3))
    expected, gradients = variants.trsg(current, grad, beta, v_th, layer.initial.item())
    assert close(out, expected)
    assert close(found["current"], gradients["current"])
    assert close(found["b"], gradients["beta"].sum() * of_b)
    assert close(found["q"], gradients["threshold"].sum() * variants.sigmoid(0.3))
    u, w = layer.initial.item() + np.zeros(SHAPE), None
    w = u
    fired = np.zeros(SHAPE, bool)
    for t in range(T):
        u = beta * w + (1 - beta) * current[t]
        w = u - v_th * (u >= v_th)
        fired |= u >= v_th
    before = layer.initial.item()
    layer.end_step()
    assert layer.initial.item() == pytest.approx(0.9 * before + 0.1 * w[fired].mean(), rel=1e-9)


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_integrals(surrogate):
    """The derivative of each integral is the surrogate, and it runs from 0 to 1, through 1/2 unless the surrogate is asymmetric."""
    x = torch.linspace(-3, 3, 601, dtype=torch.float64).requires_grad_()
    H = integral(registry.get("surrogate", surrogate))(x, torch.tensor(0.83, dtype=torch.float64))
    (slope,) = torch.autograd.grad(H.sum(), x)
    h = registry.get("surrogate", surrogate)(x.detach().clone(), torch.tensor(0.83, dtype=torch.float64))
    corners = torch.tensor([0.0, 0.415, 0.83], dtype=torch.float64)
    away = ((x.detach().abs()[:, None] - corners).abs() > 1e-6).all(1)
    assert close(slope[away], h[away])
    ends = integral(registry.get("surrogate", surrogate))(torch.tensor([-1e6, 0.0, 1e6]).double(), torch.tensor(0.83).double())
    assert ends.tolist() == pytest.approx([0, 0.25 if surrogate == "a2sg" else 0.5, 1], abs=1e-6)


def test_an_integral_belongs_to_the_name_of_its_surrogate():
    """The function may have another one, even that of another surrogate."""
    x, one = torch.tensor([0.25]).double(), torch.tensor(1.0).double()
    before = integral(registry.get("surrogate", "sigmoid"))(x, one).item()
    with mock.patch.dict(registry._entries):

        @registry.register("surrogate", "a-box")
        @Forms(integral=lambda x, width: (x / width + 0.5).clamp(0, 1))
        def sigmoid(x, width):
            return (1 / width).where(x.abs() < width / 2, 0)

        assert integral(registry.get("surrogate", "a-box"))(x, one).item() == 0.75
        assert integral(registry.get("surrogate", "sigmoid"))(x, one).item() == before != 0.75
        assert LIF(method="asgl", surrogate="a-box")


@pytest.mark.parametrize("name", ["neuron=clif", "method=ds-atgo"])
def test_observed(name):
    """Coverage and firing rate are those of the potentials that fire; gradients without recurrence are those of a cut state."""
    key, value = name.split("=")
    layer = LIF(**{"method": "lsg", key: value}, steps=4).double()
    net = torch.nn.Sequential(torch.nn.Linear(3, 5).double(), layer)
    x, grad = normal(4, 6, 3, seed=1, std=2.0), normal(4, 6, 5, seed=2)
    with watching(lif_watchers.layers(net), full=True) as watchers:
        out = net(x)
        out.backward(grad, retain_graph=True)
        (watcher,) = watchers.values()
        whole, net[0].weight.grad = net[0].weight.grad, None
        watcher.spatial = True
        out.backward(grad)
        watcher.spatial = False
        watcher.finish()
    totals = {name: total.sum().item() for name, total in watcher.sums.values.items()}
    assert totals["spikes"] == out.sum().item()
    assert 0 < totals["inside"] < totals["n"] == out.numel()
    assert 0 < totals["du"] <= totals["n"]
    assert not close(whole, net[0].weight.grad)
    layer.watcher = None
    current = net[0](x).detach()
    if key == "neuron":  # dL/du[t] = g h(u[t] - v_th), with u from numpy
        beta = layer.beta.item()
        spikes, w, m, d = [], np.zeros((6, 5)), np.zeros((6, 5)), []
        for t in range(4):
            u = beta * w + current[t].numpy()
            o = (u >= 0.5).astype(float)
            m = m * variants.sigmoid((1 - beta) * u) + o
            w = u - o * (0.5 + variants.sigmoid(m))
            spikes.append(o)
            d.append(grad[t].numpy() * oracle.SURROGATES["rectangular"](u - 0.5, layer.alpha.item()))
        assert np.array_equal(out.detach().numpy(), np.stack(spikes))
        assert close(net[0].weight.grad, np.einsum("tbo,tbi->oi", np.stack(d), x.numpy()))


GLIF = {"neuron": "glif", "channels": 3}


# EFFECTS in tests/unit/config/test_config.py has further pairs.
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"neuron": "glif"}, "without channels"),
        ({**GLIF, "threshold": 1.0}, "below 1"),
        ({**GLIF, "method": "ds-atgo"}, "neuron: found 'glif'"),
        ({"neuron": "klif", "detach_reset": True}, "detach_reset: found True"),
        ({"method": "ds-atgo", "reset": "soft"}, "reset: found 'soft'"),
        ({"method": "ds-atgo", "threshold_learned": True}, "threshold_learned: found True"),
    ],
)
def test_refused(options, named):
    with pytest.raises(ConfigError, match=named):
        LIF(**options)


def test_a_neuron_in_another_package():
    """A registered class is a neuron: named states and parameters, any method; the layer's own type stays LIF."""
    from lsgcli.neurons.models import Neuron

    class Leakless(Neuron):
        """u = u' + I, never reset."""

        states = ("u",)

        def step(self, current, state, p, fire):
            u = state["u"] + current
            return fire(u, p.threshold), {"u": u}

    registry._entries["neuron", "leakless"] = Leakless
    try:
        current = normal(4, 2, 3, seed=1, mean=0.2)
        assert torch.equal(LIF(neuron="leakless").double()(current), (current.cumsum(0) >= 0.5).double())
        assert "leakless" in registry.names("neuron")
    finally:
        del registry._entries["neuron", "leakless"]
