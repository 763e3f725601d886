"""Max-ResNet and Max-Former against their published equations, written once more with torch's functions: logits and all gradients.

Neurons are those of the publication: u = u' / 2 + I / 2, threshold 1, hard reset without gradient, sigmoid surrogate of slope 4.
"""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from lsgcli import models
from lsgcli.errors import ConfigError
from lsgcli.export.graphs import Stepping
from tests.unit.models.helpers import image, seasoned, small
from tests.unit.neurons.helpers import close, normal

PUBLISHED = {"method": "fixed", "norm": "bn", "decay": 0.5, "threshold": 1.0, "surrogate": "sigmoid", "width": 1.0}
PUBLISHED |= {"input_gain": "1-beta", "detach_reset": True}


def fired(current, threshold=1.0):
    u, spikes = 0, []
    for now in current:
        u = u + (now - u) / 2
        smooth = (4 * (u - threshold)).sigmoid()
        spikes.append((u >= threshold).to(u.dtype) + (smooth - smooth.detach()))
        u = u * (u < threshold)
    return torch.stack(spikes)


def pooled(x):
    return F.max_pool2d(x.flatten(0, 1), 3, 2, 1).unflatten(0, x.shape[:2])


class Equations:
    """The equations of the networks, for a dictionary of tensors."""

    def __init__(self, w, training):
        self.w, self.training = w, training

    def __contains__(self, name):
        return f"{name}.conv.weight" in self.w

    def conv_bn(self, name, x, stride=1):
        """Batch normalisation over T B; a weight with one input channel is that of a depthwise convolution of several."""
        weight, flat = self.w[f"{name}.conv.weight"], x.flatten(0, 1)
        z = F.conv2d(
            flat, weight, self.w.get(f"{name}.conv.bias"), stride, weight.shape[-1] // 2, groups=x.shape[2] // weight.shape[1]
        )
        mean, var = self.w[f"{name}.norm.running_mean"].clone(), self.w[f"{name}.norm.running_var"].clone()
        affine = self.w[f"{name}.norm.weight"], self.w[f"{name}.norm.bias"]
        return F.batch_norm(z, mean, var, *affine, training=self.training).unflatten(0, x.shape[:2])

    def head(self, spikes):
        return spikes @ self.w["classifier.weight"].T + self.w["classifier.bias"]

    def mlp(self, name, x, ratio):
        if ratio == 1:
            x = x + self.conv_bn(f"{name}.last", fired(x))
            stage, index = name.rsplit(".", 1)
            return x + self.conv_bn(f"{stage}.{int(index) + 1}.last", fired(x))
        return x + self.conv_bn(f"{name}.last", fired(self.conv_bn(f"{name}.chain.0.current", fired(x))))

    def attention(self, name, x, heads):
        """0.125 q (k^T v) with tokens as rows, in each head."""
        s = fired(x)
        q, k, v = (
            fired(self.conv_bn(f"{name}.inputs.{key}.current", s)).flatten(3).unflatten(2, (heads, -1)).transpose(3, 4)
            for key in "qkv"
        )
        y = 0.125 * q @ (k.transpose(3, 4) @ v)
        return x + self.conv_bn(f"{name}.last", fired(y.transpose(3, 4).reshape(x.shape), threshold=0.5))

    def embed_max(self, name, x):
        s = fired(x)
        y = self.conv_bn(f"{name}.last", fired(pooled(self.conv_bn(f"{name}.chain.0.current", s))))
        return y + pooled(self.conv_bn(f"{name}.shortcut", s))

    def depthwise(self, name, x):
        return x + self.conv_bn(f"{name}.last", fired(x))

    def max_resnet(self, x, counts):
        x = self.conv_bn("stem", x)
        for stage, count in enumerate(counts):
            for block in range(count):
                name, halves = f"stages.{stage}.{block}", stage > 0 and block == 0
                y = self.conv_bn(f"{name}.first.current", fired(x))
                y = self.conv_bn(f"{name}.second", fired(pooled(y) if halves else y))
                shortcut = f"{name}.shortcut"
                x = y + (self.conv_bn(shortcut, x, 2 if halves else 1) if shortcut in self else x)
        return self.head(fired(x).mean((3, 4)))

    def maxformer(self, x, heads):
        x = self.conv_bn("stem.0", x)
        x = self.conv_bn("stages.0.0.last", fired(x)) + self.conv_bn("stages.0.0.shortcut", fired(x))
        x = self.mlp("stages.0.1", x, 4)
        x = self.embed_max("stages.1.0", x)
        x = self.mlp("stages.1.2", self.depthwise("stages.1.1", x), 4)
        x = self.embed_max("stages.2.0", x)
        for block in (1, 3):
            x = self.mlp(f"stages.2.{block + 1}", self.attention(f"stages.2.{block}", x, heads), 4)
        return self.head(fired(x.mean((3, 4))))

    def maxformer_dvs(self, x, heads):
        x = self.conv_bn("stem.0", x)
        s = fired(pooled(self.conv_bn("stem.1.last", fired(x))))
        y = fired(pooled(self.conv_bn("stages.0.0.chain.0.current", s)))
        x = pooled(self.conv_bn("stages.0.0.last", y)) + self.conv_bn("stages.0.0.shortcut", s, 4)
        x = self.mlp("stages.0.2", self.depthwise("stages.0.1", x), 1)
        x = self.embed_max("stages.1.0", x)
        x = self.mlp("stages.1.2", self.attention("stages.1.1", x, heads), 1)
        return self.head(fired(x.mean((3, 4))))


