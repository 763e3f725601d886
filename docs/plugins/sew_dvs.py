"""SEW networks for recordings of an event camera, which add spikes and pool their sums.

Source: Fang et al., "Deep Residual Learning in Spiking Neural Networks", NeurIPS 2021. ``docs/method.md`` lists the settings of the
published networks.
"""

from collections.abc import Iterable
from typing import ClassVar

from torch import Tensor, nn

from lsgcli.models.base import NetworkSpec, Signal, SpikingLayer, SpikingNet
from lsgcli.models.layers import SpikingConv, at_each_step, image_mean
from lsgcli.models.resnet19 import SewBlock
from lsgcli.registry import register


class SewStage(nn.Module):
    """conv1x1-tdBN-LIF if the channels change; SEW block; max pooling of the sums of spikes, unless one pixel is left."""

    def __init__(self, spec: NetworkSpec, source: Signal, out_channels: int, pooled: bool, first: bool):
        super().__init__()
        self.entry = None
        if first or source.channels != out_channels:
            self.entry = SpikingConv(spec, source, out_channels, kernel=1)
        self.block = SewBlock(spec, source if self.entry is None else self.entry.out, out_channels, 1)
        self.out = self.block.out
        self.pool = nn.MaxPool2d(2) if pooled else None

    def forward(self, x: Tensor, T: int) -> Tensor:
        """(T or 1, B, C, H, W) -> sums of spikes (T, B, C', H / 2, W / 2), rounded down."""
        x = self.block(x if self.entry is None else self.entry(x, T))
        return x if self.pool is None else at_each_step(self.pool, x)

    def spiking_layers(self, name: str) -> list[SpikingLayer]:
        """The two layers of the block, and the layer of the 1x1 convolution, if any."""
        entry = [] if self.entry is None else [self.entry.spiking_layer(f"{name}.entry")]
        return [*entry, *self.block.spiking_layers(name)]


@register("arch", "sew-dvs")
class SewDVS(SpikingNet):
    """7 stages of a SEW block of 32 channels and a max pooling; global average pool; linear: 7B-Net, for DVS128 Gesture.

    Seven poolings leave one pixel of 128 x 128. A pooling that would leave less than one pixel is omitted.
    """

    defaults: ClassVar = {"T": 16, "num_classes": 11, "in_channels": 2, "input_size": 128}
    widths: ClassVar[Iterable[int]] = (32,) * 7  # channels at full width

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec)
        signal, side = Signal(spec.in_channels), min(spec.height, spec.input_size)
        stages: list[SewStage] = []
        for full in self.widths:
            stages.append(SewStage(spec, signal, spec.channels(full), pooled=side > 1, first=not stages))
            signal, side = stages[-1].out, max(1, side // 2)
        self.stages = nn.ModuleList(stages)
        self.classifier = nn.Linear(signal.channels, spec.num_classes)
        self.initialise_weights()

    def forward_sequence(self, x: Tensor, T: int) -> Tensor:
        """(T or 1, B, C, H, W) -> (T, B, classes)."""
        for stage in self.stages:
            x = self.run_block(stage, x, T)
        return self.logits(image_mean(x))

    def spiking_layers(self) -> list[SpikingLayer]:
        """block1.entry, block1.lif1, block1.lif2, block2.lif1, ..."""
        stages = [stage for stage in self.stages if isinstance(stage, SewStage)]
        return [layer for index, stage in enumerate(stages, start=1) for layer in stage.spiking_layers(f"block{index}")]


@register("arch", "sew-dvs-wide")
class SewDVSWide(SewDVS):
    """7 stages of a SEW block, 4 of 64 channels and 3 of 128, and a max pooling; linear: Wide-7B-Net, for CIFAR10-DVS."""

    defaults: ClassVar = {**SewDVS.defaults, "num_classes": 10}
    widths = (64,) * 4 + (128,) * 3
