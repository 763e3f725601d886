"""The parallel multi-compartment spiking neuron: a bank of leaky oscillators per channel, and a reset that is computed at once."""

import math
from types import SimpleNamespace
from typing import ClassVar

import torch
from torch import Tensor, nn

from lsgcli.errors import ConfigError
from lsgcli.neurons.parallel import Parallel, over_steps
from lsgcli.neurons.widths import shifted
from lsgcli.registry import register

MODES = 4  # complex modes per channel


@register("neuron", "pmsn")
class ParallelMultiCompartment(Parallel):
    """y = relu(K * I + D I); u[t] = y[t] + r[t-1]; o = 1[u >= v_th], where r is what is left of the sum of all y modulo v_th.

    K[l] = Re sum over n of C exp(A dt l) (exp(A dt) - 1) / A is the response of four complex modes per channel, with A = -exp(a) + i w
    and a step dt. r[t-1] = c - v_th floor(c / v_th), with c = y[1] + ... + y[t-1], is the potential after subtracting v_th whenever
    possible; it receives no gradient. dt starts log-uniform in 1e-3 to 1e-1; a, w, C and D start as in S4D: -1/2 and pi n for A, normal
    C and D. The source has ``--threshold 1``, and a triangular surrogate of width 1.

    Source: Chen et al., "PMSN: A Parallel Multi-compartment Spiking Neuron for Multi-scale Temporal Processing", 2024, and its code.
    """

    preset: ClassVar = {"method": "none", "surrogate": "triangular"}
    learns = True
    has_decay = False
    linear = False

    def tensors(self, channels: int | None, steps: int) -> dict[str, Tensor]:
        """log_dt and D (C,); a and w (C, 4); C (C, 4, 2), real and imaginary parts."""
        if channels is None:
            raise ConfigError("neuron: found pmsn without channels, expected their number")
        low, high = math.log(1e-3), math.log(1e-1)
        own = {
            "log_dt": low + (high - low) * torch.rand(channels),
            "a": torch.full((channels, MODES), math.log(0.5)),
            "w": (math.pi * torch.arange(float(MODES))).repeat(channels, 1),
            "C": torch.randn(channels, MODES, 2) * math.sqrt(0.5),
            "D": torch.randn(channels),
        }
        return {name: nn.Parameter(value) for name, value in own.items()}

    def potentials(self, current: Tensor, p: SimpleNamespace) -> Tensor:
        """u (T, B, C, ...)."""
        y = over_steps(shifted(self.kernel(p, len(current))), current).relu()
        before = y.detach().cumsum(0) - y.detach()
        return y + (before - p.threshold * (before / p.threshold).floor()).detach()

    def kernel(self, p: SimpleNamespace, T: int) -> Tensor:
        """K (C, T), plus D at l = 0."""
        A, C = torch.complex(-p.a.exp(), p.w), torch.complex(p.C[..., 0], p.C[..., 1])
        step = A * p.log_dt.exp()[:, None]
        factor = C * (step.exp() - 1) / A
        K = (factor[..., None] * (step[..., None] * torch.arange(T, device=A.device)).exp()).sum(1).real
        return torch.cat([K[:, :1] + p.D[:, None], K[:, 1:]], 1)
