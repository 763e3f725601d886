"""Gradient flow against an independent float64 computation in numpy, from currents and gradients that hooks took."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lsgcli import models
from lsgcli.analysis import gradflow, own
from lsgcli.analysis.verdicts import Thresholds, verdict
from lsgcli.analysis.watching import observing
from lsgcli.compute import Compute
from lsgcli.data.batches import Batch

CPU = Compute(torch.device("cpu"))
T = 4


def loss(logits, labels):
    return F.cross_entropy(logits.mean(0), labels)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    net = models.build("resnet19", method="lsg", T=T, input_size=8, width_multiplier=1 / 32, in_channels=2, decay=0.4).double()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("norm.weight"):
                p.uniform_(0.8, 1.8)
    return net


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(1)
    x = [torch.randn(T, 3, 2, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2)]
    return [Batch(one, torch.tensor([0, 1, 2]), index) for index, one in enumerate(x)]


@pytest.fixture(scope="module")
def expected(model, batches):
    """layer -> measures, computed with the autograd backend, hooks on currents and loops in numpy."""
    for layer in model.spiking_layers():
        layer.lif.backend = "autograd"
    currents, gradients, norms = {}, {}, {}
    for batch in batches:
        handles = []
        for layer in model.spiking_layers():

            def keep(module, arguments, name=layer.name):
                arguments[0].retain_grad()
                currents.setdefault(name, []).append(arguments[0])

            handles.append(layer.lif.register_forward_pre_hook(keep))
        model.train().zero_grad()
        loss(model(batch.x), batch.y).backward()
        for layer in model.spiking_layers():
            gradients.setdefault(layer.name, []).append(currents[layer.name][-1].grad.numpy())
            norms.setdefault(layer.name, []).append(np.sqrt((layer.synapse.weight.grad.numpy() ** 2).sum()))
        for handle in handles:
            handle.remove()
    result = {}
    for layer in model.spiking_layers():
        current = np.concatenate([c.detach().numpy() for c in currents[layer.name]], axis=1)
        result[layer.name] = measures(current, np.concatenate(gradients[layer.name], axis=1), np.mean(norms[layer.name]), layer)
    for layer in model.spiking_layers():
        layer.lif.backend = "auto"
    last = result[model.spiking_layers()[-1].name]["grad_norm"]
    return {name: {**m, "grad_ratio": m["grad_norm"] / last} for name, m in result.items()}


def measures(current, du, norm, layer):
    beta = 1 / (1 + math.exp(-layer.lif.b.item()))
    alpha, threshold = 2 * 0.5 * math.sqrt(1 + beta**2), 0.5
    u, o = np.zeros_like(current), np.zeros_like(current)
    for t in range(T):
        u[t] = current[t] + (beta * u[t - 1] * (1 - o[t - 1]) if t else 0)
        o[t] = u[t] >= threshold
    inside = np.abs(u - threshold) < alpha / 2
    scaled = u / threshold
    return {
        "beta": beta,
        "alpha": alpha,
        "coverage": inside.mean(),
        "sg_mean": (inside / alpha).mean(),
        "sg_sq_mean": (inside / alpha**2).mean(),
        "firing_rate": o.mean(),
        "silent": (o.sum((0, 1)) == 0).mean(),
        "saturated": (o.all((0, 1))).mean(),
        "u_mean": scaled.mean(),
        "u_std": scaled.std(),
        "u_skew": ((scaled - scaled.mean()) ** 3).mean() / scaled.std() ** 3,
        "rho": np.corrcoef(current[:-1].ravel(), current[1:].ravel())[0, 1],
        "grad_norm": norm,
        "grad_relative": norm / np.sqrt((layer.synapse.weight.detach().numpy() ** 2).sum()),
        "grad_zero": (du == 0).mean(),
        "per_step": {
            "coverage": inside.mean(tuple(range(1, inside.ndim))),
            "firing_rate": o.mean(tuple(range(1, o.ndim))),
            "u_std": scaled.std(tuple(range(1, o.ndim))),
        },
    }


def test_every_measure(model, batches, expected):
    flow = gradflow.inspect(model, batches, loss=loss, compute=CPU)
    assert [layer["name"] for layer in flow["layers"]] == list(expected)
    assert flow["batches"] == 2
    assert flow["T"] == T
    for layer in flow["layers"]:
        for key, value in expected[layer["name"]].items():
            if key == "per_step":
                for name, steps in value.items():
                    np.testing.assert_allclose(
                        layer["per_step"][name], steps, rtol=1e-9, atol=1e-12, err_msg=f"{layer['name']} {name}"
                    )
            else:
                np.testing.assert_allclose(layer[key], value, rtol=1e-8, atol=1e-12, err_msg=f"{layer['name']} {key}")


def test_predictions(model, batches):
    flow = gradflow.inspect(model, batches[:1], loss=loss, compute=CPU)
    stem, hidden = flow["layers"][0], flow["layers"][-1]
    gamma = model.stem.current.norm.weight.mean().item()
    assert stem["u_std_predicted"]["paper"] == pytest.approx(math.sqrt(1 + stem["beta"] ** 2))
    assert stem["u_std_predicted"]["with_gamma"] == pytest.approx(gamma * math.sqrt(1 + stem["beta"] ** 2))
    assert stem["u_std_predicted"]["without_reset"] == pytest.approx(math.sqrt(sum(stem["beta"] ** (2 * k) for k in range(T))))
    assert hidden["u_std_predicted"]["with_gamma"] is None  # no tdBN there


def test_the_network_stays_as_it_is(model, batches):
    model.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradflow.inspect(model, batches, loss=loss, compute=CPU)
    assert not model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_light_record_agrees_with_the_full_one(model, batches):
    full = gradflow.inspect(model, batches[:1], loss=loss, compute=CPU)["layers"]
    layers = own.layers(model)
    model.train().zero_grad()
    with observing(layers, full=False) as watchers:
        loss(model(batches[0].x), batches[0].y).backward()
    for light, whole in zip(gradflow.light_record(layers, watchers), full, strict=True):
        assert light == pytest.approx({key: whole[key] for key in light})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "ok"),
        ({"firing_rate": 0.0}, "silent"),
        ({"firing_rate": 0.95}, "saturated"),
        ({"grad_zero": 0.9999}, "blocked"),
        ({"grad_ratio": 1e-4}, "vanishing"),
        ({"grad_ratio": 1e4}, "exploding"),
        ({"grad_ratio": math.nan}, "exploding"),
    ],
)
def test_verdicts(changes, expected):
    record = {"firing_rate": 0.1, "grad_ratio": 1.0, "grad_zero": 0.5, **changes}
    found, reason = verdict(record, Thresholds())
    assert found == expected
    assert (reason == "") == (expected == "ok")


def test_one_step_has_no_rho(batches):
    torch.manual_seed(0)
    net = models.build("resnet19", T=1, input_size=8, width_multiplier=1 / 32, in_channels=2).double()
    batch = Batch(batches[0].x[:1], batches[0].y, 0)
    assert all(layer["rho"] is None for layer in gradflow.inspect(net, [batch], loss=loss)["layers"])
