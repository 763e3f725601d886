"""lsg's two networks written with other libraries, and the floor: only their convolutions, linear layers and pooling.

    pip install -e '.[bench]'        # spikingjelly 2.0, snntorch 1.0

Of spikingjelly only ``spikingjelly.activation_based`` is imported. Its package also asks for torchaudio, whose newest release may
not load beside a newer torch; only spikingjelly's speech data set needs it, so that does not matter here.

A :class:`Kit` is a library's way to write a layer, over whole sequences (T, B, ...). Every network is put together once, from a
kit. Neurons, thresholds, tdBN and sizes are lsg's; what is left to each library is how it computes them:

- spikingjelly: multi-step mode throughout, ``LIFNode`` with ``decay_input=False``, its own tdBN.
- snntorch: ``Leaky`` with reset to zero, stepped through time layer by layer: all timesteps go through a convolution at once,
  which is faster than stepping the whole network, and which tdBN needs. Its reset is detached in the backward pass.
- decays are fixed in both, which is less work than lsg's learned ones.

``best`` gives a peer what makes it fastest without rewriting it: channels-last memory, the cheapest of its surrogates, for static
images the first convolution once instead of T times, and for inference tdBN fused into the convolutions by torch's own function.
Otherwise surrogates are the library's defaults.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

THRESHOLD, DECAY = 0.5, 0.2
VGG = ((64, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 2), (512, 1), (512, 2))  # channels, pooling behind
RESNET = ((128, 3, 1), (256, 3, 2), (512, 2, 2))  # channels, blocks, stride of the first
HIDDEN, CLASSES = 256, 10


class OverTime(nn.Module):
    """A module of (N, ...) on sequences (T, B, ...), all timesteps at once."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, ...) -> (T, B, ...); also a single timestep (B, C, H, W)."""
        return self.module(x) if x.dim() == 4 else self.module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Kit(ABC):
    """How a library writes layers over sequences (T, B, ...).

    Args:
        best: use the settings that make it fastest.
    """

    skips: ClassVar[bool] = True  # whether a block's input is added to its output

    def __init__(self, best: bool = False):
        self.best = best

    def __deepcopy__(self, memo: object) -> "Kit":
        return self  # copies of a network are of the same kit

    def conv(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Module:
        """A convolution without bias that keeps the size at stride 1."""
        return OverTime(nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False))

    def norm(self, channels: int, eta: float = 1.0) -> nn.Module:
        """The tdBN behind a convolution."""
        norm = nn.BatchNorm2d(channels)
        nn.init.constant_(norm.weight, eta * THRESHOLD)
        return OverTime(norm)

    @abstractmethod
    def neurons(self) -> nn.Module:
        """A layer of LIF neurons."""

    def pool(self, side: int) -> nn.Module:
        """Average pooling."""
        return OverTime(nn.AvgPool2d(side)) if side > 1 else nn.Identity()

    def linear(self, in_features: int, out_features: int) -> nn.Module:
        """A linear layer with bias; torch's takes any leading axes."""
        return nn.Linear(in_features, out_features)

    def forget(self, network: nn.Module) -> None:  # noqa: B027 (most have nothing to forget)
        """Drop the membrane potentials after a sequence."""

    def step(self, network: nn.Module) -> None:  # noqa: B027
        """Let a deployed network, of ``best``, run single timesteps (B, C, H, W) that keep the membrane potentials."""

    def deploy(self, network: "Network") -> nn.Module:
        """The network ready for inference; with ``best``, a copy whose convolutions have taken in the tdBN behind them."""
        if not self.best:
            return network.eval()
        network = copy.deepcopy(network).eval()
        for layer in network.modules():
            if isinstance(layer, Layer) and not isinstance(layer.norm, nn.Identity):
                layer.fuse()
        return network


class Floor(Kit):
    """Convolutions, linear layers and pooling, without tdBN, neurons and identity shortcuts."""

    skips = False

    def norm(self, channels: int, eta: float = 1.0) -> nn.Module:
        return nn.Identity()

    def neurons(self) -> nn.Module:
        return nn.Identity()


