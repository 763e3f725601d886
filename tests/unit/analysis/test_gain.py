"""The gain of layers and its predictions, against gradients that autograd leaves at the tensors of a network without fused layers."""

import copy

import pytest
import torch
from torch import nn

from lsgcli import models
from lsgcli.analysis import inspect
from lsgcli.analysis.gradflow import cross_entropy
from lsgcli.config.neuron import NeuronConfig
from lsgcli.models.base import NetworkSpec, SpikingNet
from lsgcli.models.layers import SpikingConv
from tests.unit.models.helpers import sequence, small
from tests.unit.neurons.helpers import normal

CASES = {  # pooling; stride, two branches, identity and convolution as shortcut; timestep by timestep; a linear layer without tdBN
    "vggsnn": {},
    "resnet19-add": {"method": "fixed", "width": 1.4, "threshold": 0.7},
    "mlp": {"neuron": "clif"},
}


def retained(net, x, y):
    """name -> (input of the weights, their output, spikes) of each layer, with their gradients."""
    net, found = copy.deepcopy(net).train(), {}
    for layer in net.spiking_layers():
        s, z, o = found[layer.name] = [], [], []
        layer.synapse.register_forward_pre_hook(lambda m, args, s=s: s.append(args[0]))
        layer.synapse.register_forward_hook(lambda m, args, out, z=z: z.append(out))
        layer.lif.register_forward_hook(lambda m, args, out, o=o: o.append(out))
    for layer in net.spiking_layers():
        layer.lif.backend = "autograd"
    loss = cross_entropy(net(x), y)
    for tensors in found.values():
        for (tensor,) in tensors:
            if tensor.requires_grad:
                tensor.retain_grad()
    loss.backward()
    return {name: [tensor for (tensor,) in tensors] for name, tensors in found.items()}


@pytest.mark.parametrize(("which", "bits"), [*((which, None) for which in CASES), ("vggsnn", 4)])
def test_gain_and_predictions(which, bits):
    net = small(which, **CASES[which], weight_bits=bits)
    x, y = sequence(net, batch=4), torch.arange(4)
    expected, before = retained(net, x, y), None
    for index, (layer, record) in enumerate(zip(net.spiking_layers(), inspect(net, [(x, y)])["layers"], strict=True)):
        s, z, o = expected[layer.name]
        h_squared, v_th = record["sg_sq_mean"], layer.lif.config.threshold
        if index == 0:
            assert (record["gain"], record["gain_between"]) == (None, None)
        else:
            ratio = (before.square().mean() / o.grad.square().mean()).item()
            assert record["gain_between"] == pytest.approx(ratio, rel=1e-9)
            assert record["gain"] == pytest.approx((s.grad.square().mean() / o.grad.square().mean()).item(), rel=1e-9)
        before = o.grad
        assert record["gain_predicted"]["kaiming"] == pytest.approx(8 * v_th**2 * h_squared)
        if layer.norm is None or "neuron" in CASES[which]:
            assert record["gain_predicted"]["weights"] is None
            continue
        deviation = (z.var((0, *range(2, z.dim())), correction=0) + 1e-5).sqrt()
        used = layer.synapse.weight.detach()
        if bits:  # the weights are multiplied on a grid of 15 steps
            step = used.abs().flatten(1).amax(1).reshape(-1, 1, 1, 1) / 7
            used = (used / step).round() * step
        folded = used * (layer.norm.weight * layer.norm.eta * v_th / deviation).reshape(-1, 1, 1, 1)
        reached = torch.nn.grad.conv2d_input(
            (1, *s.shape[1:]), folded**2, torch.ones_like(z[:1]), layer.synapse.stride, layer.synapse.padding
        )
        accuracy = 1e-4 if bits else 1e-9  # scales of the grid have 16 significant bits
        assert record["gain_predicted"]["weights"] == pytest.approx(reached.mean().item() * h_squared, rel=accuracy)


class Pooled(SpikingNet):
    """conv1x1 - tdBN - LIF, averages over k x k, conv1x1 - tdBN - LIF, linear."""

    def __init__(self, spec, k):
        super().__init__(spec)
        self.blocks = nn.ModuleList([SpikingConv(spec, 2, 6, kernel=1, pool=k), SpikingConv(spec, 6, 5, kernel=1)])
        self.classifier = nn.Linear(5 * (6 // k) ** 2, 3)
        self.initialise_weights()

    def forward_sequence(self, x, T):
        return self.logits(self.blocks[1](self.blocks[0](x)).flatten(2))

    def spiking_layers(self):
        return [block.spiking_layer(f"conv{i}") for i, block in enumerate(self.blocks)]


@pytest.mark.parametrize("method", ["fixed", "asgl"])  # within the backend, and timestep by timestep
@pytest.mark.parametrize("k", [1, 2, 3])
def test_averages_over_k_by_k_neurons_divide_the_gain_by_k_to_the_fourth(k, method):
    """Each neuron receives 1/k^2 of the gradient of its average."""
    torch.manual_seed(0)
    neuron = NeuronConfig(method=method, decay=0.4, smooth=0.0)
    net = Pooled(NetworkSpec(T=3, num_classes=3, in_channels=2, input_size=6, neuron=neuron), k).double()
    x, y = torch.randn(3, 4, 2, 6, 6, dtype=torch.float64), torch.arange(4) % 3
    _, layer = inspect(net, [(x, y)])["layers"]
    (_, _, before), (s, _, o) = retained(net, x, y).values()
    unit = 0.5 if method == "asgl" else 1.0  # whose neurons pass on v_th o
    assert layer["gain_between"] == pytest.approx((before.grad.square().mean() / o.grad.square().mean()).item(), rel=1e-9)
    ratio = s.grad.square().mean() / (unit * o.grad).square().mean()
    assert layer["gain"] == pytest.approx(ratio.item(), rel=1e-9)
    assert layer["gain_between"] == pytest.approx(layer["gain"] * unit**2 / k**4, rel=1e-9)


def test_the_prediction_is_the_gain_for_independent_gradients():
    """Whatever the weights of tdBN are; up to sampling of 2,000 samples and 256 x 10 weights. The other prediction needs the initial ones."""
    torch.manual_seed(0)
    net = models.build("mlp", T=1, num_classes=10, input_size=50, input_height=1, method="fixed").double()
    x, noise = sequence(net, batch=2000), normal(1, 2000, 10, seed=5)
    for gamma in (1.0, 2.0):
        torch.nn.init.constant_(net.spiking_layers()[1].norm.weight, gamma)
        second = inspect(net, [(x, torch.zeros(2000))], loss=lambda out, y: (out * noise).sum())["layers"][1]
        predicted = second["gain_predicted"]
        assert second["gain"] == pytest.approx(predicted["weights"], rel=0.05)
        assert second["gain"] == pytest.approx(gamma**2 * predicted["kaiming"], rel=0.15)
