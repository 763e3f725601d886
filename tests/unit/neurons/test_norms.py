"""tdBN against its formula in numpy, and its gradients against finite differences."""

import math

import numpy as np
import pytest
import torch

from lsgcli import registry
from lsgcli.errors import ConfigError
from lsgcli.export.graphs import Stepping, Unrolled
from lsgcli.models.fold import fold, fold_in_place
from lsgcli.neurons import LIF, TdBatchNorm1d, TdBatchNorm2d
from tests.unit.models.helpers import backward, seasoned, sequence, small, stepped
from tests.unit.neurons import oracle
from tests.unit.neurons.helpers import close, normal

CASES = {"1d": (TdBatchNorm1d, (3, 4, 5)), "2d": (TdBatchNorm2d, (3, 2, 5, 4, 3))}


@pytest.fixture(params=CASES)
def case(request):
    """The class and the shape of an input with 5 channels."""
    return CASES[request.param]


def trained(kind, threshold=0.5, eta=1.0):
    """A norm in float64 whose gamma and mu are not 1 and 0."""
    norm = kind(5, threshold=threshold, eta=eta).double()
    with torch.no_grad():
        norm.weight.copy_(normal(5, seed=11, mean=1.0, std=0.3))
        norm.bias.copy_(normal(5, seed=12))
    return norm


def arrays(*tensors):
    return [t.detach().numpy() for t in tensors]


def test_running_statistics(case):
    """Averages of the first ten batches, with unbiased variances; momentum 0.1 after that; used in evaluation, and left alone."""
    kind, shape = case
    norm, means, variances = trained(kind, 0.7, 0.6), [], []
    for s in range(13):
        x = normal(*shape, seed=s, mean=s, std=1 + s)
        norm(x)
        flat = x.transpose(0, 2).flatten(1)
        means.append(flat.mean(1))
        variances.append(flat.var(1, correction=1))
        for found, batches in ((norm.running_mean, means), (norm.running_var, variances)):
            expected = torch.stack(batches[:10]).mean(0)
            for later in batches[10:]:
                expected = 0.9 * expected + 0.1 * later
            assert close(found, expected, 1e-12)
    weight, bias, mean, var = (tensor.copy() for tensor in arrays(norm.weight, norm.bias, norm.running_mean, norm.running_var))
    assert close(norm.eval()(x), oracle.tdbn(x.numpy(), weight, bias, 0.7, 0.6, mean=mean, var=var), 1e-12)
    assert np.array_equal(norm.running_var, var)
    assert norm.num_batches_tracked == 13


def test_a_loaded_state_sets_how_many_batches_there_were(case):
    """A state of two batches takes a third as the third, also in a module that has seen many; warmed statistics keep their momentum."""
    kind, shape = case
    early, many = trained(kind), trained(kind)
    for s in range(12):
        many(normal(*shape, seed=s))
    for s in range(2):
        early(normal(*shape, seed=s, std=3.0))
    early.running_mean.fill_(5.0)
    many.load_state_dict(early.state_dict())
    x = normal(*shape, seed=7)
    many(x)
    mean = x.transpose(0, 2).flatten(1).mean(1)
    assert close(many.running_mean, (10 + mean) / 3, 1e-12)
    early.warm = True
    early(x)
    assert close(early.running_mean, 4.5 + 0.1 * mean, 1e-12)


def test_running_statistics_need_no_gathering(case):
    """tests/unit/training/test_distributed.py gathers those of batches."""
    kind, shape = case
    norm = trained(kind).eval()
    norm.gather = pytest.fail
    assert norm(normal(*shape)).shape == shape


@pytest.mark.parametrize("training", [True, False])
def test_gradients(case, training):
    """Of the input, gamma and mu, against finite differences."""
    kind, shape = case
    norm = trained(kind, 0.5, 0.7)
    norm(normal(*shape, seed=1, mean=1.0, std=2.0))
    norm.train(training)

    def run(x, weight, bias):
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x,))

    inputs = (normal(*shape, seed=2), norm.weight.detach().clone(), norm.bias.detach().clone())
    assert torch.autograd.gradcheck(run, tuple(x.requires_grad_() for x in inputs))


