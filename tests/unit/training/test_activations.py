"""Memory of activations by levels: the same bits, less memory."""

import pytest
import torch

from benchmarks.measuring import counted
from lsgcli import models
from lsgcli.config.machine import MachineConfig
from lsgcli.config.resolve import resolve
from lsgcli.config.run import from_dict
from lsgcli.data.batches import Batch
from lsgcli.system.device import Compute
from lsgcli.training.initialise import new_model
from lsgcli.training.losses import gradients
from tests import tiny
from tests.exports import slow_if

CPU = Compute(torch.device("cpu"))
CASES = [
    {"method": "measured-sigma"},
    {"backend": "reference", "decay_per": "channel"},
    {"backend": "reference", "arch": "resnet19", "residual": "add", "method": "ds-atgo", "threshold": 1.0},
    {"arch": "resnet19", "residual": "add", "dropout": 0.3, "dropout_at": "neurons"},
    {"arch": "resnet19", "residual": "sew", "method": "trsg", "init_potential": "measured"},
    *({"arch": arch} for arch in ("ms-resnet18", "sew-resnet18", "max-resnet18")),
    {"norm": "none", "method": "adaptive"},
    {"arch": "qkformer", "weight_bits": 4},
    {"method": "asgl", "precision": "bf16"},
    {"neuron": "clif", "norm": "mpbn"},
    {"norm": "tebn", "accumulate": 2},
    {"synapses": "spikes"},
]


def batch(n=4, size=16):
    torch.manual_seed(5)
    return Batch(torch.rand(3, n, 2, size, size).mul(3).round(), torch.arange(n) % 3, 0)


def outcome(level, **settings):
    """Gradients, parameters and buffers after a step, and the peak of activations."""
    config = tiny.config(memory=level, **settings)
    model = new_model(config, 3, 2).train()
    torch.manual_seed(7)
    compute = Compute(CPU.device, config.precision.replace("auto", "fp32"))
    with counted(compute) as peak:
        sums = gradients(model, batch(), config, compute)
    model.end_step()
    return [sums, *(p.grad for p in model.parameters() if p.grad is not None), *model.buffers()], peak[0]


@pytest.mark.parametrize("settings", [slow_if("resnet18" in case.get("arch", ""), case) for case in CASES], ids=str)
def test_recomputation_changes_no_bit(settings):
    """Random numbers are drawn again, statistics and measurements updated once; the peak is lower."""
    (expected, most), (found, least) = outcome("none", **settings), outcome("bits", **settings)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert least < most


def test_several_backward_passes():
    """Also of a graph that is kept: each computes the activations again."""
    model = models.build("vggsnn", T=2, input_size=16, width_multiplier=1 / 16).train()
    model.save_memory()
    loss = model(batch().x[:2]).sum()
    loss.backward(retain_graph=True)
    first = [p.grad.clone() for p in model.parameters()]
    loss.backward()
    assert all(torch.equal(p.grad, 2 * one) for p, one in zip(model.parameters(), first, strict=True))


@pytest.mark.parametrize(("given", "level"), [(0, "none"), (1, "bits"), (2, "bits"), ("4", "bits"), ("bits", "bits")])
def test_values_of_the_setting(given, level):
    """Numbers, of earlier settings files and commands, too."""
    assert from_dict({"memory": given}).memory == level
    assert resolve({"memory": str(given)}, environment={}).memory == level
    assert MachineConfig(memory=given).memory == level


def test_the_other_name_of_bits():
    assert resolve({}, environment={"LSG_CHECKPOINT_ACTIVATIONS": "layers"}).memory == "bits"
    assert from_dict({"checkpoint_activations": "layers"}).memory == "bits"
