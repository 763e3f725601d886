"""SEW, MS and Max ResNets, QKFormer and plain networks: published sizes, blocks by own code, and that
everything applies to them."""

import nir
import pytest
import torch
from torch.nn import functional as F

from lsgcli import models
from lsgcli.analysis.energy import SynapticOperations
from lsgcli.errors import ConfigError
from lsgcli.export.base import open_exported
from lsgcli.export.graphs import Stepping
from lsgcli.export.runners import NetworkRunner, stepwise
from lsgcli.export.verify import KINDS, compare
from lsgcli.models.base import Signal
from lsgcli.models.fold import fold
from lsgcli.models.ms_resnet import MsBlock
from lsgcli.models.qkformer import Block, Embedding, SelfAttention, TokenAttention
from lsgcli.models.resnet19 import PlainBlock, SewBlock
from lsgcli.neurons import TdBatchNorm2d
from tests.exports import exported, samples, saved
from tests.unit.export.test_nir import met_too_early
from tests.unit.models.helpers import EVERY, SMALL, firing_rates, image, lif, seasoned, sequence, small
from tests.unit.neurons.helpers import close, normal

PUBLISHED = [  # network, options, layers of neurons, parameters without those of the neurons
    ("vggsnn", {}, 8, 9_268_746),  # 9 * (2 * 64 + 64 * 128 + ...), two for each channel, and 4608 * 10 + 10
    ("resnet19", {"residual": "add"}, 1 + 16 + 1, 12_697_994),
    ("resnet19", {"residual": "sew"}, 1 + 16 + 1 + 2, 12_697_994),
    ("sew-resnet18", {}, 1 + 16 + 3, 11_173_962),
    ("sew-resnet18", {"num_classes": 100}, 20, 11_220_132),
    ("sew-resnet34", {}, 1 + 32 + 3, 21_282_122),
    ("ms-resnet18", {}, 16 + 1, 11_173_962),
    ("max-resnet18", {}, 16 + 1, 12_502_090),
    ("max-resnet18", {"num_classes": 100}, 17, 12_548_260),
    ("qkformer", {}, 35, 6_706_234),
    ("qkformer", {"num_classes": 100}, 35, 6_740_884),
    ("qkformer-dvs", {}, 21, 1_504_138),
    ("qkformer-dvs", {"num_classes": 11, "mlp_ratio": 4}, 21, 1_999_371),  # the code of QKFormer for DVS128 Gesture
]


@pytest.mark.parametrize(("arch", "options", "neurons", "published"), PUBLISHED)
def test_published_number_of_parameters(arch, options, neurons, published):
    with torch.device("meta"):
        fixed, learned = (models.build(arch, method=method, **options) for method in ("fixed", "lsg"))
    assert sum(p.numel() for p in fixed.parameters()) == published
    assert sum(p.numel() for p in learned.parameters()) == published + neurons
    assert len({layer.name for layer in learned.spiking_layers()}) == neurons


@pytest.mark.parametrize(("depth", "blocks"), [(9, [1, 1, 1]), (13, [2, 2, 1]), (19, [3, 3, 2]), (35, [6, 5, 5])])
@pytest.mark.parametrize("residual", ["none", "add"])
def test_depth_counts_layers_with_weights(depth, blocks, residual):
    """All but shortcuts."""
    with torch.device("meta"):
        net = models.build("resnet19", depth=depth, residual=residual)
    assert [len(stage) for stage in net.stages] == blocks
    assert len(net.spiking_layers()) + 1 == depth


# The blocks once more, from torch's functions; rectangular surrogate of width 2 v_th sqrt(1 + beta^2).
V_TH = 0.8