@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_one_sample(training):
    """T = B = 1 in channels-last memory, whose strides torch's kernels for CPUs mistake, against the formula."""
    norm = trained(TdBatchNorm2d)
    norm.running_var.fill_(1.7)
    norm.train(training)
    z = normal(1, 5, 4, 3, seed=1).contiguous(memory_format=torch.channels_last).requires_grad_()
    grad = normal(1, 1, 5, 4, 3, seed=2)
    mean, var = (
        (z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0)) if training else (norm.running_mean, norm.running_var.clone())
    )
    shape = (1, 5, 1, 1)
    expected = (z - mean.view(shape)) / (var.view(shape) + norm.eps).sqrt()
    expected = expected * (0.5 * norm.weight).view(shape) + norm.bias.view(shape)
    leaves = (z, norm.weight, norm.bias)
    wanted = torch.autograd.grad((expected * grad).sum(), leaves)
    out = norm(z[None])
    found = torch.autograd.grad((out * grad).sum(), leaves)
    assert close(out[0], expected, 1e-12)
    assert all(close(a, b, 1e-9) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (TdBatchNorm2d, (2, 5, 4, 4)),
        (TdBatchNorm2d, (2, 3, 4, 4, 4)),
        (TdBatchNorm2d, (2, 3, 5)),
        (TdBatchNorm1d, (2, 3, 4)),
        (TdBatchNorm1d, (2, 5)),
        (TdBatchNorm1d, (2, 3, 5, 4, 4)),
    ],
)
def test_wrong_shapes(kind, shape):
    with pytest.raises(ConfigError) as error:
        kind(5)(torch.zeros(shape))
    assert str(shape) in str(error.value)
    assert "C = 5" in str(error.value)


def test_mpbn_needs_channels():
    """Neurons (T, B) have none."""
    with pytest.raises(ConfigError, match="MembraneNorm: found an input of shape") as error:
        LIF(membrane=True, channels=4)(torch.zeros(3, 4))
    assert "with C = 4" in str(error.value)


@pytest.mark.parametrize(("kind", "shape"), [(TdBatchNorm2d, (1, 1, 5, 1, 1)), (TdBatchNorm1d, (1, 1, 5))])
def test_one_value_has_no_variance(kind, shape):
    """In training a single value of each channel is refused; in evaluation it has the running statistics."""
    with pytest.raises(ConfigError, match="batch_size"):
        kind(5)(torch.zeros(shape))
    assert kind(5).eval()(torch.zeros(shape)).shape == shape
    two = (2, *shape[1:])
    assert kind(5)(torch.zeros(two)).shape == two


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["tdbn", "bn", "bn-step", "tebn"])
def test_registered_normalisations(name, training):
    """Against numpy: output, and gradients of gamma, mu and p by finite differences of a random loss."""
    T, C = 4, 3
    norm = registry.get("norm", name)(C, 0.7, 0.8, T).double().train(training)
    with torch.no_grad():
        for p in norm.parameters():
            p.add_(normal(*p.shape, seed=p.numel(), std=0.3))
        norm.running_mean.add_(0.2)
        norm.running_var.mul_(1.7)
    x, g = normal(T, 2, C, 3, 2, seed=1, mean=0.5, std=2.0), normal(T, 2, C, 3, 2, seed=2)
    statistics = {} if training else {"mean": norm.running_mean.numpy().copy(), "var": norm.running_var.numpy().copy()}

    def expected(weight, bias, p):
        v_th, eta = (0.7, 0.8) if name == "tdbn" else (1.0, 1.0)
        parts = [x.numpy()[t : t + 1] for t in range(T)] if name == "bn-step" else [x.numpy()]
        whole = np.concatenate([oracle.tdbn(part, weight, bias, v_th, eta, **statistics) for part in parts])
        return whole * p.reshape(-1, 1, 1, 1, 1)

    values = {"weight": norm.weight, "bias": norm.bias, "p": getattr(norm, "p", torch.ones(T).double())}
    numbers = {key: value.detach().numpy().copy() for key, value in values.items()}
    out = norm(x)
    out.backward(g)
    assert close(out, expected(**numbers))
    for key, value in values.items():
        for i in range(len(value) if value.requires_grad else 0):
            moved = [{**numbers, key: numbers[key] + step * (np.arange(len(value)) == i)} for step in (1e-6, -1e-6)]
            up, down = ((expected(**one) * g.numpy()).sum() for one in moved)
            assert value.grad[i].item() == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-6)


def test_running_statistics_of_normalised_timesteps():
    """Each timestep moves them, as one call per timestep of torch's batch normalisation does."""
    norm, reference = registry.get("norm", "bn-step")(3, 0.7, 1.0, 4).double(), torch.nn.BatchNorm2d(3).double()
    norm.warm = True  # torch's has no averages of the first batches
    for seed in range(2):
        x = normal(4, 2, 3, 3, 2, seed=seed, mean=0.5, std=2.0)
        assert close(norm(x), torch.stack([reference(step) for step in x]))
    assert close(norm.running_mean, reference.running_mean)
    assert close(norm.running_var, reference.running_var)
    assert norm.num_batches_tracked == reference.num_batches_tracked == 8


