"""The leaky integrate-and-fire neuron: a pure step, and a module that runs it over a sequence.

    u[t] = beta * u[t-1] * (1 - o[t-1]) + I[t]        u[0] = o[0] = 0 before the first step
    o[t] = 1 if u[t] >= v_th else 0

Backward, the step function's derivative is replaced by a surrogate h of width alpha, and the reset is not detached:

    do[t] = g[t]          - beta * u[t] * du[t+1]
    du[t] = do[t] * h[t]  + beta * (1 - o[t]) * du[t+1]
    dbeta = sum over t and neurons of du[t] * u[t-1] * (1 - o[t-1])

Source: Lian et al., "Learnable Surrogate Gradient for Direct Training Spiking Neural Networks", IJCAI 2023,
doi 10.24963/ijcai.2023/335, section 3.
"""

import math

import torch
from torch import Tensor, nn

from lsgcli import registry
from lsgcli.config import check
from lsgcli.errors import ConfigError
from lsgcli.neurons.kernels import Backend, NormParameters
from lsgcli.neurons.methods import Layer, Method
from lsgcli.neurons.step import LIFParameters
from lsgcli.neurons.surrogates import Surrogate

MOMENTUM = 0.1  # weight of a step in the running average of the measured standard deviation; tdBN's


def over_channels(parameter: Tensor, trailing: int) -> Tensor:
    """A parameter of a layer, (), or of its channels, (C,), as it broadcasts against (C, ...) with so many axes trailing the channels."""
    return parameter.reshape(-1, *(1,) * trailing) if parameter.dim() == 1 else parameter


