"""Neurons without reset, whose potentials at all timesteps are linear in the currents and computed at once.

    u = W I                      W: (T, T), row t for the potential of timestep t
    o[t] = 1 if u[t] >= v_th[t] else 0

The gradients are dL/dI = W^T dL/du and dL/dW = dL/du I^T, with dL/du[t] = h(u[t] - v_th[t]) dL/do[t]. The product is one matrix
product over time, for all neurons of a layer.

Source of ``psn``, ``masked-psn`` and ``sliding-psn``: Fang et al., "Parallel Spiking Neurons with High Efficiency and Ability to Learn
Long-term Dependencies", NeurIPS 2023, where -v_th is the bias of the product.
"""

import math
from types import SimpleNamespace
from typing import ClassVar

import torch
from torch import Tensor, nn

from lsgcli.errors import ConfigError
from lsgcli.neurons.layer import NeuronLayer
from lsgcli.neurons.models import Neuron
from lsgcli.neurons.widths import leaky, shifted
from lsgcli.registry import register

FADED = 8  # the mask of masked-psn is complete after 1/8 of the epochs


def over_steps(weight: Tensor, x: Tensor) -> Tensor:
    """The product over time of a weight, (T, T) or (C, T, T), and x, (T, B, C, ...), in the memory order of x."""
    if weight.dim() > 2:
        return torch.einsum("cts,sbc...->tbc...", weight.to(x.dtype), x)
    order = [0, *sorted(range(1, x.dim()), key=lambda axis: -x.stride()[axis])]
    laid = x.permute(order)
    product = (weight.to(x.dtype) @ laid.reshape(len(x), -1)).view(laid.shape)
    return product.permute([order.index(axis) for axis in range(x.dim())])


class Parallel(Neuron):
    """Base of the neurons that are computed at all timesteps at once."""

    parallel = True
    states = ()

    def potentials(self, current: Tensor, p: SimpleNamespace) -> Tensor:
        """u (T, ...) of the currents I (T, ...).

        Args:
            current: I, of float32 or higher precision.
            p: ``beta``, and the tensors of :meth:`tensors`.
        """
        response = self.response(p, len(current))
        assert response is not None
        return over_steps(response, current)


def at_once(neuron: Parallel, current: Tensor, p: SimpleNamespace) -> tuple[Tensor, float | Tensor]:
    """u (T, ...) of the currents (T, ...), of float32 or higher precision, and v_th, which broadcasts against u; ``p`` as for :meth:`Parallel.potentials`."""
    u = neuron.potentials(current.to(torch.promote_types(current.dtype, torch.float32)), p)
    threshold = neuron.thresholds(p)
    if isinstance(threshold, Tensor) and threshold.dim():
        threshold = threshold.reshape(-1, *(1,) * (u.dim() - 1))
    return u, threshold


@register("neuron", "psn")
class ParallelSpikingNeuron(Parallel):
    """u = W I with a learned W (T, T), not causal; o[t] = 1[u[t] >= v_th[t]], one learned v_th per timestep.

    Fixes T. W starts uniform in +-1/sqrt(T), v_th at ``--threshold``. The source has ``--norm bn --threshold 1 --surrogate atan --width 1``.

    Source: Fang et al., "Parallel Spiking Neurons", NeurIPS 2023.
    """

    preset: ClassVar = {"method": "linear-sigma"}
    learns = True
    with_weights = True
    has_decay = False
    sets_threshold = True

    def tensors(self, channels: int | None, steps: int) -> dict[str, Tensor]:
        """weight: W, (T, T); bias: -v_th, (T,)."""
        weight = torch.empty(steps, steps).uniform_(-1, 1) / math.sqrt(steps)
        return {"weight": nn.Parameter(weight), "bias": nn.Parameter(torch.full((steps,), -self.config.threshold))}

    def response(self, p: SimpleNamespace, T: int) -> Tensor:
        """W."""
        return p.weight  # type: ignore[no-any-return]

    def potentials(self, current: Tensor, p: SimpleNamespace) -> Tensor:
        if len(current) != len(p.weight):
            raise ConfigError(
                f"{self.config.neuron}: found {len(current)} timesteps, expected {len(p.weight)}, those of its weights",
                hint="Use the T of the training; in Python, give its number as the argument steps.",
            )
        return super().potentials(current, p)

    def thresholds(self, p: SimpleNamespace) -> Tensor:
        return -p.bias  # type: ignore[no-any-return]


