"""SEW ResNets, which add spikes.

Source: Fang et al., "Deep Residual Learning in Spiking Neural Networks", NeurIPS 2021. ``docs/method.md`` lists the settings of the
published networks. The second tdBN of a block starts with weight 1: with 0, u would be 0, where a rectangular surrogate of width 2 v_th or
less passes no gradient, and the block would never learn.
"""

from typing import ClassVar

from torch import nn

from lsgcli.models.base import NetworkSpec
from lsgcli.models.resnet19 import ResNet, SewBlock
from lsgcli.registry import register

WIDTHS = ((64, 1), (128, 2), (256, 2), (512, 2))  # (channels at full width, stride of the first block)


class SewResNet(ResNet):
    """Base of the SEW ResNets for images. A subclass sets ``counts``, the number of blocks of each stage."""

    defaults: ClassVar = {"T": 4, "num_classes": 10, "in_channels": 3, "input_size": 32}
    counts: ClassVar[tuple[int, ...]]

    def __init__(self, spec: NetworkSpec):
        stages = [(full, count, stride) for (full, stride), count in zip(WIDTHS, self.counts, strict=True)]
        super().__init__(spec, SewBlock, stages)
        self.classifier = nn.Linear(self.channels, spec.num_classes)
        self.initialise_weights()


@register("arch", "sew-resnet18")
class SewResNet18(SewResNet):
    """Stem conv3x3 64; 2 SEW blocks each of 64, 128, 256, 512; global average pool; linear.

    The form for 32 x 32 pixels, with a stem of stride 1 and no max pooling; that for ImageNet has a stem of 7x7.
    """

    counts = (2, 2, 2, 2)


@register("arch", "sew-resnet34")
class SewResNet34(SewResNet):
    """Stem conv3x3 64; 3 SEW blocks of 64, 4 of 128, 6 of 256, 3 of 512; global average pool; linear."""

    counts = (3, 4, 6, 3)
