"""A network of two convolutions."""

from typing import ClassVar

from torch import Tensor, nn

from lsgcli.models.base import NetworkSpec, SpikingLayer, SpikingNet
from lsgcli.models.layers import SpikingConv
from lsgcli.registry import register


@register("arch", "small")
class Small(SpikingNet):
    """conv3x3 16, pool, conv3x3 32, pool, linear; each convolution with tdBN and LIF."""

    defaults: ClassVar = {"T": 4, "num_classes": 10, "in_channels": 2, "input_size": 32}

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec)
        first, second = spec.channels(16), spec.channels(32)
        self.conv1 = SpikingConv(spec, spec.in_channels, first, pool=2)
        self.conv2 = SpikingConv(spec, self.conv1.out, second, pool=2)
        self.classifier = nn.Linear(second * (spec.height // 4) * (spec.input_size // 4), spec.num_classes)
        self.initialise_weights()

    def forward_sequence(self, x: Tensor, T: int) -> Tensor:
        """(T or 1, B, C, H, W) -> (T, B, classes)."""
        for block in (self.conv1, self.conv2):
            x = self.run_block(block, x, T)
        return self.logits(x.flatten(2))

    def spiking_layers(self) -> list[SpikingLayer]:
        """conv1, conv2."""
        return [self.conv1.spiking_layer("conv1"), self.conv2.spiking_layer("conv2")]
