"""Memory of activations by levels: the same bits, less memory, and the plan."""

import itertools

import pytest
import torch

from lsgcli import models
from lsgcli.config.machine import MachineConfig
from lsgcli.config.resolve import resolve
from lsgcli.config.run import from_dict
from lsgcli.data.batches import Batch
from lsgcli.errors import ConfigError
from lsgcli.models import recompute
from lsgcli.models.recompute import KEEP, Recompute
from lsgcli.neurons.kernels.saved import kept, saved_compactly
from lsgcli.system.device import Compute
from lsgcli.training.activations import Sizes, measured, named, peak, plan, settle, sizes_of
from lsgcli.training.loop import new_model
from lsgcli.training.step import gradients
from tests import tiny

CPU = Compute(torch.device("cpu"))
CASES = [
    {"method": "measured-sigma"},
    {"backend": "reference", "decay_per": "channel"},
    {"backend": "reference", "arch": "resnet19", "residual": "add", "method": "ds-atgo", "threshold": 1.0},
    {"arch": "resnet19", "residual": "add", "dropout": 0.3, "dropout_at": "neurons"},
    {"arch": "resnet19", "residual": "sew", "method": "trsg", "init_potential": "measured"},
    {"arch": "ms-resnet18"},
    {"arch": "qkformer", "weight_bits": 4},
    {"method": "asgl", "precision": "bf16"},
    {"neuron": "clif", "norm": "mpbn"},
    {"norm": "tebn", "accumulate": 2},
    {"convolution": "spikes"},
]


def batch(n=4, size=16):
    torch.manual_seed(5)
    return Batch(torch.rand(3, n, 2, size, size).mul(3).round(), torch.arange(n) % 3, 0)


def outcome(how, **settings):
    """Gradients, parameters and buffers after a step, with segments that all save memory in one way."""
    config = tiny.config(**settings)
    model = new_model(config, 3, 2).train()
    for module in model.modules():
        if hasattr(module, "recompute"):
            module.recompute = how
    torch.manual_seed(7)
    sums = gradients(model, batch(), config, Compute(CPU.device, config.precision.replace("auto", "fp32")))
    model.end_step()
    return [sums, *(p.grad for p in model.parameters() if p.grad is not None), *model.buffers()]


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_recomputation_changes_no_bit(settings, monkeypatch):
    """Random numbers are drawn again, statistics and measurements updated once; in parts that do not divide T B, too."""
    monkeypatch.setattr(recompute, "PARTS", 5)
    expected = outcome(KEEP, **settings)
    for how in (Recompute(True), Recompute(True, True, True), Recompute(False, True)):
        found = outcome(how, **settings)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "settings", [{}, *(pytest.param({"arch": arch}, marks=pytest.mark.slow) for arch in ("resnet19", "qkformer"))], ids=str
)
def test_each_level_has_the_same_gradients_and_at_most_the_peak_of_the_one_before(settings):
    peaks, results = [], []
    for level in range(5):
        config = tiny.config(memory=level, **settings)
        model = new_model(config, 3, 2)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        settle(model, config, CPU, batch)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        how = {name: module.recompute for name, module in model.named_modules() if hasattr(module, "recompute")}
        peaks.append(measured(model, how, config, CPU, batch()))
        gradients(model, batch(), config, CPU)
        results.append([p.grad for p in model.parameters()])
    assert peaks[1] < 0.75 * peaks[0]
    assert all(after <= before for before, after in itertools.pairwise(peaks))
    for found in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found, results[0], strict=True))


def test_estimated_and_measured_peak():
    config = tiny.config(size=32)
    model = new_model(config, 3, 2)
    sizes = sizes_of(model, batch(16, 32), CPU)
    first, second, *_ = sizes  # 2 channels of 32 x 32 pixels, to 4; to 8, pooled
    n = 3 * 16 * 32 * 32
    assert first[1:] == (n * 2 * 4, n * 2 * 4, n * 4 * 4, n * 4 * 4, 4 * 2 * 9 * 4, n * 4 * 2 * 9)
    assert second[1:] == (n * 4 * 4, n * 4 // 8, n * 8 * 4, n * 8 // 4 * 4, 8 * 4 * 9 * 4, n * 8 * 4 * 9)
    for level in (0, 1, 3):
        hows = plan(sizes, level)
        found = measured(model, named(sizes, hows), config, CPU, batch(16, 32))
        assert 0.8 * found < peak(sizes, hows) < 1.25 * found


def test_the_plan_keeps_what_does_not_lower_the_peak():
    """A wide first segment has the peak; deeper ones, more expensive, keep their output as long as all of it fits below."""
    sizes = [
        Sizes("a", 8, 8, 80, 80, 0, 1),
        Sizes("b", 80, 3, 160, 40, 0, 9),
        *(Sizes(n, 40, 2, 40, 40, 0, 9) for n in "cdefgh"),
    ]
    peaks = [peak(sizes, plan(sizes, level)) for level in range(5)]
    assert peaks[0] > peaks[1] > peaks[2] > peaks[3] == peaks[4]
    found = plan(sizes, 4)
    assert found[1] == Recompute(True, True, True)
    assert 0 < sum(not how.output for how in found) < len(sizes)
    for index, how in enumerate(found):
        if how.output:
            assert peak(sizes, [*found[:index], how._replace(output=False), *found[index + 1 :]]) > peaks[3]


@pytest.mark.parametrize("levels", [None, 1, 4, 200])
@pytest.mark.parametrize("in_bits", [False, True])
def test_parts_of_what_is_kept(levels, in_bits, monkeypatch):
    monkeypatch.setattr("lsgcli.neurons.kernels.saved.in_bits", lambda x: in_bits)
    x = torch.randint(0, 9, (7, 3, 5, 5)).float() / (levels or 3)
    x = x.contiguous(memory_format=torch.channels_last)
    with saved_compactly(x, levels or 1) if levels else torch.no_grad():
        own = kept(x)
    assert torch.equal(own.whole(), x)
    assert own.whole().stride() == x.stride()
    for first, last in ((0, 3), (3, 5), (5, 7)):
        assert torch.equal(own.part(slice(first, last)), x[first:last])


def test_a_second_backward_pass_is_an_error():
    model = models.build("vggsnn", T=2, input_size=16, width_multiplier=1 / 16).train()
    model.recompute_all()
    loss = model(batch().x[:2]).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward pass"):
        loss.backward()


def test_the_other_name_of_level_1():
    assert resolve({}, environment={"LSG_CHECKPOINT_ACTIVATIONS": "layers"}).memory_level == 1
    assert from_dict({"checkpoint_activations": "layers"}).memory_level == 1
    assert MachineConfig(memory=3).memory_level == 3
    with pytest.raises(ConfigError, match="memory: found 5, expected at least 0 and at most 4"):
        resolve({"memory": 5}, environment={})
