"""Max-ResNet with the stages of MS-ResNet-18, to compare pooling alone; the published one is ``max-resnet18``."""

from lsgcli.models.ms_resnet import STAGES, MaxResNet18
from lsgcli.registry import register


@register("arch", "max-resnet18-2222")
class MaxResNet18Of4Stages(MaxResNet18):
    """Stem conv3x3 64; 2 Max blocks each of 64, 128, 256, 512; LIF; global average pool; linear."""

    layout = STAGES
