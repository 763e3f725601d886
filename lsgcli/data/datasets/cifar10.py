"""CIFAR-10 (Krizhevsky 2009), through torchvision."""

from typing import ClassVar

from lsgcli.data.datasets.cifar import PAGE, Cifar
from lsgcli.data.download import RemoteFile
from lsgcli.registry import register


@register("dataset", "cifar10")
class Cifar10(Cifar):
    """50,000 + 10,000 images of 32x32 pixels, 10 classes."""

    title = "CIFAR-10, 50,000 + 10,000 images, 10 classes; downloaded if absent."
    source = "CIFAR10"
    folder = "cifar-10-batches-py"
    unpacked: ClassVar = {"all": folder}
    archives: ClassVar = {
        "all": RemoteFile(
            "cifar-10-python.tar.gz",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
            md5="c58f30108f718f92721af3b95e74349a",
            size=170_498_071,
            page=PAGE,
        )
    }
    mean = (0.49139968, 0.48215841, 0.44653091)
    std = (0.24703223, 0.24348513, 0.26158784)
