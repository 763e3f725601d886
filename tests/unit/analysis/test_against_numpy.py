"""Every measure against float64 numpy on a network of two layers."""

import numpy as np
import pytest
import torch

from lsgcli import models
from lsgcli.analysis import Sample, inspect
from lsgcli.analysis.gradients import mismatch
from lsgcli.errors import ConfigError
from tests.unit.analysis import oracle

T, B, FEATURES = 5, 7, 12


def network(decay=0.4, **changes):
    torch.manual_seed(0)
    net = models.build(
        "mlp",
        T=T,
        num_classes=4,
        input_size=FEATURES,
        input_height=1,
        width_multiplier=1 / 16,
        decay=decay,
        **{"method": "lsg", **changes},
    ).double()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if name.endswith("norm.weight"):
                p.uniform_(0.8, 1.8)
            if name.endswith("norm.bias"):
                p.uniform_(-0.3, 0.3)
    return net


def data(n=3, T=T):
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(T, B, 1, 1, FEATURES, generator=generator).double(), torch.randint(0, 4, (B,), generator=generator))
        for _ in range(n)
    ]


def flat(batches):
    return [(x.flatten(2).numpy(), y.numpy()) for x, y in batches]


def compare(found, expected, where):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            compare(found[key], value, f"{where}.{key}")
    elif expected is None:
        assert found is None, where
    elif isinstance(expected, list) and None in expected:
        assert [v is None for v in found] == [v is None for v in expected], where
        known = [i for i, v in enumerate(expected) if v is not None]
        compare([found[i] for i in known], [expected[i] for i in known], where)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12, err_msg=where)


@pytest.fixture(scope="module", params=["auto", "reference", "autograd"])
def flow(request):
    return inspect(network(backend=request.param), data(), detailed=True)


def test_every_measure(flow):
    expected = oracle.measures(oracle.Network(network().state_dict()), flat(data()))
    assert flow["batches"] == 3
    assert flow["T"] == T
    for layer, values in zip(flow["layers"], expected, strict=True):
        others = {"name", "mismatch", "verdict", "reason"}
        assert layer.keys() - others == values.keys()
        assert layer["per_step"].keys() == values["per_step"].keys()
        compare({key: layer[key] for key in values}, values, layer["name"])


def test_loss_is_the_mean_over_batches(flow):
    net = oracle.Network(network().state_dict())
    assert flow["loss"] == pytest.approx(np.mean([net.loss(x, y) for x, y in flat(data())]))


def test_one_step():
    """No share through time, and no correlation with a next step."""
    assert [(layer["temporal_share"], layer["rho"]) for layer in inspect(network(), data(T=1))["layers"]] == [(0.0, None)] * 2


def test_the_share_through_time_is_0_without_memory():
    net = network(method="fixed")
    for layer in net.spiking_layers():
        layer.lif.b.fill_(-1e9)
    flow = inspect(net, data())
    assert [layer["beta"] for layer in flow["layers"]] == [0.0, 0.0]
    assert [layer["temporal_share"] for layer in flow["layers"]] == pytest.approx([0.0, 0.0], abs=1e-12)


def test_mismatch_is_the_cosine_with_finite_differences():
    net, batches = network(), data(1)
    count, step = 20, 0.3
    flow = inspect(net, batches, sample=Sample(count, step))
    (x, y) = flat(batches)[0]
    mine = oracle.Network(net.state_dict())
    generator = torch.Generator().manual_seed(0)
    grads = [kept["dW"] for kept in mine.run(x, y)["layers"]]
    for layer, record, grad in zip(mine.layers, flow["layers"], grads, strict=True):
        W = layer["W"]
        e = step * np.sqrt((W**2).mean())
        found, expected = [], []
        for i in torch.randperm(W.size, generator=generator.manual_seed(0))[:count].tolist():
            place = np.unravel_index(i, W.shape)
            before = W[place]
            W[place] = before + e
            above = mine.loss(x, y)
            W[place] = before - e
            found.append((above - mine.loss(x, y)) / (2 * e))
            W[place] = before
            expected.append(grad[place])
        cosine = np.dot(found, expected) / np.linalg.norm(found) / np.linalg.norm(expected)
        assert 0.01 < abs(cosine) < 0.999
        assert record["mismatch"] == pytest.approx(cosine, rel=1e-6)


def test_mismatch_leaves_the_weights_alone():
    weight = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64))
    found = mismatch(weight, weight.detach() * 2, lambda: (weight**2).sum(), Sample(4, 1e-3))
    assert found == pytest.approx(1.0)
    assert weight.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert mismatch(weight, torch.zeros_like(weight), lambda: (weight**2).sum(), Sample(4)) is None
    assert mismatch(weight, None, lambda: (weight**2).sum(), Sample(4)) is None


def test_mismatch_of_a_step_that_changes_no_weight():
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(ConfigError, match="1e-09"):
        mismatch(weight, weight * 2, lambda: (weight**2).sum(), Sample(4, 1e-9))
    assert weight.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    zeros = torch.zeros(2, 2)
    assert mismatch(zeros, torch.ones(2, 2), lambda: zeros.sum(), Sample(4)) is None
