"""Layers over time: convolutions with (T, B) as one batch, and convolution + tdBN with or without neurons."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli import registry
from lsgcli.models.base import NetworkSpec, Signal, SpikingLayer
from lsgcli.models.convolution import Conv2d
from lsgcli.models.recompute import backward_may_follow, checkpointed, saved
from lsgcli.neurons import LIF, TdBatchNorm2d
from lsgcli.neurons.kernels.base import average


def at_each_step(module: nn.Module, x: Tensor, levels: int | None = None) -> Tensor:
    """Apply a module of (N, C, H, W) to (T, B, C, H, W), in channels-last memory.

    Args:
        module: may save its input for backward.
        x: its input.
        levels: if given, every element of x is one of 0, 1/levels, 2/levels, ... up to 255/levels, and is saved in at most one byte.
    """
    flat = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    with saved(flat, levels):
        return module(flat).unflatten(0, x.shape[:2])


def chained(source: Signal, layers: Iterable[Callable[[Signal], Any]]) -> tuple[Any, Signal]:
    """A ModuleList of layers that follow each other, each made for the output of the one before, and the output of the last.

    Args:
        source: input of the first layer.
        layers: functions from the input of a layer to the layer, which has an attribute ``out``.
    """
    made = []
    for make in layers:
        made.append(make(source))
        source = made[-1].out
    return nn.ModuleList(made), source


def shortcut(kind: Any, spec: NetworkSpec, source: Signal, out_channels: int, stride: int, **conv: Any) -> nn.Module:
    """The shortcut of a residual block: the identity, or a 1x1 convolution of a class if its channels or its size change."""
    if stride == 1 and source.channels == out_channels:
        return nn.Identity()
    return kind(spec, source, out_channels, kernel=1, stride=stride, **conv)  # type: ignore[no-any-return]


def image_mean(x: Tensor) -> Tensor:
    """Mean over the image: (T, B, C, H, W) -> (T, B, C), of x's type, or float32 for bytes."""
    return x.mean((3, 4), dtype=None if x.is_floating_point() else torch.float32)


class ConvNorm(nn.Module):
    """Convolution, then normalisation: (T, B, C, H, W) -> (T, B, C', H', W').

    Args:
        spec: specification of the network; provides the threshold.
        source: output of the preceding layer; or C, if it may be real-valued.
        out_channels: C'.
        kernel: size of the kernel, or its (height, width), odd; padding preserves the image size at stride 1.
        stride: of the convolution.
        eta: factor of the tdBN; 1/sqrt(2) if two branches are summed.
        bias: whether the convolution has a bias also with a normalisation, which removes it in training.
        groups: of channels that are convolved separately; C for a depthwise convolution.

    Attributes:
        out: output of the layer.
        levels: levels of the input, see :class:`~lsgcli.models.base.Signal`.
        recomputes: whether only the input is kept in training, and the rest computed again, with what follows (see :meth:`then`).
    """

    def __init__(
        self,
        spec: NetworkSpec,
        source: Signal | int,
        out_channels: int,
        kernel: int | tuple[int, int] = 3,
        stride: int = 1,
        eta: float = 1.0,
        bias: bool = False,
        groups: int = 1,
    ):
        super().__init__()
        in_channels, self.levels = Signal(source) if isinstance(source, int) else source
        self.out = Signal(out_channels)
        # Whether an input with levels is saved in bits or bytes here, rather than by the surrounding block.
        self.packs = spec.dropout_of("neurons") == 0  # dropout scales the spikes
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2)
        bias |= spec.norm == "none"
        self.conv = Conv2d(in_channels, out_channels, (height, width), stride, padding=padding, groups=groups, bias=bias)
        self.norm: nn.Module = registry.get("norm", spec.norm)(out_channels, spec.neuron.threshold, eta, spec.T)
        self.recomputes = False

    def forward(self, x: Tensor, T: int | None = None) -> Tensor:
        """Normalised currents. A static image, (1, B, C, H, W) with ``T`` > 1, is convolved once and then expanded."""
        return self.then(self.norm, x, T, uses=(self.norm,))

    def then(
        self, rest: Callable[..., Tensor], x: Tensor, T: int | None = None, *others: Tensor, uses: tuple[nn.Module, ...]
    ) -> Tensor:
        """The convolution and what follows it, which are one checkpoint if :attr:`recomputes` is set.

        Args:
            rest: called with the output of the convolution, before tdBN, and with ``others``.
            x: input of the convolution.
            T: as for :meth:`forward`.
            others: further inputs of ``rest``.
            uses: the modules that ``rest`` uses.
        """
        flat = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        steps = x.shape[:2]
        levels = self.levels if self.packs else None

        def run(flat: Tensor, *others: Tensor) -> Tensor:
            with saved(flat, levels):
                z = self.conv(flat).unflatten(0, steps)
            return rest(z.expand(T, *z.shape[1:]) if T is not None and len(z) != T else z, *others)

        if self.recomputes and backward_may_follow(self, flat):
            return checkpointed(run, (self.conv, *uses), flat, levels, *others)
        return run(flat, *others)