class LIF(nn.Module):
    """A layer of LIF neurons over a whole sequence, (T, ...) currents to (T, ...) spikes of the same type.

    Args:
        decay: beta, or its start where the method learns it; in (0, 1).
        threshold: v_th, greater than 0.
        method: ``none``, ``trainable-decay``, ``lsg``, or any registered method.
        width: alpha where the method keeps it fixed, in units of u.
        surrogate: the shape of h, by name.
        backend: which implementation runs the sequence; ``auto`` picks the fastest that can.
        decay_per: ``layer`` for one decay, or ``channel`` for one of each channel of (T, B, C, ...).
        channels: C, where the decay is per channel.
        norm: the tdBN before the neurons, whose mean weight some methods ask for. It does not become a part of this module.

    Attributes:
        b: beta = sigmoid(b), () or (C,); a parameter where the decay is learned, else a buffer.
        width: () or (C,), a buffer, where the method stores a width of the layer's own.
        sigma: (), a buffer, where the method measures u: running average of its standard deviation. :meth:`end_step` moves it.
        recomputing: set while a batch is computed once more: it has been measured already.

    Raises:
        ConfigError: an unknown name, or a value out of its range.
    """

    b: Tensor
    width: float | Tensor
    sigma: Tensor
    measured: Tensor

    def __init__(
        self,
        decay: float = 0.2,
        threshold: float = 0.5,
        method: str = "none",
        width: float = 1.0,
        surrogate: str = "rectangular",
        backend: str = "auto",
        decay_per: str = "layer",
        *,
        channels: int | None = None,
        norm: nn.Module | None = None,
    ):
        super().__init__()
        given = {
            "decay": decay,
            "threshold": threshold,
            "method": method,
            "width": width,
            "surrogate": surrogate,
            "backend": backend,
            "decay_per": decay_per,
        }
        if problems := check(given):
            raise ConfigError("\n".join(problems))
        if decay_per == "channel" and channels is None:
            raise ConfigError("LIF: found decay_per 'channel' without channels, expected their number")
        self.threshold = float(threshold)
        self.method_name, self.surrogate_name = method, surrogate
        self.backend: str | Backend = backend
        self.method: Method = registry.get("method", method)()
        self.surrogate: Surrogate = registry.get("surrogate", surrogate)
        self.recomputing = False
        self._norm = () if norm is None else (norm,)  # in a tuple, or it would count as a part of this module
        shape = (channels,) if decay_per == "channel" and channels is not None else ()
        b = torch.full(shape, math.log(decay / (1 - decay)))
        if self.method.learns_decay:
            self.b = nn.Parameter(b)
        else:
            self.register_buffer("b", b)
        if self.method.stores_width:
            self.register_buffer("width", torch.full(shape, float(width)))
        else:
            self.width = float(width)
        if self.method.measures:
            self.register_buffer("sigma", torch.tensor(self.threshold * math.sqrt(1 + decay**2)))
            self.register_buffer("measured", torch.zeros(3, dtype=torch.float64), persistent=False)

    @property
    def beta(self) -> Tensor:
        """Decay per timestep, () or (C,); carries b's gradient."""
        return self.b.sigmoid()

    @property
    def alpha(self) -> Tensor:
        """Width of the surrogate at present, () or (C,); where it differs between timesteps, that of the second. Without a gradient."""
        return self._alpha(2)[-1]

    def parameters_for(self, current: Tensor) -> LIFParameters:
        """Decay and width at the current weights, in shapes that broadcast against a current (T, ...) or one step of it.

        Raises:
            ConfigError: a current without timesteps, or of other channels than the decay.
        """
        if current.dim() == 0 or current.shape[0] == 0:
            raise ConfigError(
                f"LIF: found a current of shape {tuple(current.shape)}, expected (T, ...) with at least one timestep"
            )
        beta, alpha, trailing = self.beta, self._alpha(len(current)), 0
        if self.b.dim() == 1:
            if current.dim() < 3 or current.shape[2] != len(self.b):
                raise ConfigError(f"LIF: found a current of shape {tuple(current.shape)}, expected (T, B, {len(self.b)}, ...)")
            trailing = current.dim() - 3  # axes trailing the channels
            beta = over_channels(beta, trailing)
        before = current.dim() - alpha.dim() - trailing  # axes between time and channels
        alpha = alpha.reshape(len(alpha), *(1,) * before, *alpha.shape[1:], *(1,) * trailing)
        measured = self.measured if self.method.measures and self.training and not self.recomputing else None
        return LIFParameters(beta, alpha, self.threshold, self.surrogate, measured)

    def _alpha(self, T: int) -> Tensor:
        """The method's width for T timesteps, (T or 1,) or (T or 1, C)."""
        beta = self.beta.detach()
        width = self.width if isinstance(self.width, Tensor) else beta.new_full((), self.width)
        gamma = beta.new_ones(())
        if self._norm and isinstance(weight := self._norm[0].weight, Tensor):
            gamma = weight.detach().mean()
        alpha = self.method.alpha(Layer(T, self.threshold, beta, width, gamma, self.sigma if self.method.measures else None))
        return alpha if alpha.dim() > beta.dim() else alpha[None]

    @torch.no_grad()
    def end_step(self, skip: Tensor | None = None) -> None:
        """Move sigma towards what was measured since the last call: to be called once after every step of the optimiser.

        Args:
            skip: 0-dimensional; where it is true, what was measured is dropped. Nobody waits for its value.
        """
        if not self.method.measures:
            return
        n, total, squares = self.measured
        variance = squares / n - (total / n).square()  # NaN where nothing was measured
        moved = self.sigma.lerp(variance.clamp_min(0).sqrt().to(self.sigma.dtype), MOMENTUM)
        keep = n == 0 if skip is None else (n == 0) | skip
        self.sigma.copy_(torch.where(keep, self.sigma, moved))
        self.measured.zero_()

    def remove_norm(self) -> None:
        """There is no tdBN before the neurons any more."""
        self._norm = ()

    def forward(self, current: Tensor, *, overwrite: bool = False) -> Tensor:
        """Spikes (T, ...) of the type of ``current`` (T, ...).

        Args:
            current: I, time first.
            overwrite: allow the backend to use the memory of ``current``, whose values are then lost. Only for a tensor that
                nobody, autograd included, reads again.
        """
        return self.implementation(current, self.parameters_for(current), overwrite)

    def normalise_and_fire(
        self, norm: NormParameters | None, z: Tensor, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        """Averages, over ``pool`` x ``pool`` positions, of the spikes of the current tdBN(z) + residual; without hooks.

        Arguments and result are those of :meth:`lsgcli.neurons.kernels.Backend.normalise_and_fire`.
        """
        return self.implementation.normalise_and_fire(z, norm, self.parameters_for(z), residual=residual, pool=pool)

    @property
    def implementation(self) -> Backend:
        """The backend: the one of that name, or the one put in its place, as by whoever watches the layer."""
        return self.backend if isinstance(self.backend, Backend) else registry.get("backend", self.backend)

    def extra_repr(self) -> str:
        """The layer's settings and current decay and width."""
        per = "" if self.b.dim() == 0 else f" (mean of {len(self.b)})"
        return (
            f"method={self.method_name}, beta={self.beta.mean().item():.3f}{per}, alpha={self.alpha.mean().item():.3f}, "
            f"threshold={self.threshold}, surrogate={self.surrogate_name}, backend={self.backend}"
        )
