"""What holds for every registered surrogate, method, backend and network, whoever adds it."""

import re

import pytest
import torch

from lsgcli import models, registry
from lsgcli.config.run import RULES, RunConfig
from lsgcli.models.base import SpikingNet
from lsgcli.models.fold import fold
from lsgcli.neurons import LIF, LIFParameters
from lsgcli.neurons.kernels.reference import reference
from lsgcli.neurons.unrolled import Unrolled
from lsgcli.neurons.widths import LayerState
from tests.exports import slow_if
from tests.unit.neurons.helpers import EAGER


def own(value):
    return {"width": value + 1, "sigma": value, "ratio": value + 1, "log_width": value, "u_mean": value, "u_std": value}


def lif_runs(**arguments):
    """Forward and backward of a layer with these arguments: spikes are 0 or 1, gradients finite and not all 0."""
    layer = LIF(**arguments)
    current = torch.randn(4, 2, 3, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    spikes = layer(current)
    spikes.sum().backward()
    assert spikes.shape == current.shape
    assert layer.neuron.graded or set(spikes.detach().unique().tolist()) == {0, 1}
    assert current.grad.isfinite().all()
    assert current.grad.any()
    for parameter in layer.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()
    return layer


@pytest.mark.parametrize("surrogate", registry.names("surrogate"))
def test_surrogate(surrogate):
    """Area 1 and peak 1/width, for a number and for a tensor; and a layer runs with it."""
    h, width = registry.get("surrogate", surrogate), torch.tensor(0.6, dtype=torch.float64)
    y = torch.pi * ((torch.arange(100_001, dtype=torch.float64) + 0.5) / 100_001 - 0.5)
    x = width * y.tan()  # the whole line
    area = (h(x, width) * width / y.cos().square()).sum() * torch.pi / len(y)
    assert area.item() == pytest.approx(1, abs=1e-3)
    assert h(x, 0.6).max().item() == pytest.approx(1 / 0.6, rel=1e-4)  # the peak may lie between two points
    assert h(x, width).dtype == torch.float64
    lif_runs(surrogate=surrogate, method="lsg", backend="reference")  # compiled, in row 34 of the fault table


@pytest.mark.parametrize("method", registry.names("method"))
def test_method(method):
    """The width is positive, broadcasts like the decay, and has no gradient; b is learned where the method says so."""
    layer = lif_runs(method=method, width=1.0)
    assert bool(list(layer.parameters())) == layer.method.learns_decay
    assert not layer.alpha.requires_grad
    assert layer.method.width.formula
    one = torch.tensor(1.0)
    for beta in (torch.tensor(0.3), torch.tensor([0.1, 0.9])):
        for T in (1, 3):
            alpha = layer.method.width.alpha(LayerState(T, 0.5, beta, width=one, gamma=2 * one, own=own(one)))
            assert (alpha > 0).all()
            assert alpha.isfinite().all()
            per_step = alpha.dim() > beta.dim()
            assert torch.broadcast_shapes(alpha.shape[per_step:], beta.shape) == beta.shape
            assert not per_step or len(alpha) == T


PER = ("layer", "channel")
MODELS = [{"neuron": name} for name in registry.names("neuron")]
MODELS += [{"method": name} for name in registry.names("method") if registry.get("method", name).neuron]


def contradictions(layer):
    """Declarations of a layer's neuron that its behaviour in training contradicts."""
    neuron = layer.neuron
    current = torch.randn(4, 2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    p = layer.parameters_for(current)
    backend = layer.implementation if layer.unrolled else Unrolled(layer)

    def spikes_and_gradients(backend):
        leaf = current.clone().requires_grad_()
        spikes = backend(leaf, p)
        return torch.stack([spikes, *torch.autograd.grad(spikes.sum(), leaf)])

    first, again = spikes_and_gradients(backend), spikes_and_gradients(backend)
    found = {
        "learns": any(isinstance(tensor, torch.nn.Parameter) for tensor in neuron.tensors(3, 4).values()),
        "draws": not torch.equal(first, again),
        "fused": torch.allclose(first, spikes_and_gradients(reference)),
    }
    return [
        f"{type(neuron).__name__}.{name}: found {getattr(neuron, name)}, expected {value}"
        for name, value in found.items()
        if value != getattr(neuron, name)
    ]


@pytest.mark.parametrize("settings", MODELS, ids=lambda settings: "-".join(settings.values()))
def test_what_a_neuron_declares(settings):
    assert not contradictions(LIF(**settings, channels=3, steps=4))


@pytest.mark.parametrize("gamma", [0.0, -0.5])
@pytest.mark.parametrize("method", registry.names("method"))
def test_method_of_a_dead_layer(method, gamma):
    """A width is divided by: it stays above 0 where u has stood still, and whatever becomes of the tdBN's weights."""
    zero = torch.tensor(0.0)
    alpha = registry.get("method", method).width.alpha(LayerState(2, 0.5, zero, zero + 1, zero + gamma, own=own(zero)))
    assert (alpha > 1e-3).all()


@pytest.mark.parametrize("method", registry.names("method"))
@pytest.mark.parametrize(
    ("backend", "decay_per"), [slow_if((name, per) != ("fused", "channel"), name, per) for name in EAGER for per in PER]
)
def test_method_in_a_network(method, backend, decay_per):
    """Trains some steps with any backend, in float32 and under bf16; is stored and built again; folds without a change of spikes."""
    if not registry.get("backend", backend).available(torch.device("cpu")):
        pytest.skip(f"{backend} cannot run here")
    torch.manual_seed(0)
    small = {"T": 2, "in_channels": 2, "input_size": 16, "width_multiplier": 1 / 16, "num_classes": 3, "width": 1.0}
    net = models.build("vggsnn", method=method, backend=backend, decay_per=decay_per, **small)
    again = models.build("vggsnn", method=method, backend=backend, decay_per=decay_per, **small)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    x = torch.rand(2, 3, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    for precise in (True, False):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not precise):
            net(x).float().logsumexp(-1).sum().backward()
        assert all(p.grad.isfinite().all() for p in net.parameters())
        optimizer.step()
        net.end_step()
    again.load_state_dict(net.state_dict())
    for one, other in zip(net.spiking_layers(), again.spiking_layers(), strict=True):
        assert torch.equal(one.lif.alpha, other.lif.alpha)
        assert one.lif.alpha.dim() <= one.lif.beta.dim() == (decay_per == "channel")
    assert torch.equal(net.eval()(x), again.eval()(x))
    torch.testing.assert_close(fold(net.double())(x.double()), net(x.double()))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "backend", [slow_if(name not in EAGER, name) for name in registry.names("backend") if name != "triton"]
)
def test_backend(backend, dtype, overwrite):
    """Spikes and gradients have the types and shapes of the current and of beta."""
    if not registry.get("backend", backend).available(torch.device("cpu")):
        pytest.skip(f"{backend} cannot run here")
    lif_runs(backend=backend, method="lsg")
    leaf = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    beta = torch.tensor(0.4).requires_grad_()
    measured = torch.ones(3, dtype=torch.float64)
    p = LIFParameters(beta, torch.tensor(1.0), 0.5, registry.get("surrogate", "rectangular"), measured)
    current = leaf.detach().double()
    spikes = registry.get("backend", backend)(leaf * 1, p, overwrite)
    spikes.sum().backward()
    assert (spikes.shape, spikes.dtype) == (leaf.shape, dtype)
    assert (leaf.grad.shape, leaf.grad.dtype) == (leaf.shape, dtype)
    assert (beta.grad.shape, beta.grad.dtype) == ((), torch.float32)
    assert leaf.grad.isfinite().all()
    assert beta.grad.isfinite()
    u, moments = torch.zeros(2, 4).double(), torch.ones(3).double()  # added to what is there
    for current_t in current:
        u = 0.4 * u * (u < 0.5) + current_t
        moments += torch.stack([torch.tensor(u.numel()).double(), u.sum(), u.square().sum()])
    torch.testing.assert_close(measured, moments, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "residual"),
    [
        (arch, kind)
        for arch in registry.names("arch")
        for kind in ("add", "sew")
        if kind == "add" or registry.get("arch", arch).has_residual
    ],
)
def test_network(arch, residual):
    """Builds by name, takes sequences and images, trains, folds, and describes itself and its layers."""
    torch.manual_seed(0)
    defaults = registry.get("arch", arch).defaults
    width, height = defaults["input_size"], defaults.get("input_height") or defaults["input_size"]
    size = {"input_size": width, "input_height": height}
    T = width if registry.get("arch", arch).images_only else 2
    net = models.build(arch, T=T, num_classes=3, in_channels=2, width_multiplier=1 / 64, residual=residual, **size)
    assert isinstance(net, SpikingNet)
    logits = net(torch.rand(2, 2, height, width) if net.images_only else torch.rand(3, 2, 2, height, width))
    assert logits.shape == (T if net.images_only else 3, 2, 3)
    logits.logsumexp(-1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert net.eval()(torch.rand(2, 2, height, width)).shape == (T, 2, 3)
    assert fold(net)(torch.rand(2, 2, height, width)).shape == (T, 2, 3)
    assert net.spiking_layers()
    assert net.spec.num_classes == 3


@pytest.mark.parametrize("kind", ["method", "neuron", "arch", "norm", "loss"])
def test_conditions_name_every_entry(kind):
    """A condition of a setting that names methods, neurons or networks names all of those that have it, or all that lack it."""
    entries = {entry: RunConfig(method="fixed").replace(**{kind: entry}) for entry in registry.names(kind)}
    for name, rule in RULES.items():
        named = entries.keys() & set(re.findall(r"[\w-]+", rule.words))
        having = {entry for entry, config in entries.items() if rule.to(config)}
        assert named in (set(), having, entries.keys() - having), name


@pytest.mark.parametrize(("settings", "name"), [({"method": "asgl"}, "draws"), ({"neuron": "glif"}, "learns")])
def test_a_declaration_that_is_missing_is_named(settings, name):
    layer = LIF(**settings, channels=3, steps=4)
    setattr(layer.neuron, name, False)
    assert contradictions(layer) == [f"{type(layer.neuron).__name__}.{name}: found False, expected True"]


@pytest.mark.parametrize("kind", ["surrogate", "method", "neuron", "backend", "arch"])
def test_each_has_a_docstring(kind):
    """It is the text of the documentation; unlike that of inspect.getdoc, never one of a base class."""
    assert [name for name in registry.names(kind) if not registry.get(kind, name).__doc__] == []
