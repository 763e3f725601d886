"""CIFAR-10 (Krizhevsky 2009), through torchvision."""

from lsgcli.data.sets.cifar import Cifar
from lsgcli.registry import register


@register("dataset", "cifar10")
class Cifar10(Cifar):
    """50,000 + 10,000 images of 32x32 pixels, 10 classes."""

    title = "CIFAR-10, 50,000 + 10,000 images, 10 classes; downloaded if absent."
    source = "CIFAR10"
    mean = (0.49139968, 0.48215841, 0.44653091)
    std = (0.24703223, 0.24348513, 0.26158784)