@pytest.mark.parametrize("name", ["bn", "bn-step", "tebn"])
@pytest.mark.parametrize("which", ["vggsnn", "resnet19-add"])
def test_other_normalisations_in_a_network(which, name):
    """Every parameter learns; the folded network, and its graph, compute the same."""
    net = small(which, norm=name)
    backward(net, sequence(net, batch=6))
    assert all(p.grad.any() for p in net.parameters())
    with torch.no_grad():
        for module in net.modules():
            if isinstance(getattr(module, "p", None), torch.nn.Parameter):  # of TEBN; dropout has a p too
                module.p.mul_(torch.linspace(0.8, 1.2, len(module.p)))
    net = net.eval()
    x = sequence(net, seed=5)
    assert torch.allclose(fold(net)(x), net(x), atol=1e-9)
    assert torch.allclose(Unrolled(fold(net))(x)[0], net(x), atol=1e-9)
    again = fold_in_place(small(which, norm=name, seed=5))
    again.load_state_dict(fold(net).state_dict())
    assert torch.allclose(again(x), net(x), atol=1e-9)


def test_tebn_fixes_T():
    net = small("vggsnn", norm="tebn")
    with pytest.raises(ConfigError, match="found 2 timesteps, expected 3"):
        net(sequence(net)[:2])
    with pytest.raises(ConfigError, match="one timestep at a time: found --norm tebn"):
        Stepping(net)


def test_mpbn():
    """o[t] = 1[BN(u[t]) >= v_th] with statistics of each timestep; u itself is reset; running statistics move at each timestep."""
    lif = LIF(method="trainable-decay", decay=0.6, channels=3, membrane=True).double()
    gamma, mu = np.array([1.3, 0.8, -0.9]), np.array([0.1, 0.3, -0.2])
    with torch.no_grad():
        lif.membrane.weight.copy_(torch.tensor(gamma))
        lif.membrane.bias.copy_(torch.tensor(mu))
    current = normal(4, 5, 3, 2, 2, seed=1, mean=0.4)
    beta, _ = oracle.decay(lif.b.item())
    u, o, means, variances, expected = np.zeros((5, 3, 2, 2)), np.zeros((5, 3, 2, 2)), [], [], []
    for now in current.numpy():
        u = beta * u * (1 - o) + now
        o = (oracle.tdbn(u[None], gamma, mu, 1.0)[0] >= 0.5).astype(float)
        means.append(u.mean((0, 2, 3)))
        variances.append(u.var((0, 2, 3)) * 20 / 19)
        expected.append(o)
    assert np.array_equal(lif(current).numpy(force=True), np.stack(expected))
    assert 0.1 < np.mean(expected) < 0.9
    mean, var = np.mean(means, 0), np.mean(variances, 0)  # of fewer than ten timesteps
    assert close(lif.membrane.running_mean, mean)
    assert close(lif.membrane.running_var, var)
    # Folded, s u is compared with one threshold per channel; s is -1 where gamma is negative.
    threshold, sign = lif.eval().firing()
    assert sign.tolist() == [1, 1, -1]
    assert close(threshold, sign.numpy() * (mean + (0.5 - mu) * np.sqrt(var + 1e-5) / gamma))


def test_mpbn_with_a_weight_of_zero():
    """A channel whose normalised potential is constant fires always or never."""
    lif = LIF(channels=2, membrane=True)
    with torch.no_grad():
        lif.membrane.weight.zero_()
        lif.membrane.bias.copy_(torch.tensor([0.5, 0.4]))
    threshold, _ = lif.firing()
    assert threshold.tolist() == [-math.inf, math.inf]
    assert lif.eval()(normal(2, 3, 2, seed=1).float()).sum((0, 1)).tolist() == [6, 0]


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("which", ["vggsnn", "resnet19-add"])
def test_mpbn_in_a_network(which, reset):
    """It learns; with weights of either sign, folded graphs compute the same, all timesteps at once and one at a time."""
    net = small(which, norm="mpbn", reset=reset)
    backward(net, sequence(net, batch=6))
    assert all(p.grad.isfinite().all() for p in net.parameters())
    assert all(layer.lif.membrane.weight.grad.any() for layer in net.spiking_layers())
    net = seasoned(which, norm="mpbn", reset=reset)
    with torch.no_grad():
        for layer in net.spiking_layers():
            layer.lif.membrane.weight[::3] *= -0.7
        x = sequence(net, batch=3, seed=5)
        expected, folded = net(x), fold(net)
        assert torch.allclose(folded(x), expected, atol=1e-9)
        assert torch.allclose(Unrolled(folded)(x)[0], expected, atol=1e-9)
        if reset == "soft":  # a potential of 0 before the first timestep may lie above a folded threshold
            with pytest.raises(ConfigError, match="found --norm mpbn with --reset soft"):
                Stepping(folded)
            return
        assert torch.allclose(stepped(Stepping(folded), x), expected, atol=1e-9)
