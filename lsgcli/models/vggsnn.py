"""VGGSNN: eight convolutions in four stages, the usual network for CIFAR10-DVS."""

from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from lsgcli.errors import ConfigError
from lsgcli.models.base import NetworkSpec, Signal, SpikingLayer, SpikingNet
from lsgcli.models.layers import SpikingConv, chained
from lsgcli.registry import register

# (channels at full width, window of the average pooling after the layer)
STAGES = ((64, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 2), (512, 1), (512, 2))


@register("arch", "vggsnn")
class VGGSNN(SpikingNet):
    """conv3x3 64, 128, pool, 256, 256, pool, 512, 512, pool, 512, 512, pool, linear; each convolution with tdBN and LIF.

    Source: Deng et al., "Temporal Efficient Training of Spiking Neural Network via Gradient Re-weighting", ICLR 2022.

    Raises:
        ConfigError: the input size is not a multiple of 16.
    """

    defaults: ClassVar = {"T": 10, "num_classes": 10, "in_channels": 2, "input_size": 48}

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec)
        if spec.input_size % 16 or spec.height % 16:
            raise ConfigError(
                f"vggsnn: found an input of {spec.height} x {spec.input_size}, expected a multiple of 16",
                hint="Use --size 16, 32, 48, 64, ...; for data with one row, --arch mlp.",
            )
        layers = [partial(SpikingConv, spec, out_channels=spec.channels(full), pool=pool) for full, pool in STAGES]
        self.features, signal = chained(Signal(spec.in_channels), layers)
        self.levels = signal.levels
        self.classifier = nn.Linear(signal.channels * (spec.height // 16) * (spec.input_size // 16), spec.num_classes)
        self.initialise_weights()

    def forward_sequence(self, x: Tensor, T: int) -> Tensor:
        """(T or 1, B, C, H, W) -> (T, B, classes)."""
        for block in self.features:
            x = self.run_block(block, x, T)
        return self.logits(x.flatten(2))

    def spiking_layers(self) -> list[SpikingLayer]:
        """conv1 to conv8."""
        return [block.spiking_layer(f"conv{index}") for index, block in enumerate(self.features, start=1)]
