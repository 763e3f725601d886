"""Convolutions by spikes in networks: the choice, gradients, and what is shared with other parts."""

import contextlib
import math

import pytest
import torch
from torch import nn

import lsgcli as lsg
from lsgcli import models
from lsgcli.errors import ConfigError
from lsgcli.models import crossings
from lsgcli.models.convolution import Conv2d, PrepackedConv2d, by_spikes, prepack
from lsgcli.models.layers import at_each_step
from lsgcli.neurons.kernels.saved import saved_compactly
from lsgcli.system.device import CONVOLUTIONS, Compute, Convolutions, convolved, pick_synapses
from tests.exports import slow_if

pytest.importorskip("numba")
CPU = torch.device("cpu")
NETWORKS = [
    ("vggsnn", {}),
    ("resnet19", {"residual": "add"}),
    ("resnet19", {"residual": "sew"}),
    ("ms-resnet18", {}),
    ("qkformer-dvs", {"input_size": 64}),
]


@contextlib.contextmanager
def chosen(choice, **known):
    with convolved(Convolutions(choice, known)):
        yield CONVOLUTIONS.get().crossings


def built(arch, **changes):
    torch.manual_seed(0)
    settings = {"method": "lsg", "T": 3, "input_size": 16, "width_multiplier": 1 / 16, **changes}
    model = models.build(arch, **settings).train()
    return model, torch.rand(3, 2, model.spec.in_channels, settings["input_size"], settings["input_size"])


