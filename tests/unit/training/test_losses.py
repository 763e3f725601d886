"""The losses against their formulas in numpy."""

import numpy as np
import pytest
import torch

from lsgcli import models, registry
from lsgcli.analysis import gradflow
from lsgcli.data.batches import Batch
from lsgcli.errors import ConfigError
from lsgcli.neurons.draws import drawing
from lsgcli.system.device import Compute
from lsgcli.training.losses import Backbone, Noise, balanced, observed_backbone, observed_rates, of_run, rate_penalty
from lsgcli.training.step import gradients
from tests import tiny


def log_softmax(y):
    return y - np.log(np.exp(y).sum(-1, keepdims=True))


def values(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, 5, 3)), rng.integers(0, 3, 5)


def smoothed(labels, epsilon):
    return (1 - epsilon) * np.eye(3)[labels] + epsilon / 3


def ce(y, target):
    return -(target * log_softmax(y.mean(0))).sum(1).mean()


def tet(y, target, weight, phi=1.0):
    return (1 - weight) * np.mean([ce(y[t : t + 1], target) for t in range(4)]) + weight * np.mean((y - phi) ** 2)


def test_losses_against_their_formulas():
    y, labels = values()
    hard, soft, one_hot = np.eye(3)[labels], smoothed(labels, 0.4), {"tet_lambda": 0.05, "tet_target": "one-hot"}
    for name, settings, given, expected in (
        ("ce", {}, labels, ce(y, hard)),
        ("ce", {}, soft, ce(y, soft)),
        ("ce", {"label_smoothing": 0.4}, labels, ce(y, soft)),
        ("tet", {"tet_lambda": 0.1}, labels, tet(y, hard, 0.1)),
        ("tet", {"tet_lambda": 0.2, "label_smoothing": 0.4}, labels, tet(y, soft, 0.2)),
        ("tet", one_hot, labels, tet(y, hard, 0.05, hard)),
        ("tet", one_hot, soft, tet(y, soft, 0.05, soft)),
        ("mse", {}, labels, np.mean((y.mean(0) - hard) ** 2)),
        ("mse", {}, soft, np.mean((y.mean(0) - soft) ** 2)),
    ):
        found = registry.get("loss", name)(torch.tensor(y), torch.tensor(given), tiny.config(**settings))
        np.testing.assert_allclose(found.item(), expected, rtol=1e-12, err_msg=f"{name} {settings}")


def test_balanced_weights_against_torch():
    """Ten labels of three classes, 5, 3 and 2; in parts of a batch, the losses add up."""
    train = np.array([0, 2, 1, 0, 0, 1, 2, 0, 1, 0])
    weights = torch.tensor([10 / 15, 10 / 9, 10 / 6], dtype=torch.float64)
    torch.testing.assert_close(balanced(train, 3).double(), weights)
    assert balanced(np.array([0, 0, 2]), 3).tolist() == [0.5, 0.0, 1.0]
    y, labels = (torch.tensor(one) for one in values())
    config = tiny.config(class_weights="balanced", tet_lambda=0.0)
    each = torch.stack([torch.nn.functional.cross_entropy(y[t], labels, reduction="none") for t in range(4)])
    of_mean = torch.nn.functional.cross_entropy(y.mean(0), labels, reduction="none")
    for name, own in (("ce", of_mean), ("tet", each.mean(0))):
        loss = of_run(config.replace(loss=name), train, 3)
        torch.testing.assert_close(loss(y, labels), (weights[labels] * own).mean())
        parts = 2 * loss(y[:, :2], labels[:2]) + 3 * loss(y[:, 2:], labels[2:])
        torch.testing.assert_close(parts / 5, loss(y, labels))
        certain = torch.nn.functional.one_hot(labels, 3).double()
        torch.testing.assert_close(loss(y, certain), loss(y, labels))


def test_mixed_labels_give_the_mixed_loss():
    """Every loss is linear in the labels, up to a constant for the mean squared error."""
    y, labels = values()
    other = np.roll(labels, 1)
    mixed = 0.3 * np.eye(3)[labels] + 0.7 * np.eye(3)[other]
    config = tiny.config(label_smoothing=0.1)
    for name in ("ce", "tet"):
        of, other_of, found = (
            registry.get("loss", name)(torch.tensor(y), torch.tensor(one), config).item() for one in (labels, other, mixed)
        )
        np.testing.assert_allclose(found, 0.3 * of + 0.7 * other_of, rtol=1e-12)


def softmax(y):
    return np.exp(log_softmax(y))


