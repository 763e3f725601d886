"""A small fully connected network, for input other than images, such as the 700 channels of SHD."""

from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from lsgcli.models.base import NetworkSpec, Signal, SpikingLayer, SpikingNet
from lsgcli.models.layers import SpikingConv, chained
from lsgcli.registry import register

HIDDEN = (256, 256)  # neurons at full width


@register("arch", "mlp")
class MLP(SpikingNet):
    """linear 256, linear 256, each with tdBN and LIF; linear. Accepts input of any height and width.

    The linear layers before neurons are 1x1 convolutions of a one-pixel image, computed as linear layers, so tdBN, folding and analysis handle the same layers as in
    the other networks.
    """

    defaults: ClassVar = {"T": 100, "num_classes": 20, "in_channels": 1, "input_size": 140, "input_height": 1}

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec)
        layers = [partial(SpikingConv, spec, out_channels=spec.channels(full), kernel=1) for full in HIDDEN]
        self.hidden, signal = chained(Signal(spec.in_channels * spec.height * spec.input_size), layers)
        self.classifier = nn.Linear(signal.channels, spec.num_classes)
        self.levels = signal.levels
        self.initialise_weights()

    def forward_sequence(self, x: Tensor, T: int) -> Tensor:
        """(T or 1, B, C, H, W) -> (T, B, classes)."""
        x = x.flatten(2)[..., None, None]
        for layer in self.hidden:
            x = self.run_block(layer, x, T)
        return self.logits(x.flatten(2))

    def spiking_layers(self) -> list[SpikingLayer]:
        """hidden1, hidden2."""
        return [layer.spiking_layer(f"hidden{index}") for index, layer in enumerate(self.hidden, start=1)]
