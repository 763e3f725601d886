"""QKFormer, a spiking transformer of three stages, for images and for recordings of an event camera.

Source: Zhou et al., "QKFormer: Hierarchical Spiking Transformer using Q-K Attention", NeurIPS 2024, arXiv 2403.16552. ``docs/method.md``
lists the settings of the published networks.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lsgcli.models.base import NetworkSpec, Signal, SpikingLayer, SpikingNet
from lsgcli.models.layers import MaxPooledConv, SpikingConv, chained, fed, image_mean
from lsgcli.models.recompute import saved
from lsgcli.neurons import LIF
from lsgcli.registry import register

THRESHOLD = 0.5  # of the neurons of an attention, independent of the other neurons: a single spike of q reaches it
SCALE = 0.125  # of the self-attention, independent of the width of a head


Layers = Sequence[tuple[int, bool]]  # (channels, whether it pools) of each convolution
CONVS = {False: SpikingConv, True: MaxPooledConv}


class Embedding(nn.Module):
    """3x3 convolutions with neurons, plus a 1x1 convolution with neurons of the same input and output sizes; sums spikes."""

    def __init__(self, spec: NetworkSpec, source: Signal, layers: Layers):
        super().__init__()
        convs, self.out = chained(source, [partial(CONVS[pooled], spec, out_channels=C) for C, pooled in layers])
        self.chain: Any = nn.Sequential(*convs)
        stride = 2 ** sum(pooled for _, pooled in layers)
        self.shortcut = SpikingConv(spec, source, self.out.channels, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """Sums of spikes (T, B, C, H, W) -> (T, B, C', H', W')."""
        return self.chain(x) + self.shortcut(x)

    def spiking_layers(self, name: str) -> list[SpikingLayer]:
        """conv1, ..., shortcut."""
        convs = [conv.spiking_layer(f"{name}.conv{index}") for index, conv in enumerate(self.chain, start=1)]
        return [*convs, self.shortcut.spiking_layer(f"{name}.shortcut")]


class Queries(nn.ModuleDict):
    """1x1 convolutions with neurons of the same input: spikes q, k (and v), each (T, B, C, H, W), with one letter for each convolution."""

    def __init__(self, spec: NetworkSpec, source: Signal, letters: str):
        super().__init__({name: SpikingConv(spec, source, source.channels, kernel=1) for name in letters})

    def forward(self, x: Tensor) -> list[Tensor]:
        """The spikes for an input (T, B, C, H, W)."""
        return [conv(x) for conv in self.values()]

    def spiking_layers(self, name: str, lif: LIF) -> list[SpikingLayer]:
        """q, k, (v,) attention; ``lif`` are the neurons of the products. The convolution of q counts as their synapse."""
        layers = [conv.spiking_layer(f"{name}.{key}") for key, conv in self.items()]  # type: ignore[operator]
        return [*layers, SpikingLayer(f"{name}.attention", lif, layers[0].synapse)]


class Attention(nn.Module):
    """Base of both attentions: spikes q, k (and v), neurons of their products, and a projection with neurons.

    Args:
        spec: specification of the network.
        source: sums of spikes in C channels, a multiple of the number of heads.
        letters: of its queries.
    """

    lif: LIF  # with THRESHOLD

    def __init__(self, spec: NetworkSpec, source: Signal, letters: str):
        super().__init__()
        channels = source.channels
        self.inputs = Queries(spec, source, letters)
        self.project = SpikingConv(spec, spec.spikes(channels), channels, kernel=1, bias=True)

    def spiking_layers(self, name: str) -> list[SpikingLayer]:
        """q, k, (v,) attention, project."""
        return [*self.inputs.spiking_layers(name, self.lif), self.project.spiking_layer(f"{name}.project")]


class SpikeCount(nn.Module):
    """Number of spikes per head and token: (T, B, C, H, W) -> (T, B, heads, H, W)."""

    def __init__(self, heads: int):
        super().__init__()
        self.heads = heads

    def forward(self, q: Tensor) -> Tensor:
        """The sum over the channels of each head."""
        count = q.unflatten(2, (self.heads, -1)).sum(3)
        return count if count.is_floating_point() else count.float()

    def additions(self, q: Tensor) -> Tensor:
        """Number of additions: one for each spike."""
        return q.sum(dtype=torch.float64)


class TokenAttention(Attention):
    """Q-K token attention: y = a k, with one bit a per head and token, set by spikes of q; no v and no scale."""

    def __init__(self, spec: NetworkSpec, source: Signal, heads: int):
        super().__init__(spec, source, "qk")
        self.count = SpikeCount(heads)
        self.lif = spec.lif(heads, threshold=THRESHOLD)

    def forward(self, x: Tensor) -> Tensor:
        """Sums of spikes (T, B, C, H, W) -> spikes (T, B, C, H, W)."""
        q, k = self.inputs(x)
        a = fed(self.lif, self.count, q)
        with saved(k, self.project.current.levels if self.project.current.packs else None):
            y = a.unsqueeze(3) * k.unflatten(2, (a.shape[2], -1))
        return self.project(y.flatten(2, 3))


class LinearAttention(nn.Module):
    """0.125 q (k^T v) in each head, of spikes q, k and v: three times (T, B, C, H, W) -> (T, B, C, H, W)."""

    def __init__(self, heads: int):
        super().__init__()
        self.heads = heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Multiplies k and v first, so that the number of operations is linear in the number of tokens."""
        y = self.coincidences(k, v) @ self.split(q)
        return (SCALE * y).flatten(2, 3).unflatten(3, q.shape[3:])

    def coincidences(self, k: Tensor, v: Tensor) -> Tensor:
        """v^T k: number of tokens in which both spike, (T, B, heads, C / heads of v, C / heads of k)."""
        return self.split(v) @ self.split(k).transpose(-1, -2)

    def split(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) -> (T, B, heads, C / heads, tokens), of a floating type."""
        x = x if x.is_floating_point() else x.float()
        return x.flatten(3).unflatten(2, (self.heads, -1))

    def additions(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Number of additions: one for each pair of spikes of k and v in a token and head, and C / heads for each spike of q."""
        return self.coincidences(k, v).sum(dtype=torch.float64) + q.sum(dtype=torch.float64) * (q.shape[2] // self.heads)


class SelfAttention(Attention):
    """Spiking self-attention, without a softmax."""

    def __init__(self, spec: NetworkSpec, source: Signal, heads: int):
        super().__init__(spec, source, "qkv")
        self.products = LinearAttention(heads)
        self.lif = spec.lif(source.channels, threshold=THRESHOLD)

    def forward(self, x: Tensor) -> Tensor:
        """Sums of spikes (T, B, C, H, W) -> spikes (T, B, C, H, W)."""
        return self.project(fed(self.lif, self.products, *self.inputs(x)))


class Block(nn.Module):
    """x + attention(x), then x + mlp(x), of sums of spikes; the MLP is two 1x1 convolutions with neurons."""

    def __init__(self, spec: NetworkSpec, attention: Attention, source: Signal, ratio: int):
        super().__init__()
        self.attention = attention
        self.expand = SpikingConv(spec, source, ratio * source.channels, kernel=1, bias=True)
        self.contract = SpikingConv(spec, self.expand.out, source.channels, kernel=1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Sums of spikes (T, B, C, H, W) -> sums of spikes (T, B, C, H, W)."""
        x = x + self.attention(x)
        return x + self.contract(self.expand(x))

    def spiking_layers(self, name: str) -> list[SpikingLayer]:
        """The layers of the attention, then expand, contract."""
        layers = self.attention.spiking_layers(name)
        return [*layers, self.expand.spiking_layer(f"{name}.expand"), self.contract.spiking_layer(f"{name}.contract")]


class Stage(NamedTuple):
    """A stage: an embedding, and blocks of a mixer of tokens and an MLP.

    Attributes:
        layers: convolutions of the embedding.
        mixers: what mixes tokens in each block, see :meth:`QKFormer.block`.
    """

    layers: Layers
    mixers: Sequence[Any]


@register("arch", "qkformer")
class QKFormer(SpikingNet):
    """Spiking transformer for images: 96 and 192 channels with token attention, 384 with self-attention; linear.

    8 heads at full width: ``width_multiplier`` scales their number rather than their width. Convolutions start with torch's default weights.
    A subclass may have another stem, other embeddings and other blocks.

    Attributes:
        heads: number of heads, ``HEADS`` at full width.
        ratio: of the channels in an MLP to its input channels, ``RATIO`` by default.
        stem: modules before the first stage, of which the first expands static images.
        stages: list of the modules of each stage.
        out: output of the last stage.
    """

    has_mlps = True
    defaults: ClassVar = {"T": 4, "num_classes": 10, "in_channels": 3, "input_size": 32}
    HEADS: ClassVar = 8
    RATIO: ClassVar = 4
    STEM: ClassVar[Layers] = ((48, False),)
    STAGES: ClassVar[Sequence[Stage]] = (
        Stage(((96, False),), (TokenAttention,)),
        Stage(((192, False), (192, True)), (TokenAttention,)),
        Stage(((384, False), (384, True)), (SelfAttention, SelfAttention)),
    )
    EMBEDDING: ClassVar[Any] = Embedding

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec)
        self.heads = spec.channels(self.HEADS)
        self.ratio = spec.mlp_ratio or self.RATIO
        stem = [partial(self.stem_part, channels=spec.channels(full), pooled=pooled) for full, pooled in self.STEM]
        self.stem, self.out = chained(Signal(spec.in_channels), stem)
        stages = []
        for layers, mixers in self.STAGES:
            embedding = self.EMBEDDING(spec, self.out, self.in_heads(layers))
            self.out = embedding.out
            stages.append(nn.ModuleList([embedding, *(part for mixer in mixers for part in self.block(mixer, self.out))]))
        self.stages: Any = nn.ModuleList(stages)
        self.classifier = nn.Linear(self.out.channels, spec.num_classes)
        self.initialise_weights()

    def stem_part(self, source: Signal, channels: int, pooled: bool) -> nn.Module:
        """A convolution with neurons, which may pool."""
        return CONVS[pooled](self.spec, source, channels)

    def block(self, mixer: Any, source: Signal) -> Iterator[nn.Module]:
        """The modules of a block, whose output has as many channels as its input: here one, with this attention."""
        yield Block(self.spec, mixer(self.spec, source, self.heads), source, self.ratio)

    def in_heads(self, layers: Layers) -> Layers:
        """Layers whose channels at full width are scaled to multiples of the number of heads."""
        width = self.spec.width_multiplier / self.heads
        return [(self.heads * max(1, round(full * width)), pooled) for full, pooled in layers]

    def draw_weights(self) -> None:
        """Initialise the last layer: truncated normal with a standard deviation of 0.02, bias 0."""
        nn.init.trunc_normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward_sequence(self, x: Tensor, T: int) -> Tensor:
        """(T or 1, B, C, H, W) -> (T, B, classes)."""
        (_, first), *parts = self.parts()
        x = self.run_block(first, x, T)
        for _, part in parts:
            x = self.run_block(part, x)
        return self.readout(image_mean(x))

    def readout(self, x: Tensor) -> Tensor:
        """Logits (T, B, classes) of the means over tokens (T, B, C)."""
        return self.logits(x)

    def parts(self) -> Iterator[tuple[str, Any]]:
        """(name, module) of each module of stem and stages, in order: stem1, ..., stage1.1, ..."""
        for index, part in enumerate(self.stem, start=1):
            yield f"stem{index}", part
        for s, stage in enumerate(self.stages, start=1):
            for index, part in enumerate(stage, start=1):
                yield f"stage{s}.{index}", part

    def spiking_layers(self) -> list[SpikingLayer]:
        """stem1, stage1.conv1, stage1.shortcut, stage1.block1.q, ..."""
        layers = [conv.spiking_layer(f"stem{index}") for index, conv in enumerate(self.stem, start=1)]
        for s, (embedding, *blocks) in enumerate(self.stages, start=1):
            layers += embedding.spiking_layers(f"stage{s}")
            for b, block in enumerate(blocks, start=1):
                layers += block.spiking_layers(f"stage{s}.block{b}")
        return layers


@register("arch", "qkformer-dvs")
class QKFormerDVS(QKFormer):
    """Spiking transformer for recordings: 128 channels with token attention at 1/8 of the size, 256 with self-attention; linear.

    16 heads at full width, and MLPs that do not widen.
    """

    defaults: ClassVar = {"T": 16, "num_classes": 10, "in_channels": 2, "input_size": 128}
    HEADS = 16
    RATIO = 1
    STEM = ((16, False), (32, True))
    STAGES = (
        Stage(((64, True), (128, True)), (TokenAttention,)),
        Stage(((256, False), (256, True)), (SelfAttention,)),
    )
