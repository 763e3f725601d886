"""Max-Former, a spiking transformer with max pooling and depthwise convolutions, for images and for recordings of an event camera.

Its blocks pass on real values, as those of MS-ResNet.

Source: Fang et al., "Spiking Neural Networks Need High-Frequency Information", NeurIPS 2025, arXiv 2505.18608. ``docs/method.md`` lists the
settings of the published networks.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from lsgcli.models.base import NetworkSpec, Signal, SpikingLayer
from lsgcli.models.layers import ConvNorm, chained, fed, halved
from lsgcli.models.qkformer import CONVS, THRESHOLD, Layers, LinearAttention, QKFormer, Queries, Stage
from lsgcli.registry import register


class Branch(nn.Module):
    """LIF-conv-tdBN, one for each of ``layers``; maps real values to real values. Keyword arguments are those of :class:`ConvNorm`."""

    def __init__(self, spec: NetworkSpec, source: Signal, layers: Layers, **conv: Any):
        super().__init__()
        self.lif = spec.lif(source.channels)
        *others, (out_channels, self.halves) = layers
        hidden = [partial(CONVS[pooled], spec, out_channels=C, **conv) for C, pooled in others]
        convs, signal = chained(spec.spikes(source.channels), hidden)
        self.chain: Any = nn.Sequential(*convs)
        self.last = ConvNorm(spec, signal, out_channels, **conv)
        self.out = self.last.out

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) -> (T, B, C', H', W')."""
        return self.currents(self.lif(x))

    def currents(self, spikes: Tensor) -> Tensor:
        """The output for the spikes of the first neurons."""
        x = self.last(self.chain(spikes))
        return halved(x) if self.halves else x

    def spiking_layers(self, name: str, synapse: nn.Conv2d) -> list[SpikingLayer]:
        """lif1, lif2, ...; ``synapse`` is the last convolution before this module."""
        chain = [conv.spiking_layer(f"{name}.lif{index}") for index, conv in enumerate(self.chain, start=2)]
        return [SpikingLayer(f"{name}.lif1", self.lif, synapse, None), *chain]


class Residual(Branch):
    """x + branch(x)."""

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) -> (T, B, C, H, W)."""
        return x + super().forward(x)


class MaxEmbedding(Branch):
    """A branch of 3x3 convolutions, plus a 1x1 convolution of the same spikes, which is pooled, or has a stride where the branch pools twice."""

    def __init__(self, spec: NetworkSpec, source: Signal, layers: Layers):
        super().__init__(spec, source, layers)
        pools = sum(pooled for _, pooled in layers)
        stride = 2**pools if pools > 1 else 1
        self.shortcut = ConvNorm(spec, spec.spikes(source.channels), self.out.channels, kernel=1, stride=stride)
        self.pools_shortcut = pools == 1

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) -> (T, B, C', H', W')."""
        spikes = self.lif(x)
        shortcut = self.shortcut(spikes)
        return self.currents(spikes) + (halved(shortcut) if self.pools_shortcut else shortcut)


class ResidualAttention(nn.Module):
    """x + attention(x): the self-attention of QKFormer with neurons before its convolutions instead of after the last."""

    def __init__(self, spec: NetworkSpec, source: Signal, heads: int):
        super().__init__()
        channels, spikes = source.channels, spec.spikes(source.channels)
        self.lif = spec.lif(channels)
        self.inputs = Queries(spec, spikes, "qkv")
        self.products = LinearAttention(heads)
        self.attention = spec.lif(channels, threshold=THRESHOLD)
        self.last = ConvNorm(spec, spikes, channels, kernel=1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) -> (T, B, C, H, W)."""
        return x + self.last(fed(self.attention, self.products, *self.inputs(self.lif(x))))

    def spiking_layers(self, name: str, synapse: nn.Conv2d) -> list[SpikingLayer]:
        """lif1, q, k, v, attention."""
        return [SpikingLayer(f"{name}.lif1", self.lif, synapse, None), *self.inputs.spiking_layers(name, self.attention)]


@register("arch", "maxformer")
class Maxformer(QKFormer):
    """Spiking transformer for images: 96 channels without mixing, 192 with a depthwise convolution, 384 with self-attention; LIF; linear.

    8 heads at full width.
    """

    STEM: ClassVar[Layers] = ((48, False),)
    STAGES: ClassVar[Sequence[Stage]] = (
        Stage(((96, False),), ("none",)),
        Stage(((192, True), (192, False)), ("depthwise",)),
        Stage(((384, True), (384, False)), ("attention", "attention")),
    )
    EMBEDDING = MaxEmbedding

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec)
        channels, self.levels = spec.spikes(self.out.channels)
        self.lif = spec.lif(channels)
        self.classifier = nn.Linear(channels, spec.num_classes)
        self.initialise_weights()

    def stem_part(self, source: Signal, channels: int, pooled: bool) -> nn.Module:
        """A convolution of the input, or a branch that pools."""
        return Branch(self.spec, source, [(channels, True)]) if pooled else ConvNorm(self.spec, source, channels)

    def block(self, mixer: str, source: Signal) -> Iterator[nn.Module]:
        """A "depthwise" convolution, "attention" or "none", and an MLP. In an MLP of ratio 1, each convolution has its own residual."""
        spec, channels = self.spec, source.channels
        if mixer == "depthwise":
            yield Residual(spec, source, [(channels, False)], bias=True, groups=channels)
        elif mixer == "attention":
            yield ResidualAttention(spec, source, self.heads)
        expand, contract = (self.ratio * channels, False), (channels, False)
        for layers in ([expand, contract],) if self.ratio > 1 else ([expand], [contract]):
            yield Residual(spec, source, layers, kernel=1, bias=True)

    def readout(self, x: Tensor) -> Tensor:
        """Logits (T, B, classes) of the spikes for the means over tokens (T, B, C)."""
        return self.logits(self.lif(x))

    def spiking_layers(self) -> list[SpikingLayer]:
        """stage1.1.lif1, ..., last."""
        (_, first), *parts = self.parts()
        layers, synapse = [], first.conv
        for name, part in parts:
            layers += part.spiking_layers(name, synapse)
            synapse = part.last.conv
        return [*layers, SpikingLayer("last", self.lif, synapse, None)]


@register("arch", "maxformer-dvs")
class MaxformerDVS(Maxformer):
    """Spiking transformer for recordings: 128 channels with a depthwise convolution at 1/8 of the size, 256 with self-attention; LIF; linear.

    16 heads at full width, and MLPs that do not widen.
    """

    defaults: ClassVar = {"T": 16, "num_classes": 10, "in_channels": 2, "input_size": 128}
    HEADS = 16
    RATIO = 1
    STEM = ((16, False), (32, True))
    STAGES = (
        Stage(((64, True), (128, True)), ("depthwise",)),
        Stage(((256, True), (256, False)), ("attention",)),
    )
