"""MS-ResNet, whose shortcuts carry real-valued membrane potentials rather than spikes, and Max-ResNet, with max pooling in place of strides.

Sources: Hu et al., "Advancing Spiking Neural Networks Toward Deep Residual Learning", IEEE TNNLS 2024, doi 10.1109/TNNLS.2024.3355393.
Fang et al., "Spiking Neural Networks Need High-Frequency Information", NeurIPS 2025, arXiv 2505.18608. ``docs/method.md`` lists the settings
of the published networks.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from lsgcli.models.base import NetworkSpec, Signal, SpikingLayer
from lsgcli.models.layers import ConvNorm, MaxPooledConv, SpikingConv, shortcut
from lsgcli.models.resnet19 import ResNet
from lsgcli.registry import register

STAGES = ((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2))  # (channels at full width, blocks, stride of the first block)


class MsBlock(nn.Module):
    """LIF-conv-tdBN-LIF-conv-tdBN, plus the shortcut; input and output are real-valued.

    Attributes:
        max_pools: whether max pooling after the first tdBN, instead of a stride of the first convolution, halves the image.
    """

    max_pools: ClassVar[bool] = False

    def __init__(self, spec: NetworkSpec, source: Signal, out_channels: int, stride: int):
        super().__init__()
        self.lif = spec.lif(source.channels)
        pools = self.max_pools and stride == 2
        kind = MaxPooledConv if pools else SpikingConv
        self.first = kind(spec, spec.spikes(source.channels), out_channels, stride=1 if pools else stride)
        self.second = ConvNorm(spec, self.first.out, out_channels)
        self.shortcut = shortcut(ConvNorm, spec, source, out_channels, stride)
        self.out = self.second.out

    def forward(self, x: Tensor) -> Tensor:
        """Real values (T, B, C, H, W) -> real values (T, B, C', H', W')."""
        return self.second(self.first(self.lif(x))) + self.shortcut(x)


class MsResNet(ResNet):
    """Base: stem conv3x3 64 without neurons, stages of MS blocks, LIF, global average pool, linear.

    Args:
        spec: specification of the network.
        block: class of the blocks.
        stages: as for :class:`~lsgcli.models.resnet19.ResNet`.
    """

    defaults: ClassVar = {"T": 4, "num_classes": 10, "in_channels": 3, "input_size": 32}

    def __init__(self, spec: NetworkSpec, block: type[MsBlock], stages: Sequence[tuple[int, int, int]]):
        super().__init__(spec, block, stages, stem=ConvNorm, stem_channels=64)
        self.lif = spec.lif(self.channels)
        self.classifier = nn.Linear(self.channels, spec.num_classes)
        self.initialise_weights()

    def readout(self, x: Tensor) -> Tensor:
        """Logits (T, B, classes), from the spikes of the last layer of neurons."""
        return super().readout(self.lif(x))

    def spiking_layers(self) -> list[SpikingLayer]:
        """block1.1.lif1, ..., block4.2.lif2, last. The first neurons of a block follow the last convolution before its input."""
        layers = []
        synapse = self.stem.conv
        for name, block in self.blocks():
            layers += [SpikingLayer(f"{name}.lif1", block.lif, synapse), block.first.spiking_layer(f"{name}.lif2")]
            synapse = block.second.conv
        return [*layers, SpikingLayer("last", self.lif, synapse)]


@register("arch", "ms-resnet18")
class MsResNet18(MsResNet):
    """Stem conv3x3 64; 2 MS blocks each of 64, 128, 256, 512; LIF; global average pool; linear.

    The published network is for ImageNet; this is its form for 32 x 32 pixels, with a stem of 3x3 and stride 1. The weight of the last tdBN
    of each block, or of its convolution with ``--norm none``, is initialised to 0, so that the block is initially its shortcut.
    """

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec, MsBlock, STAGES)
        for _, block in self.blocks():
            last = block.second
            nn.init.zeros_((last.conv if isinstance(last.norm, nn.Identity) else last.norm).weight)


class MaxBlock(MsBlock):
    """An MS block that halves the image by max pooling after its first tdBN; its shortcut has a stride."""

    max_pools = True


@register("arch", "max-resnet18")
class MaxResNet18(MsResNet):
    """Stem conv3x3 64; Max blocks, 3 of 128, 3 of 256, 2 of 512; LIF; global average pool; linear.

    All weights start with torch's default.
    """

    # (channels at full width, blocks, stride of the first block)
    layout: ClassVar[Sequence[tuple[int, int, int]]] = ((128, 3, 1), (256, 3, 2), (512, 2, 2))

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec, MaxBlock, self.layout)

    def draw_weights(self) -> None:
        """Keep torch's default."""