def gradients(model, x, choice="dense"):
    """The choice is that of the forward pass, as in training; activations may be recomputed outside of its context."""
    model.zero_grad()
    with chosen(choice):
        logits = model(x)
    logits.square().sum().backward()
    return [logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.fixture
def counted(monkeypatch):
    from lsgcli.neurons.kernels.cpu import rows

    calls = {"convolved": 0, "weight_gradient": 0}

    def counting(name, function):
        def call(*arguments):
            calls[name] += 1
            return function(*arguments)

        return call

    for name in calls:
        monkeypatch.setattr(rows, name, counting(name, getattr(rows, name)))
    return calls


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize(("arch", "changes"), NETWORKS, ids=[f"{arch} {changes}" for arch, changes in NETWORKS])
def test_a_network_computes_the_same(arch, changes, checkpointed, counted):
    model, x = built(arch, **changes)
    model.save_memory(checkpointed)
    dense = gradients(model, x)
    assert not any(counted.values())
    model, x = built(arch, **changes)
    model.save_memory(checkpointed)
    found = gradients(model, x, "spikes")
    assert all(counted.values())
    for a, b in zip(found, dense, strict=True):
        assert (a - b).norm() <= 1e-3 * b.norm() + 1e-6


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bf16", [False, slow_if(True, True)])  # whose kernels take seconds to compile
def test_a_layer_has_the_gradients_of_autograd(bias, bf16):
    torch.manual_seed(0)
    conv = Conv2d(5, 7, 3, stride=2, padding=1, bias=bias)
    x = (torch.rand(2, 3, 5, 8, 8) < 0.3).float()
    results = []
    for choice in ("dense", "spikes"):
        inputs = x.clone().requires_grad_()
        with chosen(choice), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            z = at_each_step(conv, inputs.bfloat16() if bf16 else inputs, 1)
        z.float().square().sum().backward()
        results.append([z.detach().float(), inputs.grad, *(p.grad.clone() for p in conv.parameters())])
        conv.zero_grad()
        assert z.dtype == (torch.bfloat16 if bf16 else torch.float32)
    for a, b in zip(*results, strict=True):
        assert (a - b).norm() <= (2e-2 if bf16 else 1e-6) * b.norm()


@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize(("channels", "groups", "padding", "stride"), [(4, 2, 0, 2), (4, 1, 1, 2), (6, 3, (1, 2), (2, 3))])
def test_small_kernels_with_stride_keep_groups_and_padding(channels, groups, padding, stride, mode):
    """As torch's own, in float64, whose backward pass is not that of oneDNN."""
    torch.manual_seed(0)
    settings = {"stride": stride, "padding": padding, "groups": groups, "padding_mode": mode}
    conv = Conv2d(channels, 6, 1, **settings).double()
    x = torch.randn(2, channels, 9, 7, dtype=torch.float64, requires_grad=True)
    expected = nn.Conv2d._conv_forward(conv, x, conv.weight, conv.bias)
    grad = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (x, *conv.parameters()), grad)
    out = conv(x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(torch.autograd.grad(out, (x, *conv.parameters()), grad), wanted)


@pytest.mark.parametrize(("size", "expected"), [(8, [1, 3] * 2), (300, [])])
def test_a_small_layer_is_computed_by_one_thread(size, expected, monkeypatch):
    """Forward and backward, if it is trained; the other layers have all threads again."""
    threads, calls, set_threads = torch.get_num_threads(), [], torch.set_num_threads
    conv, x = Conv2d(4, 64, 3), torch.rand(1, 4, size, size)
    try:
        set_threads(3)
        monkeypatch.setattr(torch, "set_num_threads", lambda n: (calls.append(n), set_threads(n))[1])
        conv(x).sum().backward()
        assert (calls, torch.get_num_threads()) == (expected, 3)
        with torch.no_grad():
            conv(x)
        assert calls == expected
    finally:
        set_threads(threads)


def test_only_what_is_known_to_be_spikes_is_computed_by_them(counted):
    conv = Conv2d(8, 8, 3, padding=1)
    x = torch.randn(2, 2, 8, 4, 4)
    with chosen("spikes"):
        at_each_step(conv, x, None)
        for other in (
            nn.Conv2d(8, 8, 3, padding=1),
            Conv2d(8, 8, 3, padding=1, groups=2),
            Conv2d(8, 8, (1, 3), padding="same"),
        ):
            at_each_step(other, (x > 1).float(), 1)
    assert not any(counted.values())


def test_a_linear_layer_finds_out_whether_its_input_consists_of_spikes(counted):
    """Such as frames of events; also in a network, whose hidden layers see spikes anyway."""
    layer = Conv2d(70, 9, 1)
    events, real = torch.poisson(torch.full((2, 30, 70, 1, 1), 0.1)), torch.rand(2, 30, 70, 1, 1)
    for x, expected in ((events, 1), (real, 0)):
        counted.update(convolved=0, weight_gradient=0)
        with chosen("spikes"):
            found = torch.autograd.grad((at_each_step(layer, x) ** 2).sum(), layer.weight)[0]
        assert counted == {"convolved": expected, "weight_gradient": expected}
        exact = layer.weight.detach().double().flatten(1).requires_grad_()
        z = x.double().flatten(2) @ exact.t() + layer.bias.double()
        torch.testing.assert_close(found.flatten(1).double(), torch.autograd.grad((z**2).sum(), exact)[0], rtol=1e-5, atol=1e-4)

    counted.update(convolved=0, weight_gradient=0)
    model, _ = built("mlp", in_channels=1, input_size=20, input_height=1)
    model = model.to(memory_format=torch.channels_last)
    x = torch.poisson(torch.full((3, 2, 1, 1, 20), 0.2))
    for dense, by in zip(gradients(model, x), gradients(model, x, "spikes"), strict=True):
        torch.testing.assert_close(dense, by, rtol=1e-4, atol=1e-5)
    assert counted == {"convolved": 2, "weight_gradient": 2}


def test_memory_in_another_order_is_dense(counted):
    conv, x = Conv2d(8, 8, 3, padding=1), (torch.rand(2, 8, 4, 4) < 0.5).float()
    with chosen("spikes"), saved_compactly(x, 1):
        found = conv(x)
    assert not any(counted.values())
    torch.testing.assert_close(found, nn.Conv2d.forward(conv, x))


@pytest.mark.parametrize("value", [256, -2, 2**33, math.nan])
def test_what_are_no_numbers_of_spikes_is_dense(value, counted):
    """Also in the gradient of the weight, for which the input is saved as it is."""
    conv, x = Conv2d(8, 8, 3, padding=1), torch.ones(1, 2, 8, 4, 4)
    x[0, 1, 3, 2, 2] = value
    with chosen("spikes"):
        y = at_each_step(conv, x, 1)
    assert not any(counted.values())
    plain = nn.Conv2d.forward(conv, x[0])
    gradients = [torch.autograd.grad(out.sum(), conv.weight)[0] for out in (y, plain)]
    torch.testing.assert_close(y[0], plain, equal_nan=True)
    torch.testing.assert_close(*gradients, equal_nan=True)


def test_one_packed_copy_is_shared():
    """By two convolutions, and with what autograd saves of the same spikes."""
    x = (torch.rand(4, 8, 6, 6) < 0.2).float().contiguous(memory_format=torch.channels_last)
    convolutions = [Conv2d(8, 8, 3, padding=1), Conv2d(8, 4, 1)]
    with chosen("spikes"), saved_compactly(x, 1):
        planes = [by_spikes(conv, x).packed.planes for conv in convolutions]
        y = x.requires_grad_().square()
    assert planes[0] is planes[1]
    assert y.grad_fn._raw_saved_self.data[0].words is planes[0]


@pytest.mark.parametrize(
    ("crossing", "forward", "weight"), [((0.5, 0.5), 1, 1), ((0.5, 0.1), 1, 0), ((0.1, 0.5), 0, 1), ((0.1, 0.1), 0, 0)]
)
def test_auto_computes_by_spikes_below_the_crossing(crossing, forward, weight, counted):
    conv = Conv2d(8, 8, 3, padding=1)
    x = torch.zeros(1, 4, 8, 6, 6)
    x[:, :, :2] = 1  # a density of 1/4
    with chosen("auto") as known:
        with torch.no_grad():
            at_each_step(conv, x, 1)
        (name,) = known
        known[name] = list(crossing)
        counted.update(convolved=0, weight_gradient=0)
        at_each_step(conv, x, 1).sum().backward()
    assert (counted["convolved"], counted["weight_gradient"]) == (forward, weight)


def test_auto_counts_the_spikes_of_few_inputs_while_dense_is_faster(counted, monkeypatch):
    """In inference; in training they are in bits anyway."""
    from lsgcli.neurons.kernels.cpu import packing

    calls, pack = [], packing.packed
    monkeypatch.setattr(packing, "packed", lambda *arguments: calls.append(1) or pack(*arguments))
    monkeypatch.setattr(crossings, "_of_machine", lambda *_: [0.1, 0.0])
    conv, dense = Conv2d(8, 8, 3, padding=1), torch.ones(1, 4, 8, 6, 6)
    with chosen("auto"):
        with torch.no_grad():
            for _ in range(129):
                at_each_step(conv, dense, 1)
            assert (len(calls), counted["convolved"]) == (3, 0)
            for _ in range(64):
                at_each_step(conv, dense.new_zeros(dense.shape), 1)
            assert counted["convolved"] == 1
        at_each_step(conv, dense, 1)
        assert len(calls) == 5


def test_a_user_chooses_synapses(counted):
    model, x = built("vggsnn")
    for choice, calls in (("dense", 0), ("spikes", 14)):
        with lsg.synapses(choice):
            logits = model(x)
        logits.square().sum().backward()
        assert sum(counted.values()) == calls  # of seven layers behind neurons, the output and the gradient of the weight
    with pytest.raises(ConfigError, match="synapses"), lsg.synapses("sparse"):
        pass


def test_a_user_is_told_where_spikes_are_not_added(caplog):
    with lsg.synapses("spikes"):
        for _ in range(2):
            Conv2d(8, 8, 1, device="meta")(torch.empty(1, 8, 2, 2, device="meta"))
    assert caplog.text.count("synapses: dense, because of the device meta") == 1


def test_the_gradient_of_the_input_has_its_memory_order():
    conv, x = Conv2d(8, 6, 3, padding=1), (torch.rand(2, 8, 5, 5) < 0.3).float()
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    with chosen("spikes"), saved_compactly(x, 1):
        z = conv(x)
    (gradient,) = torch.autograd.grad(z, x, torch.randn_like(z))
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_crossings_of_a_network_do_not_depend_on_the_batch():
    model, x = built("vggsnn")
    compute = Compute(CPU, convolutions=Convolutions("auto"))
    known = dict(model.crossings(compute))
    assert len(known) >= 4
    with compute.context():
        model(x).square().sum().backward()
        model(x[:, :1])
    assert compute.convolutions.crossings == known
    assert model.crossings(Compute(CPU)) == {}


@pytest.mark.parametrize(
    ("dense", "low", "high", "expected"),
    [(3, 1, 2, 0.45), (1, 1, 2, 0.05), (0.5, 1, 2, 0), (100, 1, 2, crossings.LARGEST), (2, 1, 1, crossings.LARGEST)],
)
def test_a_crossing_is_where_the_times_meet(dense, low, high, expected):
    assert crossings.crossing(dense, low, high) == pytest.approx(expected)


def test_crossings_are_measured_once(monkeypatch, tmp_path):
    from lsgcli.neurons.kernels.cpu import build
    from lsgcli.neurons.kernels.cpu.rows import Geometry

    geometry, calls = Geometry(80, 6, 6, 8, 6, 6, 8, 3, 1, 1), []
    monkeypatch.setattr(build, "folder", lambda: tmp_path)
    monkeypatch.setattr(crossings, "measured", lambda g, dtype: calls.append(g) or [0.25, 0.5])
    assert crossings.of(geometry, torch.float32, {}) == crossings.of(geometry, torch.float32, {}) == [0.25, 0.5]
    assert len(calls) == 1
    (kept,) = tmp_path.iterdir()
    kept.write_text("{damaged")
    assert crossings.of(geometry, torch.float32, {}) == [0.25, 0.5]
    assert len(calls) == 2


def test_weights_are_arranged_once_in_inference(counted):
    torch.manual_seed(0)
    net = nn.Sequential(Conv2d(8, 6, 3, padding=1, bias=True))
    conv = net[0]
    x = (torch.rand(1, 1, 8, 5, 5) < 0.3).float()
    expected = conv(x[0])
    prepack(net)
    assert type(conv) is PrepackedConv2d
    with torch.inference_mode(), chosen("spikes"):
        torch.testing.assert_close(at_each_step(conv, x, 1)[0], expected)
        (rows,) = conv.rows.values()
        at_each_step(conv, x, 1)
    assert [*conv.rows.values()] == [rows]
    assert counted["convolved"] == 2


@pytest.mark.parametrize(("device", "precision"), [("cuda", "fp32"), ("cpu", "int8"), ("cpu", "fp16")])
def test_what_cannot_be_computed_by_spikes_is_dense(device, precision, caplog):
    assert pick_synapses("spikes", torch.device(device), precision) == "dense"
    assert "synapses: dense, because of" in caplog.text
    assert pick_synapses("auto", torch.device(device), precision) == "dense"
    assert pick_synapses("auto", CPU, "fp32") == "auto"


@pytest.mark.slow
def test_a_compiled_layer_is_one_graph():
    """torch.compile cannot read context variables."""
    torch.manual_seed(0)
    conv = Conv2d(8, 6, 3, padding=1)
    x = (torch.rand(2, 3, 8, 5, 5) < 0.3).float()
    compiled = torch.compile(lambda x: at_each_step(conv, x, 1), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), at_each_step(conv, x, 1))


@pytest.mark.parametrize("choice", ["dense", "spikes"])
def test_neurons_may_overwrite_the_result(choice):
    """As the reference does with the current of networks without normalisation."""
    torch.manual_seed(0)
    net = models.build(
        "vggsnn", T=2, num_classes=3, in_channels=2, input_size=16, width_multiplier=0.125, backend="reference", norm="none"
    )
    with chosen(choice):
        net((torch.rand(2, 2, 2, 16, 16) < 0.2).float()).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
