"""What is measured: contenders and cases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

OF_LIBRARY = ("sew-resnet18", "sew-resnet34", "ms-resnet18", "qkformer")  # models of spikingjelly, see ``library``
DEFAULTS = {
    "vggsnn": {"T": 10, "batch": 8, "size": 48},
    "resnet19": {"T": 2, "batch": 16, "size": 32},
    **{network: {"T": 4, "batch": 16, "size": 32} for network in OF_LIBRARY},
}
OF_EVENTS = ("vggsnn", "qkformer-dvs")  # networks whose input is recordings of two channels


class Contender(NamedTuple):
    """Who runs, and how.

    Args:
        kit: a class of ``peers``, ``lsg``, or ``Onnx``: the export of lsg's network in onnxruntime.
        best: channels-last memory and what else makes a peer fastest; lsg always is channels-last.
        keep: tell glibc to keep large buffers between steps, as ``lsg train`` does.
        backend: of lsg; of spikingjelly, its implementation of LIF on CUDA devices.
        compiled: by ``torch.compile``; lsg as one graph.
        settings: of network and neurons; lsg only.
        convolution: ``dense``, ``spikes`` or ``auto``; lsg only.
    """

    kit: str
    best: bool = False
    keep: bool = False
    backend: str = "auto"
    compiled: bool = False
    settings: Mapping[str, Any] = {}
    convolution: str = "dense"


CONTENDERS = {
    "lsg": Contender("lsg", best=True, keep=True),
    "lsg-auto": Contender("lsg", best=True, keep=True, convolution="auto"),
    "floor": Contender("Floor", best=True, keep=True),
    "spikingjelly": Contender("SpikingJelly"),
    "spikingjelly-best": Contender("SpikingJelly", best=True, keep=True),
    "snntorch": Contender("SnnTorch"),
    "snntorch-best": Contender("SnnTorch", best=True, keep=True),
    "onnxruntime": Contender("Onnx", best=True, keep=True),
}


@dataclass(frozen=True)
class Case:
    """What is run.

    Args:
        network: a registered network.
        T: timesteps.
        batch: samples in a step.
        size: pixels of a side.
        width: multiplier of all channels.
        mode: ``train`` (forward, backward, SGD with momentum), ``inference`` (lsg: with folded tdBN), or ``stream`` (inference of
            single timesteps that keep the state).
        device: ``cpu`` or ``cuda``.
    """

    network: str
    T: int
    batch: int
    size: int
    width: float = 1.0
    mode: str = "train"
    device: str = "cpu"

    def __str__(self) -> str:
        place = "" if self.device == "cpu" else f"-{self.device}"
        return f"{self.network}-w{self.width:g}-T{self.T}-b{self.batch}-{self.size}px-{self.mode}{place}"

    @property
    def channels(self) -> int:
        """Of the input: 2 of recordings, 3 of static images."""
        return 2 if self.network in OF_EVENTS else 3

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.network} x {self.width:g}, T={self.T}, {self.size} px, batch {self.batch}, {self.mode}"


def case(network: str, mode: str = "train", width: float = 1.0, **sizes: int | None) -> Case:
    """A case of a network's usual sizes, but for those given."""
    given = DEFAULTS[network] | {name: value for name, value in sizes.items() if value is not None}
    return Case(network, given["T"], given["batch"], given["size"], width, mode)
