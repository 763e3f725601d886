"""ResNet-19 for static images: the network of the paper's CIFAR results; SEW ResNets, which add spikes; and the base of residual networks."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from lsgcli.models.base import NetworkSpec, Signal, SpikingLayer, SpikingNet
from lsgcli.models.layers import ConvNorm, SpikingConv, fed, image_mean, normalise_and_fire, shortcut
from lsgcli.models.recompute import saved
from lsgcli.neurons.kernels.saved import in_bits
from lsgcli.registry import register

STAGES = ((128, 1), (256, 2), (512, 2))  # (channels at full width, stride of the first block)
HIDDEN = 256


class AddBlock(nn.Module):
    """conv-tdBN-LIF-conv-tdBN, plus the shortcut, then LIF; sums currents."""

    def __init__(self, spec: NetworkSpec, source: Signal, out_channels: int, stride: int):
        super().__init__()
        eta = 1 / math.sqrt(2)
        self.first = SpikingConv(spec, source, out_channels, stride=stride)
        self.second = ConvNorm(spec, self.first.out, out_channels, eta=eta)
        self.shortcut = shortcut(ConvNorm, spec, source, out_channels, stride, eta=eta)
        # With an identity shortcut, the neurons save the input, too.
        self.first.current.packs &= not isinstance(self.shortcut, nn.Identity)
        self.lif = spec.lif(out_channels, self.second.norm)
        self.out = spec.spikes(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T, B, C, H, W) -> spikes (T, B, C', H', W')."""
        # As bytes, the input would have to be widened twice, for less saved memory.
        shared = isinstance(self.shortcut, nn.Identity) and self.second.packs and in_bits(x)
        with saved(x, self.second.levels if shared else None):
            return self.second.then(self.fired, self.first(x), None, self.shortcut(x), uses=(self.second.norm, self.lif))

    def fired(self, z: Tensor, residual: Tensor) -> Tensor:
        """What follows the second convolution, from its output and that of the shortcut."""
        return normalise_and_fire(self.second.norm, z, self.lif, residual=residual)

    def spiking_layers(self, name: str) -> list[SpikingLayer]:
        """Both layers of neurons."""
        return [
            self.first.spiking_layer(f"{name}.lif1"),
            SpikingLayer(f"{name}.lif2", self.lif, self.second.conv, self.second.norm, self),
        ]