@pytest.mark.parametrize("gradient", ["product", "detached"])
@pytest.mark.parametrize("T", [2, 3, 8, 32])
def test_stable_spike(T, gradient):
    """Value and gradients, by hand, for the noise that its own module draws again."""
    rng = np.random.default_rng(T)
    net = models.build("mlp", T=T, input_size=4, width_multiplier=1 / 32, num_classes=3).double()
    B, F = 5, net.classifier.in_features
    s, logits, labels = (rng.random((T, B, F)) < 0.6).astype(float), rng.normal(size=(T, B, 3)), rng.integers(0, 3, B)
    net.noise = Noise()
    features, outputs = torch.tensor(s).requires_grad_(), torch.tensor(logits).requires_grad_()
    config = tiny.config(loss="stable-spike", stable_gradient=gradient)
    with drawing(net, torch.arange(B)):
        found = registry.get("loss", "stable-spike")(outputs, torch.tensor(labels), config, backbone=Backbone(net, features))
        u = net.noise.uniforms(torch.zeros(B, F, dtype=torch.float64)).numpy()
    found.backward()
    W, b = net.classifier.weight.detach().numpy(), net.classifier.bias.detach().numpy()
    p, q, y = s.mean(0), sum(s[t] * s[t + 1] for t in range(T - 1)) / (T - 1), logits.mean(0)
    noisy = q + (u < q)
    assert 0 < (u < q).mean() < 1
    log_y, log_z = log_softmax(y / 2), log_softmax((noisy @ W.T + b) / 2)
    apart = (np.exp(log_y) * (log_y - log_z)).sum(1, keepdims=True)
    cross = -log_softmax(y)[np.arange(B), labels].mean()
    np.testing.assert_allclose(found.item(), cross + ((q - p) ** 2).mean() + 4 * apart.mean(), rtol=1e-12)
    d_z = 4 * (np.exp(log_z) - np.exp(log_y)) / 2 / B
    d_y = (softmax(y) - np.eye(3)[labels]) / B + 4 * np.exp(log_y) * (log_y - log_z - apart) / 2 / B
    d_q = (2 * (q - p) / (B * F) + d_z @ W) * (gradient == "product") / (T - 1)
    d_s = np.zeros_like(s) - 2 * (q - p) / (B * F) / T
    d_s[:-1] += d_q * s[1:]
    d_s[1:] += d_q * s[:-1]
    for tensor, expected in (
        (features, d_s),
        (outputs, np.broadcast_to(d_y / T, logits.shape)),
        (net.classifier.weight, d_z.T @ noisy),
        (net.classifier.bias, d_z.sum(0)),
    ):
        np.testing.assert_allclose(tensor.grad.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_stable_spike_in_a_step():
    """In a step, it is the loss of the features before dropout; the network is as before, and the numbers are those of the samples."""
    torch.manual_seed(0)
    net = models.build("vggsnn", T=3, input_size=16, width_multiplier=1 / 16, num_classes=3, dropout=0.3).train()
    config, compute = tiny.config(loss="stable-spike"), Compute(torch.device("cpu"))
    batch = Batch(torch.rand(3, 4, net.spec.in_channels, 16, 16), torch.arange(4) % 3, 0, samples=torch.arange(4))
    modules = dict(net.named_modules())
    results = [gradients(net, batch, config, compute) for _ in range(2)]
    assert torch.equal(*results)
    assert dict(net.named_modules()) == modules
    seen = []
    net.dropout.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    net.noise = Noise()
    with drawing(net, batch.samples):
        logits = net(batch.x)
        loss = registry.get("loss", "stable-spike")(logits, batch.y, config, backbone=Backbone(net, seen[0]))
    assert (loss * 4).item() == pytest.approx(results[0][0].item(), rel=1e-6)
    assert (loss - registry.get("loss", "ce")(logits, batch.y, config)).item() > 0.01
    with observed_backbone(net, config):  # on a copy
        flow = gradflow.inspect(net, [batch], loss=of_run(config))
    assert flow["loss"] == pytest.approx(loss.item(), rel=1e-6)


def test_stable_spike_needs_features_of_two_timesteps():
    net = models.build("mlp", T=1, input_size=4, width_multiplier=1 / 32, num_classes=3)
    loss = of_run(config := tiny.config(loss="stable-spike"))
    x, y = torch.rand(1, 2, net.spec.in_channels, 4, 4), torch.tensor([0, 1])
    with pytest.raises(ConfigError, match="loss stable-spike: found logits only"):
        loss(net(x), y)
    with observed_backbone(net, config), pytest.raises(ConfigError, match="found 1 timestep, expected at least 2"):
        loss(net(x), y)


@pytest.mark.parametrize(
    ("arch", "changes"), [("vggsnn", {}), ("resnet19", {}), ("resnet19", {"residual": "sew"}), ("mlp", {})]
)
def test_the_penalty_of_firing_rates(arch, changes):
    """Against rates that hooks on the neurons themselves see, and with the gradient of a step."""
    torch.manual_seed(0)
    net = models.build(arch, T=3, input_size=16, width_multiplier=1 / 16, **changes).train()
    config = tiny.config(rate_target=0.1, rate_weight=2.0)
    x = torch.rand(3, 4, net.spec.in_channels, 16, 16)
    with observed_rates(net, config) as rates:
        net(x)
    seen = []
    handles = [
        layer.lif.register_forward_hook(lambda *call: seen.append(call[2].mean().item())) for layer in net.spiking_layers()
    ]
    net(x)
    for handle in handles:
        handle.remove()
    np.testing.assert_allclose(sorted(rate.item() for rate in rates), sorted(seen), rtol=1e-5)
    expected = 2 * sum(max(0.0, rate - 0.1) ** 2 for rate in seen)
    assert expected > 0
    penalty = rate_penalty(rates, config)
    np.testing.assert_allclose(penalty.item(), expected, rtol=1e-4)
    penalty.backward()
    assert net.spiking_layers()[0].synapse.weight.grad.abs().sum() > 0


def test_a_step_lowers_the_rates():
    rates = {}
    for target in (None, 0.01):
        torch.manual_seed(0)
        net = models.build("vggsnn", T=3, input_size=16, width_multiplier=1 / 16, num_classes=3).train()
        config = tiny.config(rate_target=target, rate_weight=30.0)
        batch = Batch(torch.rand(3, 8, net.spec.in_channels, 16, 16), torch.arange(8) % 3, 0)
        optimizer = torch.optim.SGD(net.parameters(), 0.05)
        for _ in range(20):
            gradients(net, batch, config, Compute(torch.device("cpu")))
            optimizer.step()
            optimizer.zero_grad()
        with observed_rates(net, tiny.config(rate_target=0.5)) as found:
            net(batch.x)
        rates[target] = sum(found).item()
    assert rates[0.01] < 0.7 * rates[None]
