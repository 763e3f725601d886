"""The network that reads columns of images: its size, its function by own code, and what applies to it."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from lsgcli import models
from lsgcli.analysis import gradflow
from lsgcli.analysis.energy import SynapticOperations
from lsgcli.data.batches import Batch
from lsgcli.errors import ConfigError
from lsgcli.export.base import open_exported
from lsgcli.export.verify import KINDS, compare
from lsgcli.models.fold import fold
from lsgcli.models.integer import integer
from lsgcli.neurons import TdBatchNorm2d
from tests.exports import exported, samples, saved
from tests.unit.models.helpers import firing_rates, image, seasoned, small
from tests.unit.neurons.helpers import close, normal


@pytest.mark.parametrize(("classes", "published"), [(10, 513_418), (100, 513_418 + 90 * 257)])
def test_published_number_of_parameters(classes, published):
    with torch.device("meta"):
        fixed, learned = (models.build("sequential-cnn", method=name, num_classes=classes) for name in ("none", "lsg"))
    convs = 3 * 128 * 3 + 5 * 128 * 128 * 3 + 6 * 2 * 128
    own = convs + (128 * 8 * 256 + 256) + (256 * classes + classes)
    assert sum(p.numel() for p in fixed.parameters()) == published == own
    assert sum(p.numel() for p in learned.parameters()) == published + 7


def test_parallel_neurons():
    """Their weights are (T, T) with T the width."""
    with torch.device("meta"):
        whole = models.build("sequential-cnn", neuron="psn", method="none", width=1.0)
    assert sum(p.numel() for p in whole.parameters()) == 513_418 + 7 * (32**2 + 32)


def own(net, x):
    """The network once more, with one-dimensional layers, step by step."""

    def fire(lif, current):
        beta, v_th, u, o, spikes = lif.b.sigmoid(), lif.threshold, 0, 0, []
        alpha = 2 * v_th * (1 + beta.detach() ** 2).sqrt()
        for now in current:
            u = beta * u * (1 - o) + now
            passed = ((u - v_th) / alpha).clamp(-0.5, 0.5)
            o = (u >= v_th).to(u.dtype) + (passed - passed.detach())
            spikes.append(o)
        return torch.stack(spikes)

    steps = torch.stack([x[..., column] for column in range(x.shape[-1])])  # (T, B, C, H)
    for index, block in enumerate(net.features):
        conv, norm = block.current.conv, block.current.norm
        z = torch.stack([F.conv1d(step, conv.weight[:, :, 0], padding=1) for step in steps])
        z = (z - z.mean((0, 1, 3), keepdim=True)) / (z.var((0, 1, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        steps = fire(block.lif, block.lif.threshold * norm.weight[:, None] * z + norm.bias[:, None])
        if index in (2, 5):
            steps = torch.stack([F.avg_pool1d(step, 2) for step in steps])
    spikes = fire(net.hidden_lif, F.linear(steps.flatten(2), net.hidden.weight, net.hidden.bias))
    return F.linear(spikes, net.classifier.weight, net.classifier.bias)


def test_against_own_code():
    """Logits, and gradients of the image and of each parameter, of images higher than wide."""
    net = small("sequential-cnn", input_height=12)
    results = []
    for function in (net, lambda x: own(net, x)):
        x = image(net, batch=3).requires_grad_()
        logits = function(x)
        (logits * normal(*logits.shape, seed=2)).sum().backward()
        results.append((logits.detach(), x.grad, *(p.grad.clone() for p in net.parameters())))
        net.zero_grad()
    assert all(0.01 < rate < 0.99 for rate in firing_rates(net, x.detach()).values())
    for ours, theirs in zip(*results, strict=True):
        assert ours.any()
        assert close(ours, theirs)


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
    with pytest.raises(ConfigError, match="found T = 4 and an image of 8 x 8, expected T to be its width"):
        models.build("sequential-cnn", T=4, input_size=8)
    with pytest.raises(ConfigError, match="a height that is a multiple of 4"):
        models.build("sequential-cnn", T=10, input_size=10)
    net = small("sequential-cnn")
    with pytest.raises(ConfigError, match=r"expected \(B, C, H, W\) with"):
        net(image(net).unsqueeze(0))
    net.spec = dataclasses.replace(net.spec, T=4)  # as `lsg eval -T 4`
    with pytest.raises(ConfigError, match="found T = 4"):
        net(image(net))


def test_folded_is_the_same_function():
    net = seasoned("sequential-cnn")
    folded, x = fold(net), image(net, batch=4, seed=9)
    assert not any(isinstance(module, TdBatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        expected = net(x)
        assert expected.std() > 0.01
        assert (folded(x) - expected).abs().max() < 1e-6


def test_integers():
    """Integer convolutions of spikes and of means of two give the float network with the same rounded weights."""
    net = seasoned("sequential-cnn", dtype=torch.float32)
    x, folded = image(net, batch=4, seed=9), fold(net)
    with torch.no_grad():
        rounded = integer(fold(net))
        expected = fold(net)
        for (_, module), (_, theirs) in zip(expected.named_modules(), rounded.named_modules(), strict=True):
            if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
                module.weight.copy_(theirs.weight)
        assert (rounded(x) - expected(x)).abs().max() < 1e-4
        assert not torch.equal(expected(x), folded(x))


def test_gradient_flow_and_energy():
    net = small("sequential-cnn", dtype=torch.float32, decay=0.5)
    x, y = image(net, batch=3), torch.tensor([0, 1, 2])
    record = gradflow.inspect(net, [Batch(x, y, 0)])
    assert [layer["name"] for layer in record["layers"]] == [*(f"conv{n}" for n in range(1, 7)), "hidden"]
    assert all(layer["grad_norm"] > 0 and layer["temporal_share"] > 0 for layer in record["layers"])
    spikes = {}
    net.features[2].register_forward_hook(lambda module, arguments, output: spikes.update(conv3=output))
    operations = SynapticOperations(net.eval(), events=False)
    with torch.no_grad():
        net(x)
    layers = {layer["name"]: layer for layer in operations.close(3, {})["layers"]}
    assert layers["conv1"]["mac"] == layers["conv1"]["ann_mac"] * 8
    assert [layers[name]["input"] for name in ("conv2", "conv4", "hidden")] == ["spikes", "averages", "averages"]
    assert layers["conv4"]["averages_over"] == 2
    assert layers["conv4"]["passes"] == 8


@pytest.mark.parametrize("options", [{"method": "measured-sigma"}, {"dropout": 0.3, "dropout_at": "neurons"}])
def test_checkpointed_activations_change_no_bit(options):
    results = []
    for checkpointed in (False, True):
        net = small("sequential-cnn", dtype=torch.float32, **options)
        net.checkpoint_activations = checkpointed
        torch.manual_seed(7)
        logits = net(image(net))
        logits.square().sum().backward()
        net.end_step()
        results.append([logits.detach(), *(p.grad for p in net.parameters()), *net.buffers()])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.slow
def test_traced(tmp_path):
    found = exported(saved("sequential-cnn", tmp_path / "net.safetensors"), "onnx", tmp_path / "net.onnx", mode="unroll")
    result = compare(found.written, open_exported(tmp_path / "net.onnx"), samples(found.content.config, 4, 1))
    assert sum(result[kind] for kind in KINDS) == 0
    assert result["max_logit_error"] < 1e-5


@pytest.mark.parametrize(("form", "mode", "words"), [("nir", None, "columns of an image"), ("onnx", "step", "one timestep")])
def test_exports_that_are_refused(form, mode, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        exported(saved("sequential-cnn", tmp_path / "net.safetensors"), form, tmp_path / "out", mode=mode)
