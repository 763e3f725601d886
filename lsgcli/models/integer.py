"""Inference with integer convolutions: weights of 8 bits, spikes as bytes, membrane potentials in float32.

Spikes, their sums over a window or over branches, and event counts are small integers, so an integer convolution is exact in its input: it
computes s sum(q n) + bias with integers q (``lsgcli.models.quantise``) and n, and rounds only when the sum is multiplied by the scale s.
Where the input of a layer is real-valued, such as a normalised image, the layer multiplies it by the same weights q s in float32.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lsgcli import registry
from lsgcli.errors import ConfigError
from lsgcli.models.base import SpikingNet
from lsgcli.models.fold import fold
from lsgcli.models.layers import ConvNorm
from lsgcli.models.quantise import Synapse, integers, round_weights, synapses
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels.base import Backend, Bytes
from lsgcli.neurons.kernels.fused import Fused


def deployed(model: SpikingNet, precision: str = "fp32") -> SpikingNet:
    """A copy of a trained network for inference: folded, and for the precision int8 with integer convolutions.

    Raises:
        ConfigError: int8 with neurons that do not pass on spikes of 0 and 1.
    """
    network = fold(model)
    if precision != "int8":
        return network
    if not network.spec.binary:
        raise ConfigError(
            f"int8: found the method {network.spec.neuron.method}, whose neurons pass on their threshold, expected spikes of 0 and 1",
            hint="Use another precision.",
        )
    round_weights(network, network.spec.bits)
    # Levels of the inputs, where they are known: 1 for spikes and their sums, n for averages of n spikes.
    levels: dict[nn.Module, int | None] = {network.classifier: network.levels}
    levels |= {module.conv: module.levels for module in network.modules() if isinstance(module, ConvNorm)}
    for _, module in synapses(network):
        if isinstance(module, nn.Linear) or (module.padding_mode == "zeros" and not isinstance(module.padding, str)):
            own = levels.get(module)
            module.product = product(module, network.spec.bits, own or 1)  # type: ignore[assignment]
            module.levels = own  # type: ignore[assignment]
            module.__class__ = IntegerConv2d if isinstance(module, nn.Conv2d) else IntegerLinear
    for neurons in network.modules():
        if isinstance(neurons, LIF):
            neurons.backend = in_bytes(neurons.backend)
    return network


def in_bytes(backend: str | Backend) -> Backend:
    """The backend with spikes as bytes."""
    fused = Fused(as_bytes=True)
    if backend in ("auto", "fused") and fused.available(torch.device("cpu")):
        return fused
    return Bytes(registry.get("backend", backend) if isinstance(backend, str) else backend)


def product(module: Synapse, bits: int, levels: int) -> Callable[[Tensor], Tensor]:
    """A function of integers n, uint8 (N, C, H, W), that multiplies n / levels by the weights of a layer, and adds its bias.

    It uses oneDNN's convolution of uint8 and int8 with float32 output. A linear layer is the convolution of images of one pixel.
    """
    q, scale = integers(module.weight, bits)
    geometry = ((1, 1), (0, 0), (1, 1), 1)
    if isinstance(module, nn.Conv2d):
        geometry = (module.stride, module.padding, module.dilation, module.groups)  # type: ignore[assignment]
    ops = torch.ops.onednn
    bias = None if module.bias is None else module.bias.detach()
    kernel = q if q.dim() == 4 else q[..., None, None]
    weight = ops.qconv_prepack(kernel, scale, 1.0, 0, *geometry)
    zeros = torch.zeros(len(q), dtype=torch.int32)

    # A closure, because oneDNN's tensors cannot be copied, and copies of a network share closures.
    def multiplied(n: Tensor) -> Tensor:
        x = (n, 1 / levels, 0)
        w = (weight, scale, zeros)
        return ops.qconv2d_pointwise(*x, *w, bias, *geometry, 1.0, 0, torch.float32, "none", [], "")  # type: ignore[no-any-return]

    return multiplied


class Integer:
    """Mixin of layers that multiply integers where their input allows it.

    Attributes:
        product: from :func:`product`.
        levels: n if elements of the input are multiples of 1/n, or their numerators as bytes; None if they may be real-valued.
    """

    product: Callable[[Tensor], Tensor]
    levels: int | None

    def counts(self, x: Tensor) -> Tensor | None:
        """The integers that the input stands for, as bytes; None if it is real-valued."""
        if x.dtype == torch.uint8:
            return x
        if self.levels is not None:
            return (x if self.levels == 1 else (x * self.levels).round()).to(torch.uint8)
        whole = x.to(torch.uint8)
        return whole if torch.equal(whole.to(x.dtype), x) else None


class IntegerConv2d(Integer, nn.Conv2d):
    """A convolution, (N, C, H, W) of bytes or of float32, -> float32."""

    def forward(self, x: Tensor) -> Tensor:
        n = self.counts(x)
        return super().forward(x) if n is None else self.product(n)


class IntegerLinear(Integer, nn.Linear):
    """A linear layer, (..., features) of bytes or of float32, -> float32."""

    def forward(self, x: Tensor) -> Tensor:
        n = self.counts(x)
        if n is None:
            return super().forward(x)
        return self.product(n.reshape(-1, self.in_features, 1, 1)).view(*x.shape[:-1], self.out_features)
