"""A network that reads an image as a sequence of its columns.

Source: Fang et al., "Parallel Spiking Neurons with High Efficiency and Ability to Learn Long-term Dependencies", NeurIPS 2023, arXiv
2304.12760: its network for sequential CIFAR.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from lsgcli.errors import ConfigError
from lsgcli.models.base import NetworkSpec, Signal, SpikingLayer, SpikingNet
from lsgcli.models.layers import SpikingConv, fed
from lsgcli.registry import register

CHANNELS, HIDDEN = 128, 256  # at full width
CONVS = 3  # before each of two poolings


@register("arch", "sequential-cnn")
class SequentialCNN(SpikingNet):
    """Reads one column of an image per timestep: 3 convolutions of 128 channels over rows, pool, 3 more, pool, linear 256 + LIF; linear.

    T is the width of the image, and each column (C, H) an input of its own timestep, so only neurons relate columns. A convolution is
    one-dimensional, with a kernel of 3 rows, no bias, and tdBN and LIF after it; pools average 2 rows. The hidden linear layer starts
    Kaiming-normal (assumed); in the source as by torch, with a fifth of the standard deviation.

    Raises:
        ConfigError: T is not the width of the image, or its height is not a multiple of 4.
    """

    images_only = True
    preset: ClassVar = {"T": 32, "size": 32}
    defaults: ClassVar = {"T": 32, "num_classes": 10, "in_channels": 3, "input_size": 32}

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec)
        check_sizes(spec)
        blocks: list[SpikingConv] = []
        signal = Signal(spec.in_channels)
        for index in range(2 * CONVS):
            blocks.append(SpikingConv(spec, signal, spec.channels(CHANNELS), kernel=(1, 3)))
            signal = blocks[-1].out if (index + 1) % CONVS else spec.spikes(spec.channels(CHANNELS), averaged=2)
        self.features = nn.ModuleList(blocks)
        hidden = spec.channels(HIDDEN)
        self.hidden, self.hidden_lif = nn.Linear(signal.channels * (spec.height // 4), hidden), spec.lif(hidden)
        self.classifier = nn.Linear(hidden, spec.num_classes)
        self.initialise_weights()

    def forward_sequence(self, x: Tensor, T: int) -> Tensor:
        """An image (1, B, C, H, W) -> (T, B, classes)."""
        check_sizes(self.spec)  # whose T may have changed since
        x = x.permute(4, 1, 2, 0, 3)  # columns (T, B, C, 1, H)
        for index, block in enumerate(self.features, start=1):
            x = self.run_block(block, x)
            if index % CONVS == 0:
                x = row_means(x)
        return self.logits(fed(self.hidden_lif, self.hidden, x.flatten(2)))

    def spiking_layers(self) -> list[SpikingLayer]:
        """conv1 to conv6, hidden."""
        blocks = [block for block in self.features if isinstance(block, SpikingConv)]
        convs = [block.spiking_layer(f"conv{index}") for index, block in enumerate(blocks, start=1)]
        return [*convs, SpikingLayer("hidden", self.hidden_lif, self.hidden, None)]


def check_sizes(spec: NetworkSpec) -> None:
    """Raise a ConfigError unless T is the width of the image, and its height a multiple of 4."""
    if spec.input_size != spec.T or spec.height % 4:
        raise ConfigError(
            f"{spec.arch}: found T = {spec.T} and an image of {spec.height} x {spec.input_size}, expected T to be its width, "
            "and a height that is a multiple of 4",
            hint=f"Each column of the image is a timestep: use -T {spec.input_size} with --size {spec.input_size}.",
        )


def row_means(x: Tensor) -> Tensor:
    """Means of pairs of rows: (T, B, C, 1, H) -> (T, B, C, 1, H / 2), of x's type, or float32 for bytes."""
    return x.unflatten(-1, (-1, 2)).mean(-1, dtype=None if x.is_floating_point() else torch.float32)
