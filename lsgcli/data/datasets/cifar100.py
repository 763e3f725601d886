"""CIFAR-100 (Krizhevsky 2009), through torchvision."""

from typing import ClassVar

from lsgcli.data.datasets.cifar import PAGE, Cifar
from lsgcli.data.download import RemoteFile
from lsgcli.registry import register


@register("dataset", "cifar100")
class Cifar100(Cifar):
    """50,000 + 10,000 images of 32x32 pixels, 100 classes (the fine labels)."""

    title = "CIFAR-100, 50,000 + 10,000 images, 100 classes; downloaded if absent."
    source = "CIFAR100"
    folder = "cifar-100-python"
    unpacked: ClassVar = {"all": folder}
    archives: ClassVar = {
        "all": RemoteFile(
            "cifar-100-python.tar.gz",
            ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
            md5="eb9058c3a382ffc7106e4002c42a8d85",
            size=169_001_437,
            page=PAGE,
        )
    }
    mean = (0.50707516, 0.48654887, 0.44091784)
    std = (0.26733429, 0.25643846, 0.27615047)