class SpikingJelly(Kit):
    """spikingjelly, multi-step.

    Args:
        best: use the settings that make it fastest.
        surrogate: of its surrogate functions; by default that of ``LIFNode``, or the cheapest with ``best``.
    """

    def __init__(self, best: bool = False, surrogate: nn.Module | None = None):
        super().__init__(best)
        from spikingjelly.activation_based import functional, layer, neuron
        from spikingjelly.activation_based import surrogate as surrogates

        self.layer, self.neuron, self.functional = layer, neuron, functional
        chosen = surrogate or (surrogates.ATan() if best else None)
        self.surrogate = {} if chosen is None else {"surrogate_function": chosen}

    def conv(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Module:
        return self.layer.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False, step_mode="m")

    def norm(self, channels: int, eta: float = 1.0) -> nn.Module:
        return self.layer.ThresholdDependentBatchNorm2d(eta, THRESHOLD, channels)

    def neurons(self) -> nn.Module:
        tau = 1 / (1 - DECAY)  # it computes v - v / tau + x
        settings: dict[str, Any] = {"decay_input": False, "v_threshold": THRESHOLD, "v_reset": 0.0, "step_mode": "m"}
        return self.neuron.LIFNode(tau, **settings, **self.surrogate)

    def pool(self, side: int) -> nn.Module:
        return self.layer.AvgPool2d(side, step_mode="m") if side > 1 else nn.Identity()

    def linear(self, in_features: int, out_features: int) -> nn.Module:
        return self.layer.Linear(in_features, out_features, step_mode="m")

    def forget(self, network: nn.Module) -> None:
        self.functional.reset_net(network)

    def step(self, network: nn.Module) -> None:
        self.functional.set_step_mode(network, "s")


class SnnTorch(Kit):
    """snntorch: torch's layers, and its neurons stepped through time. Its default surrogate is its cheapest too."""

    def neurons(self) -> nn.Module:
        import snntorch

        return Stepped(snntorch.Leaky(beta=DECAY, threshold=THRESHOLD, reset_mechanism="zero"))

    def forget(self, network: nn.Module) -> None:
        for module in network.modules():
            if isinstance(module, Stepped):
                module.membrane = None

    def step(self, network: nn.Module) -> None:
        for module in network.modules():
            if isinstance(module, Stepped):
                module.single = True


