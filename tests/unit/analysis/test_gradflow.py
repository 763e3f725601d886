"""Records of gradient flow on convolutional networks; every measure against numpy is in test_against_numpy.py, the kernel in test_kernel.py."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lsgcli import models
from lsgcli.analysis import gradflow, lif_watchers
from lsgcli.analysis.gradients import Sample
from lsgcli.analysis.watchers import watching
from lsgcli.data.batches import Batch
from lsgcli.neurons import LIFState, initial_state, step
from lsgcli.neurons.kernels.base import Backend, single_backward
from lsgcli.store.flows import LIGHT, history
from lsgcli.system.device import Compute
from tests.flows import RECORD, problems

WITH_A_RUN = ("accuracy", "eval_gap", "batch_invariant", "tried", "activity", "checkpoint", "method", "history")
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


def test_no_gradient_is_not_an_exploding_one():
    """ms-resnet18 starts with weights of 0 in the last normalisation: 0 / 0 is no infinite ratio."""
    model = models.build("ms-resnet18", T=2, input_size=8, width_multiplier=1 / 16, method="lsg")
    batch = Batch(torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64), 0)
    record = gradflow.inspect(model, [batch], loss=loss, compute=CPU)
    last = record["layers"][-1]
    assert (last["grad_norm"], last["grad_ratio"]) == (0, 0)
    assert not any(layer["verdict"] == "exploding" for layer in record["layers"])


def test_light_record_agrees_with_the_full_one(model, batches):
    full = gradflow.inspect(model, batches[:1], loss=loss, compute=CPU)["layers"]
    layers = lif_watchers.layers(model)
    model.train().zero_grad()
    with watching(layers, full=False) as watchers:
        loss(model(batches[0].x), batches[0].y).backward()
    for light, whole in zip(gradflow.light_record(layers, watchers)(), full, strict=True):
        assert light == pytest.approx({key: whole[key] for key in light})
        assert light.keys() == {"name", *LIGHT}  # which training records, and readers expect


class Detached(Backend):
    """The neurons' equations by autograd, with nothing of a step in the graph of the next."""

    def __call__(self, current, p, overwrite=False):
        state, spikes = initial_state(current[0]), []
        for current_t, p_t in zip(current, p.each_step(current), strict=True):
            o, state = step(current_t, LIFState(state.u.detach(), state.o.detach()), p_t)
            spikes.append(o)
        return torch.stack(spikes)


def gradients(net, batch, backend):
    for layer in net.spiking_layers():
        layer.lif.backend = backend
    net.train().zero_grad()
    loss(net(batch.x), batch.y).backward()
    return [layer.synapse.weight.grad.clone() for layer in net.spiking_layers()]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("arch", "changes"),
    [("resnet19", {}), ("resnet19", {"residual": "sew"}), ("vggsnn", {}), ("vggsnn", {"decay_per": "channel"})],
)
def test_share_through_time_is_what_a_network_without_recurrence_lacks(arch, changes, dtype):
    torch.manual_seed(0)
    net = models.build(arch, T=T, input_size=16, width_multiplier=1 / 32, in_channels=2, decay=0.5, **changes).to(dtype)
    batch = Batch(torch.randn(T, 3, 2, 16, 16).to(dtype), torch.tensor([0, 1, 2]), 0)
    found = gradflow.inspect(net, [batch], loss=loss)["layers"]
    whole, spatial = (gradients(net, batch, backend) for backend in ("autograd", Detached()))
    expected = [float((a - b).norm() / a.norm()) for a, b in zip(whole, spatial, strict=True)]
    assert [layer["temporal_share"] for layer in found] == pytest.approx(expected, rel=1e-9 if dtype == torch.float64 else 1e-3)
    assert min(expected) > 0.01


def test_within_a_promise_of_one_backward_pass():
    """Which the analysis does not keep: it goes through each network twice."""
    torch.manual_seed(0)
    net = models.build("vggsnn", T=T, input_size=16, width_multiplier=1 / 16, in_channels=2, decay=0.5)
    batch = Batch(torch.randn(T, 3, 2, 16, 16), torch.tensor([0, 1, 2]), 0)
    expected = gradflow.inspect(net, [batch], loss=loss)
    with single_backward():
        assert gradflow.inspect(net, [batch], loss=loss) == expected


@pytest.mark.parametrize("ours", [True, False])
def test_the_network_stays_as_it_is(ours):
    """Its weights, running statistics, gradients and mode, and what a forward pass moves; whoever's network it is."""
    torch.manual_seed(0)
    net = models.build("vggsnn", T=T, input_size=16, width_multiplier=1 / 32, in_channels=2)
    whole = net if ours else Clamped(net)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = copy.deepcopy(net.state_dict())
    batch = Batch(torch.randn(T, 3, 2, 16, 16), torch.tensor([0, 1, 2]), 0)
    whole.eval()
    for sample in (None, Sample(2)):
        gradflow.inspect(
            whole, [batch], loss=loss, adapter=lambda net: lif_watchers.layers(net if ours else net.inner), sample=sample
        )
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in net.parameters())
    assert not whole.training


