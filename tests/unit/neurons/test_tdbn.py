"""tdBN against its formula in numpy, and its gradients against finite differences."""

import math

import pytest
import torch
from torch import nn

from lsgcli.errors import ConfigError
from lsgcli.neurons import TdBatchNorm1d, TdBatchNorm2d
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


@pytest.mark.parametrize("eta", [1.0, 1 / math.sqrt(2)])
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_training_equals_numpy(case, threshold, eta):
    """Statistics over T, B and positions together; eta v_th scales before gamma, and not mu."""
    kind, shape = case
    norm, x = trained(kind, threshold, eta), normal(*shape, seed=1, mean=3.0, std=2.0)
    assert close(norm(x), oracle.tdbn(*arrays(x, norm.weight, norm.bias), threshold, eta), 1e-12)


def test_starts_with_the_standard_deviation_of_the_threshold(case):
    """gamma = 1 and mu = 0: each channel leaves with mean 0 and standard deviation eta v_th."""
    kind, shape = case
    out = kind(5, threshold=0.8, eta=0.5).double()(normal(*shape, seed=1, mean=3.0, std=2.0)).transpose(0, 2).flatten(1)
    assert out.mean(1).abs().max() < 1e-12
    assert out.std(1, correction=0).tolist() == pytest.approx([0.4] * 5, rel=1e-4)


def test_running_statistics(case):
    """Momentum 0.1, and the unbiased variance, over two batches from mean 0 and variance 1."""
    kind, shape = case
    norm, batches = trained(kind), [normal(*shape, seed=s, mean=s, std=1 + s) for s in (1, 2)]
    mean, var = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    for x in batches:
        norm(x)
        flat = x.transpose(0, 2).flatten(1)
        mean = 0.9 * mean + 0.1 * flat.mean(1)
        var = 0.9 * var + 0.1 * flat.var(1, correction=1)
    assert close(norm.running_mean, mean, 1e-12)
    assert close(norm.running_var, var, 1e-12)
    assert norm.num_batches_tracked == 2


def test_evaluation_uses_the_running_statistics(case):
    """In evaluation the stored statistics are used, and left alone."""
    kind, shape = case
    norm = trained(kind, 0.7, 0.6)
    norm(normal(*shape, seed=1, mean=1.0, std=2.0))
    before = [b.clone() for b in norm.buffers()]
    x = normal(*shape, seed=2, mean=-1.0)
    out = norm.eval()(x)
    values = arrays(x, norm.weight, norm.bias)
    mean, var = arrays(norm.running_mean, norm.running_var)
    assert close(out, oracle.tdbn(*values, 0.7, 0.6, mean=mean, var=var), 1e-12)
    assert all(torch.equal(a, b) for a, b in zip(norm.buffers(), before, strict=True))


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


def test_state_is_that_of_batch_norm():
    """The names in a state dict are those of torch's own layer, so that weights travel."""
    assert list(TdBatchNorm2d(5).state_dict()) == list(nn.BatchNorm2d(5).state_dict())


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
    """Another number of dimensions or channels is refused, naming both shapes."""
    with pytest.raises(ConfigError) as error:
        kind(5)(torch.zeros(shape))
    assert str(shape) in str(error.value)
    assert "C = 5" in str(error.value)


@pytest.mark.parametrize(("kind", "shape"), [(TdBatchNorm2d, (1, 1, 5, 1, 1)), (TdBatchNorm1d, (1, 1, 5))])
def test_one_value_has_no_variance(kind, shape):
    """In training a single value of each channel is refused; in evaluation it has the running statistics."""
    with pytest.raises(ConfigError, match="--batch-size"):
        kind(5)(torch.zeros(shape))
    assert kind(5).eval()(torch.zeros(shape)).shape == shape
    two = (2, *shape[1:])
    assert kind(5)(torch.zeros(two)).shape == two
