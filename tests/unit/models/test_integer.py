"""Weights on a grid, and integer inference: against sums of int64 in numpy, against floats of the same weights, and what it refuses."""

import numpy as np
import pytest
import torch

from lsgcli import models
from lsgcli.analysis.rates import FiringRates
from lsgcli.errors import ConfigError
from lsgcli.export.runners import stepwise
from lsgcli.models import quantise
from lsgcli.models.fold import fold
from lsgcli.models.integer import IntegerConv2d, deployed
from lsgcli.models.quantise import integers, round_weights
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels.base import Bytes
from lsgcli.neurons.kernels.fused import Fused
from lsgcli.neurons.kernels.reference import reference
from lsgcli.system import device as compute
from tests.unit.models.helpers import EVERY, seasoned, sequence

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def exact_products():
    try:
        compute.pick_precision("int8", CPU)
    except ConfigError as error:
        pytest.skip(error.message)


def counts(net, batch=3, seed=0, rate=0.7):
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(torch.full(sequence(net, batch).shape, rate), generator=generator)


# ------------------------------------------------------------------------------------------ numpy


def on_grid(weight, bits):
    """Integers and scales: the largest weight over the largest integer, rounded to 16 significant bits by its bit pattern."""
    most = 2 ** (bits - 1) - 1
    pattern = (np.abs(weight).reshape(len(weight), -1).max(1) / np.float32(most)).view(np.uint32)
    scale = ((pattern + 0x7F + (pattern >> 8 & 1)) & 0xFFFFFF00).view(np.float32)
    return np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int64), scale