def convolved(module, x, stride=1):
    weight, bias = module.conv.weight, module.conv.bias
    return torch.stack([F.conv2d(step, weight, bias, stride, weight.shape[-1] // 2) for step in x])


def convnorm(module, x, stride=1):
    return normed(module.norm, convolved(module, x, stride))


def normed(norm, z):
    over = (0, 1, 3, 4)
    z = (z - z.mean(over, keepdim=True)) / (z.var(over, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return V_TH * norm.weight[:, None, None] * z + norm.bias[:, None, None]


def fired(module, x, stride=1):
    return lif(module.lif, convnorm(module.current, x, stride), V_TH)


def pooled(x, *arguments):
    return torch.stack([F.max_pool2d(step, *arguments) for step in x])


def plain_block(block, x):
    return fired(block.second, fired(block.first, x, 2))


def sew_block(block, x):
    return fired(block.second, fired(block.first, x)) + x


def ms_block(block, x):
    branch = convnorm(block.second, fired(block.first, lif(block.lif, x, V_TH), 2))
    return branch + convnorm(block.shortcut, x, 2)


def embedding(module, x):
    first = fired(module.chain[0], x)
    second = lif(module.chain[1].lif, pooled(convnorm(module.chain[1].current, first), 3, 2, 1), V_TH)
    return second + fired(module.shortcut, x, 2)


def by_heads(x):
    """(T, B, C, H, W) -> tokens (T, B, 2 heads, H W, C / 2)."""
    T, B, C, H, W = x.shape
    return x.reshape(T, B, 2, C // 2, H * W).transpose(3, 4)


def token_attention(module, x):
    q, k = (fired(module.inputs[name], x) for name in "qk")
    a = lif(module.lif, by_heads(q).sum(4, keepdim=True), 0.5)
    return fired(module.project, (a * by_heads(k)).transpose(3, 4).reshape(q.shape))


def self_attention(module, x):
    q, k, v = (by_heads(fired(module.inputs[name], x)) for name in "qkv")
    y = 0.125 * (q @ k.transpose(3, 4)) @ v
    return fired(module.project, lif(module.lif, y.transpose(3, 4).reshape(x.shape), 0.5))


def transformer_block(block, x):
    x = x + self_attention(block.attention, x)
    return x + fired(block.contract, fired(block.expand, x))


SPEC = models.build("mlp", threshold=V_TH).spec
BLOCKS = {
    "plain": (lambda: PlainBlock(SPEC, Signal(3, 1), 4, 2), plain_block),
    "sew": (lambda: SewBlock(SPEC, Signal(3, 1), 3, 1), sew_block),
    "ms": (lambda: MsBlock(SPEC, Signal(3), 4, 2), ms_block),
    "embedding": (lambda: Embedding(SPEC, Signal(3, 1), [(6, False), (6, True)]), embedding),
    "token-attention": (lambda: TokenAttention(SPEC, Signal(8, 1), 2), token_attention),
    "self-attention": (lambda: SelfAttention(SPEC, Signal(8, 1), 2), self_attention),
    "transformer": (lambda: Block(SPEC, SelfAttention(SPEC, Signal(8, 1), 2), Signal(8, 1), 4), transformer_block),
}


@pytest.mark.parametrize("which", BLOCKS)
def test_block_against_own_code(which):
    """Output and the gradient of the input and of each parameter, of a real-valued or integer input that is not square."""
    torch.manual_seed(0)
    make, own = BLOCKS[which]
    block = make().double()
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            if name.endswith(("norm.weight", "norm.bias", "conv.bias")):
                parameter.uniform_(0.1, 2)
            if name.endswith("q.current.norm.bias"):
                parameter.fill_(-1)
    x = normal(4, 3, 8 if "attention" in which or which == "transformer" else 3, 6, 5, seed=1)
    x = x if which == "ms" else x.abs().round()
    results = []
    for function in (block, lambda x: own(block, x)):
        leaf = x.clone().requires_grad_()
        out = function(leaf)
        (out * normal(*out.shape, seed=2)).sum().backward()
        results.append((out.detach(), leaf.grad, {name: p.grad.clone() for name, p in block.named_parameters()}))
        block.zero_grad()
    (out, grad, grads), (own_out, own_grad, own_grads) = results
    assert out.unique().numel() > 1
    assert close(out, own_out)
    assert close(grad, own_grad)
    assert grads.keys() == own_grads.keys()
    for name, value in grads.items():
        if name.endswith("conv.bias"):  # a constant that the normalisation removes
            assert value.abs().max() < 1e-9
        else:
            # A single spike of q reaches the threshold, so a potential of token attention is never carried over.
            assert own_grads[name].any() == ((which, name) != ("token-attention", "lif.b")), name
            assert close(value, own_grads[name]), name


@pytest.mark.parametrize("which", EVERY[len(SMALL) :])
def test_height_and_width(which):
    """A transposed network computes the same of transposed images."""
    net = small(which)
    other = small(which, input_size=net.spec.height, input_height=net.spec.input_size)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            other.state_dict()[name].copy_(tensor.transpose(2, 3) if tensor.dim() == 4 else tensor)
        x = sequence(net)
        assert close(other(x.transpose(3, 4)), net(x))
    assert all(0.01 < rate < 0.99 for rate in firing_rates(net, x).values())


@pytest.mark.parametrize("which", EVERY)
def test_folded_is_the_same_function(which):
    """Biases of convolutions included; and one step at a time too."""
    net = seasoned(which)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
                module.bias.uniform_(-0.1, 0.1)
    folded, x = fold(net), sequence(net, batch=4, seed=9)
    assert which not in SMALL or min(firing_rates(net, x).values()) > 0.02
    remain = [module for module in folded.modules() if isinstance(module, TdBatchNorm2d)]
    assert not remain
    with torch.no_grad():
        expected = net(x)
        assert expected.std() > 0.01
        assert (folded(x) - expected).abs().max() < 1e-6
        if net.images_only:  # which needs all timesteps at once
            return
        assert (folded(image(net)) - net(image(net))).abs().max() < 1e-6
        graph, config = Stepping(folded), {"model": {"T": 3}, "data": {"static": False}}
        config["export"] = {"layers": {layer.name: {"threshold": layer.lif.threshold} for layer in net.spiking_layers()}}
        assert len(graph.layers) == len(net.spiking_layers())
        one, other = stepwise(folded, config).run(x), NetworkRunner(folded, config).run(x)
        assert (one.logits - expected).abs().max() < 1e-6
        assert all(torch.equal(one.spikes[name], spikes) for name, spikes in other.spikes.items())


@pytest.mark.parametrize("which", ["resnet19-none", "resnet19-normed", "sew-resnet18", "ms-resnet18"])
def test_nir(which, tmp_path):
    """Branches of integers and of real values are edges of the graph."""
    found = exported(saved(which, tmp_path / "net.safetensors"), "nir", tmp_path / "net.nir")
    result = compare(found.written, open_exported(tmp_path / "net.nir"), samples(found.content.config, 4, 1))
    assert sum(result[kind] for kind in KINDS) == 0
    assert result["max_logit_error"] < 1e-5
    assert not met_too_early(nir.read(tmp_path / "net.nir").edges)


@pytest.mark.parametrize(("which", "words"), [("max-resnet18", "max pooling,"), ("qkformer", "QKFormer,")])
def test_what_nir_cannot_represent(which, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        exported(saved(which, tmp_path / "net.safetensors"), "nir", tmp_path / "net.nir")


def test_additions_of_an_attention():
    """One by one: for each spike of q its head's count; for each pair of spikes of k and v; for each spike of q a row of those."""
    net = seasoned("qkformer", dtype=torch.float32)
    x, spikes = image(net, batch=2), {}
    for name, module in net.named_modules():
        if name.endswith(("inputs.q", "inputs.k", "inputs.v")):
            module.register_forward_hook(lambda module, arguments, output, name=name: spikes.update({name: output}))
    operations = SynapticOperations(net, events=False)
    with torch.no_grad():
        net(x)
    layers = {layer["name"]: layer for layer in operations.close(2)["layers"]}
    heads = 2
    first = layers["stages.0.1.attention.count"]
    q = spikes["stages.0.1.attention.inputs.q"]
    assert first["ac"] == q.sum() / 2
    assert first["ann_mac"] == q[0, 0].numel()
    last = layers["stages.2.2.attention.products"]
    q, k, v = (spikes[f"stages.2.2.attention.inputs.{name}"].unflatten(2, (heads, -1)).flatten(4) for name in "qkv")
    pairs = sum(float((k[..., token].sum(3) * v[..., token].sum(3)).sum()) for token in range(k.shape[4]))
    width = q.shape[3]
    assert last["ac"] == (pairs + width * q.sum()) / 2
    assert last["ann_mac"] == 2 * heads * k.shape[4] * width**2
    assert last["mac"] == 0
    assert last["passes"] == 3
    assert layers["stage3.block2.q"]["input"] in ("spikes", "sums")
    assert "stage3.block2.attention" not in layers  # the weights are those of q