@register("neuron", "masked-psn")
class MaskedPSN(ParallelSpikingNeuron):
    """As ``psn``, with W[t, i] scaled by 1 - lambda unless t - k < i <= t; lambda rises from 0 to 1, where the neuron is causal.

    k is ``--order``. In epoch e of E, counted from 0, lambda = min(8 e / (E - 1), 1). At lambda = 1 from the start, most neurons would be
    silent: W is uniform in +-1/sqrt(T), of which only k of T entries remain.

    Source: Fang et al., "Parallel Spiking Neurons", NeurIPS 2023.
    """

    takes_order = True

    def tensors(self, channels: int | None, steps: int) -> dict[str, Tensor]:
        """Those of ``psn``, and mask: lambda, (), a buffer, which :meth:`begin_epoch` sets."""
        return {**super().tensors(channels, steps), "mask": torch.zeros(())}

    def response(self, p: SimpleNamespace, T: int) -> Tensor:
        """W (1 - lambda + lambda M), with M[t, i] = 1 where t - k < i <= t."""
        band = torch.ones_like(p.weight).tril().triu(1 - self.config.order)
        return p.weight * (1 - p.mask + p.mask * band)  # type: ignore[no-any-return]

    def begin_epoch(self, layer: NeuronLayer, epoch: int, epochs: int) -> None:
        """Set lambda."""
        layer.of_neuron()["mask"].fill_(min(FADED * epoch / max(epochs - 1, 1), 1.0))


@register("neuron", "sliding-psn")
class SlidingPSN(ParallelSpikingNeuron):
    """u[t] = sum over i < k of w[i] I[t-i], with k learned weights, ``--order``, and one learned v_th; causal, for any T.

    The weights start at 1, 1/2, 1/4, ....

    Source: Fang et al., "Parallel Spiking Neurons", NeurIPS 2023.
    """

    takes_order = True

    def tensors(self, channels: int | None, steps: int) -> dict[str, Tensor]:
        """weight: w, (k,), from the present to the past; bias: -v_th, ()."""
        weight = 0.5 ** torch.arange(float(self.config.order))
        return {"weight": nn.Parameter(weight), "bias": nn.Parameter(torch.tensor(-self.config.threshold))}

    def response(self, p: SimpleNamespace, T: int) -> Tensor:
        """W[t, i] = w[t - i] where 0 <= t - i < k, otherwise 0."""
        return shifted(nn.functional.pad(p.weight, (0, max(0, T - len(p.weight))))[:T])

    def potentials(self, current: Tensor, p: SimpleNamespace) -> Tensor:
        return Parallel.potentials(self, current, p)


@register("neuron", "psu-lif")
class ParallelLIF(Parallel):
    """u[t] = beta u[t-1] + I[t], without reset, as a matrix product; o[t] = 1[u[t] >= v_th].

    The same neuron as ``--neuron lif --reset none``. Its source reports that training on SHD collapses after ten epochs; without a reset,
    potentials add up over many timesteps. There, beta is clipped to [0, 1]; here it is a sigmoid, as in all neurons.

    Source: the code of spyx (github.com/kmheckel/spyx), ``PSU_LIF``.
    """

    def response(self, p: SimpleNamespace, T: int) -> Tensor:
        """W[t, i] = beta^(t - i) where i <= t, otherwise 0; per channel if beta is."""
        return leaky(p.beta.flatten() if p.beta.dim() > 0 else p.beta, T)
