"""A pre-activation ResNet whose shortcuts carry spikes: the network of CLIF and AR-LIF for CIFAR.

Source: Huang et al., "CLIF: Complementary Leaky Integrate-and-Fire Neuron for Spiking Neural Networks", ICML 2024, and its code,
github.com/HuuYuLong/Complementary-LIF. A block there begins with the normalisation and neurons that end a block here.
"""

from typing import ClassVar

from torch import Tensor, nn

from lsgcli.models.base import NetworkSpec, Signal, SpikingLayer
from lsgcli.models.layers import ConvNorm, SpikingConv, normalise_and_fire, shortcut
from lsgcli.models.ms_resnet import STAGES
from lsgcli.models.resnet19 import ResNet
from lsgcli.registry import register


class PreActBlock(nn.Module):
    """conv-tdBN-LIF-conv, plus the shortcut, then tdBN-LIF of the sum; convolutions have biases.

    The shortcut is the identity, or a 1x1 convolution without normalisation. The normalisation of the sum cannot be folded into a
    convolution, and remains in folded networks.
    """

    def __init__(self, spec: NetworkSpec, source: Signal, out_channels: int, stride: int):
        super().__init__()
        self.first = SpikingConv(spec, source, out_channels, stride=stride, bias=True)
        self.second = ConvNorm(spec, self.first.out, out_channels, bias=True)
        self.norm, self.second.norm = self.second.norm, nn.Identity()
        self.shortcut = shortcut(ConvNorm, spec, source, out_channels, stride, bias=True)
        self.shortcut.norm = nn.Identity()
        self.lif = spec.lif(out_channels, self.norm)
        self.out = spec.spikes(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T, B, C, H, W) -> spikes (T, B, C', H', W')."""
        return normalise_and_fire(self.norm, self.second(self.first(x)) + self.shortcut(x), self.lif)

    def spiking_layers(self, name: str) -> list[SpikingLayer]:
        """Both layers of neurons."""
        second = SpikingLayer(f"{name}.lif2", self.lif, self.second.conv, self.norm, self)
        return [self.first.spiking_layer(f"{name}.lif1"), second]


@register("arch", "preact-resnet18")
class PreActResNet18(ResNet):
    """Stem conv3x3 64; 2 pre-activation blocks each of 64, 128, 256, 512; global average pool; linear."""

    defaults: ClassVar = {"T": 4, "num_classes": 10, "in_channels": 3, "input_size": 32}
    preset: ClassVar = {"norm": "bn"}  # as published

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec, PreActBlock, STAGES)
        self.classifier = nn.Linear(self.channels, spec.num_classes)
        self.initialise_weights()

    def draw_weights(self) -> None:
        """As in the base class; the last layer starts without bias, as in the source."""
        super().draw_weights()
        nn.init.zeros_(self.classifier.bias)