class Clamped(torch.nn.Module):
    """A network whose forward pass moves its weights."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        with torch.no_grad():
            for parameter in self.inner.parameters():
                parameter.clamp_(-0.01, 0.01)
        return self.inner(x)


def test_a_pool_that_does_not_divide_the_image():
    torch.manual_seed(0)
    net = models.build("vggsnn", T=2, input_size=16, width_multiplier=1 / 32)
    block = net.features[1]
    x = (torch.randn(2, 2, 2, 5, 7) > 0).float()  # spikes

    def run(backend):
        block.lif.backend = backend
        block.zero_grad()
        block(x).square().sum().backward()
        return block.current.conv.weight.grad.clone()

    whole, spatial = run("autograd"), run(Detached())
    block.lif.backend = "auto"
    (layer,) = (one for one in lif_watchers.layers(net) if one.module is block.lif)
    block.zero_grad()
    with watching([layer], full=True) as watchers:
        value = block(x).square().sum()
        value.backward(retain_graph=True)
        torch.testing.assert_close(block.current.conv.weight.grad, whole, rtol=1e-4, atol=1e-4)
        watchers[layer.name].spatial = True
        (found,) = torch.autograd.grad(value, [block.current.conv.weight])
    torch.testing.assert_close(found, spatial, rtol=1e-4, atol=1e-4)


def test_watching_leaves_training_as_it_is():
    torch.manual_seed(0)
    net = models.build("vggsnn", T=2, input_size=16, width_multiplier=1 / 16)
    batch = Batch(torch.randn(2, 3, 2, 16, 16), torch.tensor([0, 1, 2]), 0)
    seen = []
    for watched in (False, True):
        copied = copy.deepcopy(net).train()
        with watching(lif_watchers.layers(copied) if watched else [], full=False):
            loss(copied(batch.x), batch.y).backward()
        seen.append(({n: p.grad for n, p in copied.named_parameters()}, copied.state_dict()))
    for one, other in zip(*seen, strict=True):
        for name, tensor in one.items():
            assert torch.equal(tensor, other[name]), name


def test_records_are_as_documented(model, batches):
    record = gradflow.inspect(model, batches, loss=loss)
    whole = {**record, **dict.fromkeys(WITH_A_RUN), "checkpoint": "a.safetensors", "method": "lsg"}
    assert problems(whole) == []
    assert json.loads(json.dumps(whole)) == whole
    assert sorted(problems(record)) == sorted(f"record: {name} is missing" for name in WITH_A_RUN)
    odd = {**whole, "layers": [{**whole["layers"][0], "beta": "0.2", "gama": 1.0, "per_step": {}}]}
    assert [text.split(": ")[1][:4] for text in problems(odd)] == ["gama", "beta", "per_"]
    page = (Path(__file__).parents[3] / "docs" / "gradient-flow.md").read_text()
    assert [name for name in RECORD if f"- `{name}`" not in page] == []


def test_history_is_read_from_the_run(tmp_path):
    lines = [{"epoch": e, "layers": [{"name": "conv1", "beta": 0.1 * e, "alpha": 1.0, "coverage": None}]} for e in (1, 2)]
    lines.append({"epoch": 3, "event": "diverged", "layers": []})
    (tmp_path / "gradient-flow.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert history(tmp_path / "best.safetensors") == {
        "epochs": [1, 2],
        "layers": {
            "conv1": {
                "beta": [0.1, 0.2],
                "alpha": [1.0, 1.0],
                **{key: [None, None] for key in ("coverage", "firing_rate", "grad_norm")},
            }
        },
    }
    (tmp_path / "gradient-flow.jsonl").write_text("{}\n[]\n")
    assert history(tmp_path / "best.safetensors") is None
    assert history(tmp_path / "elsewhere" / "best.safetensors") is None


def test_inputs_that_are_always_zero():
    """Two of five input channels, and the channels of spikes that no neuron fires."""
    torch.manual_seed(0)
    net = models.build("vggsnn", T=T, input_size=16, width_multiplier=1 / 16, in_channels=5, method="fixed")
    x = torch.randn(T, 3, 5, 16, 16)
    x[:, :, [1, 3]] = 0
    layers = net.spiking_layers()
    with torch.no_grad():
        layers[1].norm.bias[:3] = -100  # these channels never fire
    flow = gradflow.inspect(net, [Batch(x, torch.tensor([0, 1, 2]), 0)], loss=loss)["layers"]
    assert flow[0]["presynaptic_silent"] == pytest.approx(2 / 5)
    assert flow[2]["presynaptic_silent"] == pytest.approx(3 / layers[2].synapse.in_channels)
