"""What layers keep for the backward pass, and what they hand to a backend."""

import os
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from lsgcli import models
from lsgcli.models.base import NetworkSpec
from lsgcli.models.layers import ConvNorm, SpikingConv, at_each_step
from lsgcli.neurons.kernels.base import single_backward
from tests.unit.models.helpers import EVERY, sequence, small


def gradients(model, x):
    model.zero_grad()
    y = model(x)
    y.square().sum().backward()
    return [y.detach(), *(p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize(
    ("arch", "changes"),
    [
        ("vggsnn", {}),
        ("resnet19", {"residual": "add"}),
        ("resnet19", {"residual": "sew"}),
        ("ms-resnet18", {}),
        ("qkformer", {}),
    ],
    ids=["vggsnn", "add", "sew", "ms", "qkformer"],
)
@pytest.mark.parametrize("bf16", [False, True])
def test_inputs_that_are_kept_packed_change_no_bit(arch, changes, bf16):
    torch.manual_seed(0)
    model = models.build(arch, T=2, input_size=16, width_multiplier=1 / 16, **changes).train()
    x = torch.randn(2, 3, model.spec.in_channels, 16, 16).abs().mul(3)

    def run():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            return gradients(model, x)

    found, convolutions = run(), [module for module in model.modules() if isinstance(module, ConvNorm)]
    assert sum(module.levels is not None for module in convolutions) >= len(convolutions) // 2
    for module in convolutions:
        module.levels = None
    assert all(torch.equal(a, b) for a, b in zip(found, run(), strict=True))


@pytest.mark.parametrize("levels", [1, 4])
def test_a_convolution_keeps_its_input_packed(levels):
    kept = []

    def pack(x):
        kept.append(x)
        return x

    conv = nn.Conv2d(3, 4, 3)
    x = (torch.randint(0, levels + 1, (2, 2, 3, 8, 8)) / levels).requires_grad_()
    y = at_each_step(conv, x, levels)
    state = y.grad_fn.next_functions[0][0]  # before the last reshaping
    with pytest.raises(RuntimeError, match="hooks"):  # torch's word for: somebody else packed it
        state._raw_saved_input.register_hooks(pack, lambda x: x)
    y.sum().backward()
    expected = torch.autograd.grad(at_each_step(conv, x.detach(), None).sum(), conv.weight)[0]
    assert torch.equal(conv.weight.grad, expected)


def test_a_convolution_does_not_keep_its_input_beside_the_packed_one():
    array = np.zeros((2, 2, 8, 8, 3), np.float32)  # channels last, so that nothing is copied
    alive = weakref.ref(array)
    x = torch.from_numpy(array).permute(0, 1, 4, 2, 3)
    y = at_each_step(nn.Conv2d(3, 4, 3), x, 1)
    del array, x
    assert alive() is None
    y.sum().backward()


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize(
    ("arch", "changes"),
    [("vggsnn", {"decay_per": "channel"}), ("resnet19", {"residual": "add"}), ("resnet19", {"residual": "sew"})],
    ids=["vggsnn", "add", "sew"],
)
@pytest.mark.parametrize("bf16", [False, True])
def test_one_backward_pass_has_the_same_gradients(arch, changes, bf16, checkpointed):
    """Bit for bit, though gradients are written over what was kept for them."""
    torch.manual_seed(0)
    model = models.build(arch, method="lsg", T=3, input_size=16, width_multiplier=1 / 16, **changes).train()
    model.save_memory(checkpointed)
    x = torch.rand(3, 2, model.spec.in_channels, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        plain = gradients(model, x)
        with single_backward():
            again = gradients(model, x)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_a_norm_that_is_not_ours_is_used():
    class High(nn.Module):
        def forward(self, z):
            return z + 100

    block = SpikingConv(NetworkSpec(T=2, num_classes=2, in_channels=1, input_size=4), 1, 2)
    block.current.norm = High()
    assert block(torch.zeros(2, 1, 1, 4, 4)).min() == 1


def test_a_strided_shortcut_of_few_channels_corrupts_no_memory():
    """In a process whose memory the C library checks: oneDNN's own kernel ends it with SIGABRT or SIGSEGV on processors with AVX2."""
    code = """
import torch
from lsgcli.models.convolution import Conv2d
torch.set_num_threads(1)
conv = Conv2d(4, 8, 1, stride=2, bias=False).to(memory_format=torch.channels_last)
for _ in range(60):
    x = torch.randn(64, 4, 16, 16).contiguous(memory_format=torch.channels_last).requires_grad_()
    conv(x).square().sum().backward()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "MALLOC_CHECK_": "3"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def wrong_levels(net):
    """Convolutions that receive other values than multiples of 1/levels, which the layer before states."""
    wrong, convolutions = [], [module for module in net.modules() if isinstance(module, ConvNorm) and module.levels is not None]

    def watch(module):
        def check(conv, args):
            counts = args[0].double() * module.levels
            if not torch.equal(counts, counts.round()):
                wrong.append(module)

        module.conv.register_forward_pre_hook(check)

    for module in convolutions:
        watch(module)
    net(sequence(net))
    assert len(convolutions) > 0
    return wrong


@pytest.mark.parametrize("which", EVERY)
def test_every_layer_states_what_it_passes_on(which):
    assert wrong_levels(small(which)) == []


def test_a_wrong_statement_is_found():
    net = small("vggsnn")
    net.features[2].current.levels = 1  # it receives averages of 4 spikes
    assert wrong_levels(net) == [net.features[2].current]


def test_neurons_that_pass_on_their_threshold_are_real_valued():
    net = models.build("vggsnn", method="trsg", T=2, input_size=16, width_multiplier=1 / 32)
    assert {block.out.levels for block in net.features} == {None}