# name -> network, its arguments, and its equations
NETWORKS = {
    "max-resnet18": (
        {"width_multiplier": 1 / 32, "input_size": 10, "input_height": 7},
        lambda own, x: own.max_resnet(x, (3, 3, 2)),
    ),
    "max-resnet18-2222": ({"width_multiplier": 1 / 16, "input_size": 9}, lambda own, x: own.max_resnet(x, (2, 2, 2, 2))),
    "maxformer": ({"width_multiplier": 1 / 4, "input_size": 10, "input_height": 7}, lambda own, x: own.maxformer(x, 2)),
    "maxformer-dvs": (
        {"width_multiplier": 1 / 8, "input_size": 22, "input_height": 17},
        lambda own, x: own.maxformer_dvs(x, 2),
    ),
}


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("arch", NETWORKS)
def test_network_against_its_equations(arch, training):
    torch.manual_seed(1)
    size, equations = NETWORKS[arch]
    net = models.build(arch, T=3, num_classes=4, in_channels=3, **size, **PUBLISHED).double()
    x = normal(3, 2, 3, net.spec.height, net.spec.input_size, seed=1)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.3, 2.0)
        net.classifier.weight.uniform_(-1, 1)
        net(x)  # running statistics
    net.train(training)
    w = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    w |= {name: tensor.detach().clone().requires_grad_() for name, tensor in net.named_parameters()}
    logits, own = net(x), equations(Equations(w, training), x)
    assert logits.std() > 0.01
    assert close(logits, own)
    loss = normal(*logits.shape, seed=2)
    (logits * loss).sum().backward()
    (own * loss).sum().backward()
    for name, parameter in net.named_parameters():
        if training and name.endswith("conv.bias"):  # a constant that the normalisation removes
            assert parameter.grad.abs().max() < 1e-9
        else:
            assert parameter.grad.any(), name
            assert close(parameter.grad, w[name].grad), name


pytestmark = pytest.mark.usefixtures("plugins")


def test_columns_are_timesteps():
    """A column changes no output before its own timestep."""
    net = seasoned("sequential-cnn")
    x = image(net)
    other = x.clone()
    other[..., 5] += 1
    with torch.no_grad():
        same = [torch.equal(a, b) for a, b in zip(net(x), net(other), strict=True)]
    assert same[:5] == [True] * 5
    assert not same[5]


def test_what_it_refuses():
    with pytest.raises(ConfigError, match="found T = 4 and an image of 8 x 8"):
        models.build("sequential-cnn", T=4, input_size=8)
    with pytest.raises(ConfigError, match="a height that is a multiple of 4"):
        models.build("sequential-cnn", T=10, input_size=10)
    net = small("sequential-cnn")
    with pytest.raises(ConfigError, match=r"expected \(B, C, H, W\) with"):
        net(image(net).unsqueeze(0))
    with pytest.raises(ConfigError, match="one timestep at a time"):
        Stepping(net)
    net.spec = dataclasses.replace(net.spec, T=4)  # as `lsg eval -T 4`
    with pytest.raises(ConfigError, match="found T = 4"):
        net(image(net))