class SpikingConv(nn.Module):
    """Convolution, tdBN, LIF and, where ``pool`` > 1, average pooling of the spikes; arguments and attributes as for :class:`ConvNorm`."""

    def __init__(self, spec: NetworkSpec, source: Signal | int, out_channels: int, pool: int = 1, **conv: Any):
        super().__init__()
        self.current = ConvNorm(spec, source, out_channels, **conv)
        self.out = spec.spikes(out_channels, averaged=pool**2)
        self.lif: LIF = spec.lif(out_channels, self.current.norm)
        self.pool = nn.AvgPool2d(pool) if pool > 1 else None

    def forward(self, x: Tensor, T: int | None = None) -> Tensor:
        """(T, B, C, H, W) -> spikes, or their averages, (T, B, C', H', W')."""
        return self.current.then(self.fired, x, T, uses=(self.current.norm, self.lif))

    def fired(self, z: Tensor) -> Tensor:
        """What follows the convolution, from its output."""
        return normalise_and_fire(self.current.norm, z, self.lif, pool=self.pool)

    def spiking_layer(self, name: str) -> SpikingLayer:
        """This block's neurons and the weights that feed them. A pool must divide the image, so that its averages include all spikes."""
        return SpikingLayer(name, self.lif, self.current.conv, self.current.norm, self)


HALVE = nn.MaxPool2d(3, stride=2, padding=1)


class MaxPooledConv(SpikingConv):
    """Convolution, tdBN, max pooling of the currents (3x3, stride 2), LIF: spikes (T, B, C', H / 2, W / 2), rounded up."""

    def fired(self, z: Tensor) -> Tensor:
        """What follows the convolution, from its output."""
        return self.lif(halved(self.current.norm(z)), overwrite=not has_hooks(self.lif))


def halved(x: Tensor) -> Tensor:
    """Max pooling (3x3, stride 2): (T, B, C, H, W) -> (T, B, C, H / 2, W / 2), rounded up."""
    return at_each_step(HALVE, x)


def normalise_and_fire(
    norm: nn.Module, z: Tensor, lif: LIF, *, residual: Tensor | None = None, pool: nn.AvgPool2d | None = None
) -> Tensor:
    """Spikes for a convolution's output z (T, B, C, H, W), average-pooled if there is a pool.

    The backend fuses all operations, unless one of the modules has hooks, or the class of the neurons overrides ``forward``.

    Args:
        norm: tdBN, or the identity if it is folded into the convolution.
        z: not used elsewhere, so it may be overwritten.
        lif: the neurons.
        residual: a second current, from another branch.
        pool: average pooling of the spikes.
    """
    modules = [norm, lif] if pool is None else [norm, lif, pool]
    if has_hooks(*modules) or _fires_its_own_way(lif):
        current = norm(z)
        spikes = lif(current if residual is None else current + residual)
        if pool is None or spikes.is_floating_point():
            return spikes if pool is None else at_each_step(pool, spikes)
        return average(spikes, pool.kernel_size)  # type: ignore[arg-type]
    parameters = None
    if type(norm) is TdBatchNorm2d:
        parameters = norm.parameters_for(z)
    elif not isinstance(norm, nn.Identity):
        z = norm(z)  # TEBN, or a norm of another library
    side = 1 if pool is None else pool.kernel_size
    assert isinstance(side, int)
    return lif.normalise_and_fire(parameters, z, residual=residual, pool=side)


def fed(lif: LIF, module: nn.Module, *inputs: Tensor) -> Tensor:
    """Spikes of neurons for the output of a module, which they overwrite unless a hook may keep it."""
    return lif(module(*inputs), overwrite=not has_hooks(module, lif))  # type: ignore[no-any-return]


def has_hooks(*modules: nn.Module) -> bool:
    """Whether a hook may see, and keep, an input or output of one of the modules."""
    return any(m._forward_pre_hooks or m._forward_hooks or m._backward_pre_hooks or m._backward_hooks for m in modules)


def _fires_its_own_way(lif: LIF) -> bool:
    """Whether a subclass of LIF overrides ``forward``, but not the fused operation."""
    kind = type(lif)
    return kind.forward is not LIF.forward and kind.normalise_and_fire is LIF.normalise_and_fire