class PlainBlock(nn.Module):
    """conv-tdBN-LIF-conv-tdBN-LIF, without a shortcut."""

    def __init__(self, spec: NetworkSpec, source: Signal, out_channels: int, stride: int):
        super().__init__()
        self.first = SpikingConv(spec, source, out_channels, stride=stride)
        self.second = SpikingConv(spec, self.first.out, out_channels)
        self.out = self.second.out

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (T, B, C, H, W) -> spikes (T, B, C', H', W')."""
        return self.second(self.first(x))

    def spiking_layers(self, name: str) -> list[SpikingLayer]:
        """Both layers of neurons."""
        return [self.first.spiking_layer(f"{name}.lif1"), self.second.spiking_layer(f"{name}.lif2")]


class SewBlock(PlainBlock):
    """conv-tdBN-LIF-conv-tdBN-LIF, plus the shortcut; sums spikes, so the output is 0, 1, 2, ...

    Source: Fang et al., "Deep Residual Learning in Spiking Neural Networks", NeurIPS 2021.
    """

    def __init__(self, spec: NetworkSpec, source: Signal, out_channels: int, stride: int):
        super().__init__(spec, source, out_channels, stride)
        self.shortcut = shortcut(SpikingConv, spec, source, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) -> sums of spikes (T, B, C', H', W')."""
        return super().forward(x) + self.shortcut(x)

    def spiking_layers(self, name: str) -> list[SpikingLayer]:
        """Two layers of neurons, and a third if the shortcut has neurons."""
        layers = super().spiking_layers(name)
        if isinstance(self.shortcut, SpikingConv):
            layers.append(self.shortcut.spiking_layer(f"{name}.shortcut"))
        return layers


BLOCKS = {"add": AddBlock, "sew": SewBlock, "none": PlainBlock}


class ResNet(SpikingNet):
    """Base of residual networks: stem, stages of blocks, global average pool, linear. A subclass creates the classifier.

    Args:
        spec: specification of the network.
        block: class of the blocks, called with (spec, source, C', stride).
        stages: (C' at full width, number of blocks, stride of the first block) of each stage.
        stem: class of the stem, a 3x3 convolution.
        stem_channels: its channels at full width; by default those of the first stage.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        block: Any,
        stages: Sequence[tuple[int, int, int]],
        stem: Any = SpikingConv,
        stem_channels: int | None = None,
    ):
        super().__init__(spec)
        self.stem = stem(spec, spec.in_channels, spec.channels(stem_channels or stages[0][0]))
        signal = self.stem.out
        groups = []
        for full, count, stride in stages:
            blocks = []
            for index in range(count):
                blocks.append(block(spec, signal, spec.channels(full), stride if index == 0 else 1))
                signal = blocks[-1].out
            groups.append(nn.ModuleList(blocks))
        self.stages = nn.ModuleList(groups)
        self.channels = signal.channels

    def forward_sequence(self, x: Tensor, T: int) -> Tensor:
        """(T or 1, B, C, H, W) -> (T, B, classes)."""
        x = self.run_block(self.stem, x, T)
        for _, block in self.blocks():
            x = self.run_block(block, x)
        return self.readout(x)

    def readout(self, x: Tensor) -> Tensor:
        """Logits (T, B, classes) of the last block's output (T, B, C, H, W)."""
        return self.logits(image_mean(x))

    def blocks(self) -> Iterator[tuple[str, Any]]:
        """(name, block) of each block, in order: block1.1, block1.2, ..."""
        for s, stage in enumerate(self.stages, start=1):
            for b, block in enumerate(stage, start=1):  # type: ignore[var-annotated,arg-type]
                yield f"block{s}.{b}", block

    def spiking_layers(self) -> list[SpikingLayer]:
        """stem, block1.1.lif1, ..."""
        return [
            self.stem.spiking_layer("stem"),
            *(layer for name, block in self.blocks() for layer in block.spiking_layers(name)),
        ]


@register("arch", "resnet19")
class ResNet19(ResNet):
    """Stem conv3x3 128; 3 blocks of 128, 3 of 256, 2 of 512; global average pool; linear 256 + LIF; linear.

    ``residual`` selects the blocks; ``depth`` another number of them, 9 for one block per stage; ``hidden_norm`` adds a normalisation after
    the hidden linear layer.

    Source: Zheng et al., "Going Deeper With Directly-Trained Larger Spiking Neural Networks", AAAI 2021.
    """

    has_residual = True
    defaults: ClassVar = {"T": 2, "num_classes": 10, "in_channels": 3, "input_size": 32}

    def __init__(self, spec: NetworkSpec):
        count = (spec.depth - 3) // 2
        stages = [(full, (count + 2 - s) // 3, stride) for s, (full, stride) in enumerate(STAGES)]
        super().__init__(spec, BLOCKS[spec.residual], stages)
        hidden = spec.channels(HIDDEN)
        if spec.hidden_norm:
            self.hidden: Any = SpikingConv(spec, self.channels, hidden, kernel=1)  # a linear layer of one pixel
        else:
            self.hidden, self.hidden_lif = nn.Linear(self.channels, hidden), spec.lif(hidden)
        self.classifier = nn.Linear(hidden, spec.num_classes)
        self.initialise_weights()

    def readout(self, x: Tensor) -> Tensor:
        """Logits (T, B, classes), through the hidden linear layer."""
        x = image_mean(x)
        if isinstance(self.hidden, SpikingConv):
            return self.logits(self.hidden(x[..., None, None]).flatten(2))
        return self.logits(fed(self.hidden_lif, self.hidden, x))

    def spiking_layers(self) -> list[SpikingLayer]:
        """stem, block1.1.lif1, ..., block3.2.lif2, hidden."""
        if isinstance(self.hidden, SpikingConv):
            return [*super().spiking_layers(), self.hidden.spiking_layer("hidden")]
        return [*super().spiking_layers(), SpikingLayer("hidden", self.hidden_lif, self.hidden)]


class SewResNet(ResNet):
    """Base of the SEW ResNets for images. A subclass sets ``layout``, its stages, as for :class:`ResNet`.

    The second tdBN of a block starts with weight 1: with 0, u would be 0, where a rectangular surrogate of width 2 v_th or less passes no
    gradient, and the block would never learn. ``docs/method.md`` lists the settings of the published networks.
    """

    defaults: ClassVar = {"T": 4, "num_classes": 10, "in_channels": 3, "input_size": 32}
    layout: ClassVar[Any]

    def __init__(self, spec: NetworkSpec):
        super().__init__(spec, SewBlock, self.layout)
        self.classifier = nn.Linear(self.channels, spec.num_classes)
        self.initialise_weights()


@register("arch", "sew-resnet18")
class SewResNet18(SewResNet):
    """Stem conv3x3 64; 2 SEW blocks each of 64, 128, 256, 512; global average pool; linear.

    The form for 32 x 32 pixels, with a stem of stride 1 and no max pooling; that for ImageNet has a stem of 7x7.
    """

    layout = ((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2))


@register("arch", "sew-resnet34")
class SewResNet34(SewResNet):
    """Stem conv3x3 64; 3 SEW blocks of 64, 4 of 128, 6 of 256, 3 of 512; global average pool; linear."""

    layout = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
