"""Max-ResNet: MS-ResNet with max pooling in place of strides.

Source: Fang et al., "Spiking Neural Networks Need High-Frequency Information", NeurIPS 2025, arXiv 2505.18608. ``docs/method.md`` lists the
settings of the published networks.
"""

from collections.abc import Sequence
from typing import ClassVar

from lsgcli.models.base import NetworkSpec, Signal
from lsgcli.models.layers import MaxPooledConv, SpikingConv
from lsgcli.models.ms_resnet import MsBlock, MsResNet
from lsgcli.registry import register


class MaxBlock(MsBlock):
    """An MS block that halves the image by max pooling after its first tdBN; its shortcut has a stride."""

    @staticmethod
    def halving(spec: NetworkSpec, source: Signal, out_channels: int, stride: int) -> SpikingConv:
        """The first convolution, of stride 1, and max pooling of its currents if ``stride`` is 2."""
        return (SpikingConv if stride == 1 else MaxPooledConv)(spec, source, out_channels)


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