class Stepped(nn.Module):
    """A neuron of snntorch through all timesteps, or if ``single`` one timestep that keeps its ``membrane``."""

    def __init__(self, neuron: nn.Module):
        super().__init__()
        self.neuron, self.single = neuron, False
        self.membrane: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Currents (T, B, ...) -> spikes (T, B, ...)."""
        if self.single:
            o, self.membrane = self.neuron(x, self.neuron.reset_mem() if self.membrane is None else self.membrane)  # type: ignore[operator]
            return o
        membrane, spikes = self.neuron.reset_mem(), []  # type: ignore[operator]
        for current in x:
            o, membrane = self.neuron(current, membrane)
            spikes.append(o)
        return torch.stack(spikes)


class Layer(nn.Module):
    """Convolution, tdBN, and where asked neurons and pooling."""

    def __init__(
        self,
        kit: Kit,
        channels: tuple[int, int],
        kernel: int = 3,
        stride: int = 1,
        eta: float = 1.0,
        fires: bool = True,
        pool: int = 1,
    ):
        super().__init__()
        self.conv = kit.conv(*channels, kernel=kernel, stride=stride)
        self.norm = kit.norm(channels[1], eta)
        self.neurons = kit.neurons() if fires else nn.Identity()
        self.pool = kit.pool(pool)

    def fuse(self) -> None:
        """Make tdBN, which must be in evaluation mode, a part of the convolution."""
        conv = self.conv.module if isinstance(self.conv, OverTime) else self.conv
        norm = self.norm.module if isinstance(self.norm, OverTime) else self.norm
        fused = fuse_conv_bn_eval(conv, norm)  # type: ignore[arg-type, type-var]
        self.conv, self.norm = OverTime(fused) if isinstance(self.conv, OverTime) else fused, nn.Identity()

    def forward(self, x: Tensor, T: int | None = None) -> Tensor:
        """(T, B, C, H, W) -> (T, B, C', H', W'), or one timestep without T; (1, B, C, H, W) is repeated behind the convolution where T is given."""
        z = self.conv(x)
        if T is not None and len(z) != T:
            z = z.expand(T, *z.shape[1:])
        return self.pool(self.neurons(self.norm(z)))


class Network(nn.Module, ABC):
    """Base: how input enters and who forgets the state."""

    def __init__(self, kit: Kit, T: int):
        super().__init__()
        self.kit, self.T = kit, T

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W), or a static image (B, C, H, W), -> logits (T, B, classes)."""
        if x.dim() == 4:
            x = x.unsqueeze(0) if self.kit.best else x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
            return self.sequence(x, self.T)
        return self.sequence(x, len(x))

    @abstractmethod
    def sequence(self, x: Tensor, T: int | None) -> Tensor:
        """Logits of (T or 1, B, C, H, W), or without T of one timestep (B, C, H, W)."""

    def start(self) -> None:
        """Weights as lsg starts them: a linear layer with neurons behind it as the convolutions."""
        before_neurons = [
            module for name, module in self.named_modules() if isinstance(module, nn.Linear) and name.startswith("hidden")
        ]
        for module in self.modules():
            if isinstance(module, nn.Conv2d) or module in before_neurons:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for linear in before_neurons:
            nn.init.zeros_(linear.bias)
        if self.kit.best:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class VGGSNN(Network):
    """lsg's ``vggsnn``: 2 channels in."""

    def __init__(self, kit: Kit, T: int, size: int, width: float):
        super().__init__(kit, T)
        layers, channels = [], 2
        for full, pool in VGG:
            layers.append(Layer(kit, (channels, scaled(full, width)), pool=pool))
            channels = scaled(full, width)
        self.features = nn.ModuleList(layers)
        self.classifier = kit.linear(channels * (size // 16) ** 2, CLASSES)
        self.start()

    def sequence(self, x: Tensor, T: int | None) -> Tensor:
        for layer in self.features:
            x = layer(x, T)
        return self.classifier(x.flatten(-3))


class Block(nn.Module):
    """A residual block whose currents are summed."""

    def __init__(self, kit: Kit, channels: tuple[int, int], stride: int):
        super().__init__()
        eta, changes = 1 / math.sqrt(2), stride != 1 or channels[0] != channels[1]
        self.first = Layer(kit, channels, stride=stride)
        self.second = Layer(kit, (channels[1], channels[1]), eta=eta, fires=False)
        self.shortcut = Layer(kit, channels, kernel=1, stride=stride, eta=eta, fires=False) if changes else nn.Identity()
        self.neurons = kit.neurons()
        self.adds = changes or kit.skips

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, C, H, W) -> (T, B, C', H', W')."""
        z = self.second(self.first(x))
        return self.neurons(z + self.shortcut(x) if self.adds else z)


class ResNet19(Network):
    """lsg's ``resnet19``: 3 channels in."""

    def __init__(self, kit: Kit, T: int, size: int, width: float):
        super().__init__(kit, T)
        channels = scaled(RESNET[0][0], width)
        self.stem = Layer(kit, (3, channels))
        blocks = []
        for full, count, stride in RESNET:
            for index in range(count):
                blocks.append(Block(kit, (channels, scaled(full, width)), stride if index == 0 else 1))
                channels = scaled(full, width)
        self.blocks = nn.ModuleList(blocks)
        self.hidden = kit.linear(channels, scaled(HIDDEN, width))
        self.neurons = kit.neurons()
        self.classifier = kit.linear(scaled(HIDDEN, width), CLASSES)
        self.start()

    def sequence(self, x: Tensor, T: int | None) -> Tensor:
        x = self.stem(x, T)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.neurons(self.hidden(x.mean((-2, -1)))))


def scaled(channels: int, width: float) -> int:
    """Channels at a width."""
    return max(1, round(channels * width))


NETWORKS: dict[str, Callable[[Kit, int, int, float], Network]] = {"vggsnn": VGGSNN, "resnet19": ResNet19}
