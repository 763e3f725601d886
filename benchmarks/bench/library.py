"""Models of spikingjelly that lsg has too, in lsg's sizes: SEW-ResNet-18 and 34, MS-ResNet-18, QKFormer, with all channels.

They are the classes of ``spikingjelly.activation_based.model`` with lsg's default neurons and tdBN. What differs from their defaults:

- The ResNets have the form for 32 x 32 pixels: a stem of 3x3 with stride 1, and no pooling. (The package has those for ImageNet.)
- QKFormer has the embeddings for 32 x 32 pixels, written here, and a bias in the projection of its attentions, as in the publication.

``best`` means channels-last memory and the cheapest surrogate; a static image is convolved at every timestep.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.bench.peers import CLASSES, THRESHOLD, Kit, Layer, Network, OverTime
from lsgcli.errors import ConfigError


class Model(Network):
    """A model of the library, which receives sequences."""

    def __init__(self, kit: Kit, T: int, size: int, width: float):
        if width != 1:
            raise ConfigError(
                f"found width {width:g}, expected 1: spikingjelly's model has no other", hint="Use --width-multiplier 1."
            )
        super().__init__(kit, T)
        self.model = self.build(kit)
        kit.functional.set_step_mode(self.model, "m")  # type: ignore[attr-defined]
        if kit.best:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def build(self, kit: Kit) -> nn.Module:
        """The model."""
        raise NotImplementedError

    def sequence(self, x: Tensor, T: int | None) -> Tensor:
        logits = self.model(x.expand(T or len(x), *x.shape[1:]))
        return logits if logits.dim() == 3 else logits[None]  # of those that average them themselves


class SewResNet18(Model):
    """SEW-ResNet-18."""

    counts = (2, 2, 2, 2)

    def build(self, kit: Kit) -> nn.Module:
        from spikingjelly.activation_based.model.sew_resnet import BasicBlock, SEWResNet

        model = SEWResNet(
            BasicBlock, self.counts, num_classes=CLASSES, norm_layer=kit.norm, cnf="ADD", spiking_neuron=kit.neurons
        )
        model.conv1, model.maxpool = kit.conv(3, 64), nn.Identity()
        return model


class SewResNet34(SewResNet18):
    """SEW-ResNet-34."""

    counts = (3, 4, 6, 3)


class MsResNet18(Model):
    """MS-ResNet-18, whose normalisation has weight v_th as lsg's tdBN."""

    def build(self, kit: Kit) -> nn.Module:
        from spikingjelly.activation_based.model.ms_resnet import MSResNet

        class Small(MSResNet):  # type: ignore[misc]
            _first_stage_stride = 1

        return Small(num_classes=CLASSES, stem_kernel_size=3, stem_stride=1, spiking_neuron=lambda step_mode: kit.neurons())


class Embedding(nn.Module):
    """Two convolutions, of which the second may pool before its neurons, plus a 1x1 convolution."""

    def __init__(self, kit: Kit, channels: tuple[int, int], first: bool = True):
        super().__init__()
        inner = channels[1] if first else channels[0]
        self.first = Layer(kit, channels) if first else nn.Identity()
        self.conv, self.norm = kit.conv(inner, channels[1]), kit.norm(channels[1])
        self.pool = OverTime(nn.MaxPool2d(3, 2, 1)) if first else nn.Identity()
        self.neurons = kit.neurons()
        self.shortcut = Layer(kit, channels, kernel=1, stride=2 if first else 1)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) -> sums of spikes (T, B, C', H', W')."""
        return self.neurons(self.pool(self.norm(self.conv(self.first(x))))) + self.shortcut(x)


class QKFormer(Model):
    """QKFormer for images, with 384 channels: spikingjelly's blocks, the embeddings of the publication."""

    def build(self, kit: Kit) -> nn.Module:
        from spikingjelly.activation_based.model import qkformer

        class Small(qkformer.QKFormer):  # type: ignore[misc]
            def __init__(self) -> None:
                settings = {"spiking_neuron": lambda step_mode: kit.neurons(), "num_heads": (8, 8, 8), "depths": (1, 1, 2)}
                super().__init__(num_classes=CLASSES, embed_dims=384, **settings)
                self.patch_embed1 = nn.Sequential(Layer(kit, (3, 48)), Embedding(kit, (48, 96), first=False))
                self.patch_embed2, self.patch_embed3 = Embedding(kit, (96, 192)), Embedding(kit, (192, 384))

        model = Small()
        for stage in (model.stage1, model.stage2, model.stage3):
            for block in stage:
                conv, _ = block.attn.proj_conv_bn
                conv.bias = nn.Parameter(torch.zeros(conv.out_channels))
                for module in block.modules():
                    if isinstance(module, nn.BatchNorm1d):
                        nn.init.constant_(module.weight, THRESHOLD)  # as tdBN
        nn.init.trunc_normal_(model.head.weight, std=0.02)
        return model


NETWORKS: dict[str, Callable[[Kit, int, int, float], Network]] = {
    "sew-resnet18": SewResNet18,
    "sew-resnet34": SewResNet34,
    "ms-resnet18": MsResNet18,
    "qkformer": QKFormer,
}