def convolved(n, q, stride=1):
    """Sums of integers: n (T, B, C, H, W) -> (T, B, C', H', W')."""
    k = q.shape[-1]
    padded = np.pad(n, [(0, 0)] * 3 + [(k // 2, k // 2)] * 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), (3, 4))[:, :, :, ::stride, ::stride]
    sums = np.tensordot(windows.astype(np.float64), q.astype(np.float64), ([2, 5, 6], [1, 2, 3]))  # exact below 2^53
    return np.moveaxis(sums, -1, 2).astype(np.int64)


class Reference:
    """A folded network, read as a dictionary of arrays, in integers and float32."""

    def __init__(self, net, bits=8):
        self.w = {name: value.numpy() for name, value in fold(net).state_dict().items()}
        self.v_th, self.bits = np.float32(net.spec.neuron.threshold), bits

    def current(self, name, n, stride=1, levels=1):
        q, scale = on_grid(self.w[f"{name}.weight"], self.bits)
        sums = convolved(n, q, stride).astype(np.float32) if q.ndim == 4 else (n @ q.T).astype(np.float32)
        shape = (-1, 1, 1) if q.ndim == 4 else (-1,)
        return sums * (scale / np.float32(levels)).reshape(shape) + self.w[f"{name}.bias"].reshape(shape)

    def fire(self, name, current):
        beta = np.float32(1 / (1 + np.exp(-self.w[f"{name}.b"].astype(np.float64))))
        u, spikes = np.zeros_like(current[0]), []
        for now in current:
            u = beta * u * (u < self.v_th) + now
            spikes.append(u >= self.v_th)
        return np.stack(spikes).astype(np.int64)

    def vggsnn(self, n):
        levels = 1
        for i, pool in enumerate((1, 2, 1, 2, 1, 2, 1, 2)):
            n = self.fire(f"features.{i}.lif", self.current(f"features.{i}.current.conv", n, levels=levels))
            n = n.reshape(*n.shape[:3], n.shape[3] // pool, pool, n.shape[4] // pool, pool).sum((4, 6))
            levels = pool**2
        return self.current("classifier", n.reshape(*n.shape[:2], -1), levels=levels)

    def resnet19(self, n):
        n = self.fire("stem.lif", self.current("stem.current.conv", n))
        for stage, (blocks, stride) in enumerate(((3, 1), (3, 2), (2, 2))):
            for i in range(blocks):
                name, stride = f"stages.{stage}.{i}", stride if i == 0 else 1
                main = self.fire(f"{name}.first.lif", self.current(f"{name}.first.current.conv", n, stride))
                main = self.current(f"{name}.second.conv", main)
                shortcut = n.astype(np.float32)
                if f"{name}.shortcut.conv.weight" in self.w:
                    shortcut = self.current(f"{name}.shortcut.conv", n, stride)
                n = self.fire(f"{name}.lif", main + shortcut)
        q, scale = on_grid(self.w["hidden.weight"], self.bits)
        hidden = n.mean((3, 4)).astype(np.float32) @ (q * scale[:, None]).T.astype(np.float32) + self.w["hidden.bias"]
        return self.current("classifier", self.fire("hidden_lif", hidden))


@pytest.mark.parametrize(
    ("which", "name", "bits"), [("vggsnn", "vggsnn", 8), ("vggsnn", "vggsnn", 4), ("resnet19-add", "resnet19", 8)]
)
def test_the_logits_are_those_of_integer_sums_in_numpy(which, name, bits):
    net = seasoned(which, dtype=torch.float32, weight_bits=None if bits == 8 else bits)
    x = counts(net)
    with torch.inference_mode():
        logits = deployed(net, "int8")(x).numpy()
    expected = getattr(Reference(net, bits), name)(x.numpy().astype(np.int64))
    np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    assert np.ptp(logits, (0, 1)).min() > 0.01  # the input matters


def test_a_convolution_of_the_largest_counts_and_weights_rounds_once():
    net = seasoned("vggsnn", dtype=torch.float32, width_multiplier=1 / 4, in_channels=3)
    conv = next(module for module in deployed(net, "int8").modules() if isinstance(module, IntegerConv2d))
    n = torch.full((2, 3, 16, 16), 255, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    q, scale = on_grid(conv.weight.detach().numpy(), 8)
    bias = conv.bias.detach().numpy().reshape(-1, 1, 1)
    exact = convolved(n.numpy()[None].astype(np.int64), q)[0].astype(np.float32) * scale.reshape(-1, 1, 1) + bias
    np.testing.assert_array_equal(conv(n).detach().numpy(), exact)


# ------------------------------------------------------------------------------------------ floats


@pytest.mark.parametrize("which", EVERY)
def test_the_logits_are_those_of_floats_with_the_same_weights(which):
    net = seasoned(which, dtype=torch.float32)
    x = counts(net, batch=2)
    floats = fold(net)
    round_weights(floats)
    whole = deployed(net, "int8")
    with torch.inference_mode():
        expected = floats(x)
        torch.testing.assert_close(whole(x), expected, rtol=1e-5, atol=1e-5)
        rates = FiringRates(floats), FiringRates(whole)
        floats(x), whole(x)
        ours, theirs = (rate.close() for rate in rates)
        assert ours == pytest.approx(theirs)
        if net.images_only:  # all timesteps at once
            return
        steps = stepwise(whole, {})
        state = steps.rest(2)
        for frame, logits in zip(x, expected, strict=True):
            now, state = steps.step(frame, state)
            torch.testing.assert_close(now, logits, rtol=1e-5, atol=1e-5)


def test_layers_of_real_values_compute_in_float32():
    net, real = seasoned("ms-resnet18", dtype=torch.float32), set()
    whole = deployed(net, "int8")
    for name, module in whole.named_modules():
        if isinstance(module, IntegerConv2d):
            module.register_forward_pre_hook(
                lambda module, x, name=name: None if module.counts(*x) is not None else real.add(name)
            )
    with torch.inference_mode():
        whole(sequence(net))
    assert real == {*(f"stages.{stage}.0.shortcut.conv" for stage in (1, 2, 3)), "stem.conv"}


def test_counts_above_255_and_other_numbers_are_not_rounded():
    net = seasoned("vggsnn", dtype=torch.float32)
    first = next(module for module in deployed(net, "int8").modules() if isinstance(module, IntegerConv2d))
    for value in (256.0, -1.0, 0.5, float("nan")):
        assert first.counts(torch.tensor([1.0, value])) is None
    assert first.counts(torch.tensor([0.0, 255.0])).tolist() == [0, 255]


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_fused_bytes_are_those_of_the_reference(pool):
    z, spikes = torch.randn(3, 2, 5, 8, 6), (torch.rand(3, 2, 5, 8, 6) < 0.3).to(torch.uint8)
    layer, found = LIF(decay=0.4, input_gain="1-beta" if pool == 3 else "1"), []
    for backend in (Fused(as_bytes=True), Bytes(reference)):
        layer.backend = backend
        with torch.inference_mode():
            found.append(layer.normalise_and_fire(None, z.clone(), residual=spikes, pool=pool))
    assert found[0].dtype == torch.uint8
    assert found[0].max() > 1 or pool == 1
    assert torch.equal(*found)


# ---------------------------------------------------------------------------------------- refusals


def test_neurons_that_pass_on_their_threshold_are_refused():
    net = models.build("mlp", method="trsg", width_multiplier=1 / 32, input_size=9)
    with pytest.raises(ConfigError, match="int8: found the method trsg"):
        deployed(net, "int8")


def test_devices_and_processors_without_exact_products_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="found int8 on the device cuda"):
        compute.pick_precision("int8", torch.device("cuda"))
    monkeypatch.setattr(compute, "products_are_exact", lambda: False)
    with pytest.raises(ConfigError, match="not exact"):
        compute.pick_precision("int8", CPU)


@pytest.mark.parametrize("bits", [8, 4])
def test_the_grid(bits):
    weight = torch.randn(50, 7, 3, 3) * torch.logspace(-6, 3, 50).view(-1, 1, 1, 1)
    weight[3] = 0
    q, scale = integers(weight, bits)
    most = 2 ** (bits - 1) - 1
    assert (q.dtype, int(q.abs().max())) == (torch.int8, most)
    assert (scale > 0).all()
    assert not q[3].any()
    error = (weight - q * scale.view(-1, 1, 1, 1)).abs() / scale.view(-1, 1, 1, 1)
    assert error.max() <= 0.5 + 1e-3
    # Exact products, so that float convolutions of any framework multiply by the same weights, and the grid is found again.
    assert np.array_equal(quantise.on_grid(weight, bits).double(), q.double() * scale.double().view(-1, 1, 1, 1))
    again, same = integers(quantise.on_grid(weight, bits), bits)
    assert torch.equal(q, again)
    assert torch.equal(scale[q.flatten(1).any(1)], same[q.flatten(1).any(1)])


def test_training_multiplies_by_rounded_weights_and_passes_gradients_through():
    rounded = models.build("mlp", width_multiplier=1 / 32, input_size=9, weight_bits=4).train()
    plain = models.build("mlp", width_multiplier=1 / 32, input_size=9).train()
    plain.load_state_dict(rounded.state_dict())
    round_weights(plain, 4)
    x = sequence(plain, 8)
    for net in (rounded, plain):
        net(x).square().sum().backward()
    assert torch.equal(rounded(x), plain(x))
    for ours, theirs in zip(rounded.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)  # oneDNN's sums for SSE4.1 depend on where in memory the weights are
    assert not torch.equal(rounded.classifier.weight, plain.classifier.weight)  # the trained weight remains a float


@pytest.mark.parametrize("which", ["vggsnn", "resnet19-add"])
def test_folding_a_network_of_few_bits(which):
    net = seasoned(which, weight_bits=4)  # in double precision
    folded = fold(net)
    torch.testing.assert_close(folded(sequence(net)), net(sequence(net)))
    for layer in folded.spiking_layers():
        weight = layer.synapse.weight.detach().flatten(1)
        steps = weight / weight.abs().amax(1, keepdim=True) * 7
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
