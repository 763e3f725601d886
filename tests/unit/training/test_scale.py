"""Initial weights of networks without normalisation: firing rates and gains of their layers, and the ends of residual branches."""

import pytest
import torch

from lsgcli.analysis import gradflow
from lsgcli.config.run import RunConfig
from lsgcli.errors import ConfigError
from lsgcli.neurons import initial
from lsgcli.training.initialise import new_model
from lsgcli.training.scale import draw_weights
from tests.exports import slow_if

SIZE, T = 16, 4


def begun(init, arch="resnet19", seed=0, static=False, **settings):
    """A network with its initial weights, and an input of white noise that they have not seen."""
    settings = {"residual": "none", "depth": 9, "width_multiplier": 0.125, "method": "adaptive", **settings}
    config = RunConfig(arch=arch, norm="none", init=init, T=T, size=SIZE, seed=seed, **settings)
    net = new_model(config, 10, 2)
    shape = (32, 2, SIZE, SIZE) if static else (T, 32, 2, SIZE, SIZE)
    seen, new = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))
    draw_weights(net, config, seen)
    return net, new


def layers_of(net, x):
    batch = x, torch.arange(len(x) if x.dim() == 4 else x.shape[1]) % 10
    return gradflow.inspect(net, [batch])["layers"]


def shares(net, x):
    """Entries of the input of each layer's weights over those of its output, behind its pool."""
    found = {}
    handles = [
        layer.synapse.register_forward_hook(
            lambda module, x, out, layer=layer: found.update({layer.name: x[0].numel() / out.numel()})
        )
        for layer in net.spiking_layers()
    ]
    net(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("vggsnn", {}),
        slow_if(True, "resnet19", {}),
        slow_if(True, "resnet19", {"static": True, "reset": "soft", "decay": 0.7, "threshold": 1.0, "backend": "reference"}),
        ("mlp", {}),
    ],
    ids=str,
)
def test_measured_layers_fire_at_the_rate_and_preserve_the_gradient(arch, options):
    """Within 20 %, on inputs that they were not measured on."""
    net, x = begun("measured", arch, **options)
    sizes = shares(net, x)
    for layer, spiking in zip(layers_of(net, x), net.spiking_layers(), strict=True):
        assert layer["firing_rate"] == pytest.approx(0.1, rel=0.2)
        if layer["gain"] is not None:
            pool = getattr(spiking.block, "pool", None)
            gain = layer["gain"] * sizes[spiking.name] / (1 if pool is None else pool.kernel_size**2)
            assert gain == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("static", [slow_if(True, False), True])
def test_spikeinit_fires_at_the_rate(static):
    """A wide network, whose input makes the currents that the equations expect: white noise, or an image."""
    net, x = begun("spikeinit", static=static, width_multiplier=0.5, init_rate=0.2)
    assert layers_of(net, x)[0]["firing_rate"] == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize(
    ("arch", "init"),
    [
        slow_if((arch, init) not in (("resnet19", "measured"), ("ms-resnet18", "ding")), arch, init)
        for arch in ("ms-resnet18", "resnet19")
        for init in initial.SCALES
    ],
)
def test_residual_branches_end_in_zero(arch, init):
    net, x = begun(init, arch, residual="add")
    ends = [block.second.conv.weight for _, block in net.blocks()]
    assert not any(weight.any() for weight in [*ends, net.classifier.weight])
    assert net(x).isfinite().all()


def test_spikes_that_are_added_are_rare():
    net, x = begun("measured", residual="sew")
    rates = {layer["name"]: layer["firing_rate"] for layer in layers_of(net, x)}
    assert all(rate < 0.02 for name, rate in rates.items() if name.endswith("lif2"))
    assert rates["block2.1.lif1"] == pytest.approx(0.1, rel=0.2)


def test_the_same_seed_has_the_same_bits():
    states = [begun("measured", "mlp", seed=seed)[0].state_dict() for seed in (3, 3, 4)]
    assert all(torch.equal(one, other) for one, other in zip(states[0].values(), states[1].values(), strict=True))
    assert not torch.equal(states[0]["classifier.weight"], states[2]["classifier.weight"])


def test_neurons_without_a_decay_are_measured():
    settings = {"neuron": "psn", "method": "none"}
    with pytest.raises(ConfigError, match="--init spikeinit: found neurons without a decay"):
        begun("spikeinit", **settings)
    net, x = begun("measured", **settings)
    assert layers_of(net, x)[3]["firing_rate"] == pytest.approx(0.1, rel=0.2)
