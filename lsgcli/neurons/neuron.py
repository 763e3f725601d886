"""The leaky integrate-and-fire neuron as a module over a sequence.

    u[t] = beta * u[t-1] * (1 - o[t-1]) + I[t]        u[0] = o[0] = 0 before the first step
    o[t] = 1 if u[t] >= v_th else 0

In the backward pass the derivative of the step function is replaced by a surrogate h of width alpha; the reset is not detached:

    do[t] = g[t]          - beta * u[t] * du[t+1]
    du[t] = do[t] * h[t]  + beta * (1 - o[t]) * du[t+1]
    dbeta = sum over t and neurons of du[t] * u[t-1] * (1 - o[t-1])

Options of the neuron, with q[t] for what remains of u[t] after the reset, so that u[t] = beta * q[t-1] + gain * I[t]:

    reset soft:         q = u - v_th * o;  do[t] = g[t] - beta * v_th * du[t+1],  du[t] = do[t] * h[t] + beta * du[t+1]
    reset none:         q = u;             do[t] = g[t],                          du[t] = do[t] * h[t] + beta * du[t+1]
    detached reset:     do[t] = g[t]
    learned threshold:  dv_th = - sum of do[t] * h[t], with soft reset also - sum of beta * o[t] * du[t+1]
    input gain:         gain = 1 or 1 - beta
    initial potential:  q[0] = 0, or the running average of q[T] over the neurons that fired at any step (MP-Init)

Source: Lian et al., "Learnable Surrogate Gradient for Direct Training Spiking Neural Networks", IJCAI 2023,
doi 10.24963/ijcai.2023/335, section 3.
"""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli import registry
from lsgcli.config import NeuronConfig
from lsgcli.errors import ConfigError
from lsgcli.neurons.kernels import Backend, NormParameters, average, normalise
from lsgcli.neurons.kernels.synchronised import Gather
from lsgcli.neurons.methods import LayerState, Method
from lsgcli.neurons.step import LIFParameters, measure_remains
from lsgcli.neurons.surrogates import Surrogate

MOMENTUM = 0.1  # of the running averages of what layers measure, as in tdBN
PLAIN = NeuronConfig(method="none")


def over_channels(parameter: Tensor, trailing: int) -> Tensor:
    """A parameter per layer, (), or per channel, (C,), reshaped to broadcast against (C, ...) with ``trailing`` axes after C."""
    return parameter.reshape(-1, *(1,) * trailing) if parameter.dim() == 1 else parameter


class LIF(nn.Module):
    """A layer of LIF neurons over a whole sequence, (T, ...) currents to (T, ...) spikes of the same type.

    ``LIF(decay=0.2, method="lsg")`` sets fields of :class:`~lsgcli.config.NeuronConfig` by name.

    Args:
        config: settings of the neurons; by default, decay and width are fixed.
        channels: C of a current (T, B, C, ...), if the decay is per channel.
        norm: the preceding tdBN, whose mean weight some methods use. It does not become a submodule.
        settings: fields that replace those of ``config``.

    Attributes:
        config: settings of the neurons.
        b: beta = sigmoid(b), () or (C,); a parameter if the decay is learned, otherwise a buffer.
        width: () or (C,), a buffer, if the method stores a width per layer.
        sigma: (), a buffer, if the method measures u: running average of its standard deviation, updated by :meth:`end_step`.
        q: (), a parameter if the threshold is learned: v_th = softplus(q).
        initial: (), a buffer, if the initial potential is measured, in units of u; updated by :meth:`end_step`.
        recomputing: set while activations are recomputed for the backward pass; u is then not measured again.

    Raises:
        ConfigError: a name is unknown, or a value is out of range.
    """

    b: Tensor
    width: float | Tensor
    sigma: Tensor
    measured: Tensor
    initial: Tensor
    remains: Tensor

    def __init__(
        self,
        config: NeuronConfig = PLAIN,
        *,
        channels: int | None = None,
        norm: nn.Module | None = None,
        **settings: Any,
    ):
        super().__init__()
        self.config = config = dataclasses.replace(config, **settings)
        if config.decay_per == "channel" and channels is None:
            raise ConfigError("LIF: found decay_per 'channel' without channels, expected their number")
        self.backend: str | Backend = config.backend
        self.method: Method = registry.get("method", config.method)()
        self.surrogate: Surrogate = registry.get("surrogate", config.surrogate)
        self.recomputing = False
        self.gather: Gather | None = None  # of the moments of u of a batch that is divided among processes
        self._norm = () if norm is None else (norm,)  # a tuple, so that it is not registered as a submodule
        shape = (channels,) if config.decay_per == "channel" and channels is not None else ()
        b = torch.full(shape, math.log(config.decay / (1 - config.decay)))
        if self.method.learns_decay:
            self.b = nn.Parameter(b)
        else:
            self.register_buffer("b", b)
        if self.method.stores_width:
            self.register_buffer("width", torch.full(shape, config.width))
        else:
            self.width = config.width
        if self.method.measures:
            self.register_buffer("sigma", torch.tensor(config.threshold * math.sqrt(1 + config.decay**2)))
            self.register_buffer("measured", torch.zeros(3, dtype=torch.float64), persistent=False)
        if config.threshold_learned:
            self.q = nn.Parameter(torch.tensor(config.threshold + math.log(-math.expm1(-config.threshold))))
        if config.init_potential == "measured":
            self.register_buffer("initial", torch.zeros(()))
            self.register_buffer("remains", torch.zeros(2, dtype=torch.float64), persistent=False)

    @property
    def beta(self) -> Tensor:
        """Decay per timestep, () or (C,), differentiable with respect to b."""
        return self.b.sigmoid()

    @property
    def threshold(self) -> float | Tensor:
        """v_th; if it is learned, (), differentiable with respect to q."""
        return F.softplus(self.q) if self.config.threshold_learned else self.config.threshold

    @property
    def alpha(self) -> Tensor:
        """Current width of the surrogate, () or (C,), without gradient; if it differs between timesteps, that of the second."""
        return self._alpha(2)[-1]

    def parameters_for(self, current: Tensor) -> LIFParameters:
        """Parameters for a current (T, ...): decay shaped to broadcast against one step, width against the current.

        Raises:
            ConfigError: the current has no timestep, or its channels do not match the decay.
        """
        if current.dim() == 0 or current.shape[0] == 0:
            raise ConfigError(
                f"LIF: found a current of shape {tuple(current.shape)}, expected (T, ...) with at least one timestep"
            )
        beta, alpha, trailing = self.beta, self._alpha(len(current)), 0
        if self.b.dim() == 1:
            if current.dim() < 3 or current.shape[2] != len(self.b):
                raise ConfigError(f"LIF: found a current of shape {tuple(current.shape)}, expected (T, B, {len(self.b)}, ...)")
            trailing = current.dim() - 3  # axes after the channels
            beta = over_channels(beta, trailing)
        before = current.dim() - alpha.dim() - trailing  # axes between time and channels
        alpha = alpha.reshape(len(alpha), *(1,) * before, *alpha.shape[1:], *(1,) * trailing)
        measured = self.measured if self.method.measures and self.training and not self.recomputing else None
        reset = (self.config.reset, self.config.detach_reset)
        return LIFParameters(beta, alpha, self.threshold, self.surrogate, measured, *reset)

    def _alpha(self, T: int) -> Tensor:
        """Width for T timesteps, (T or 1,) or (T or 1, C)."""
        beta = self.beta.detach()
        width = self.width if isinstance(self.width, Tensor) else beta.new_full((), self.width)
        gamma = beta.new_ones(())
        if self._norm and isinstance(weight := self._norm[0].weight, Tensor):
            gamma = weight.detach().mean()
        threshold = self.threshold.detach() if isinstance(self.threshold, Tensor) else self.threshold
        alpha = self.method.alpha(LayerState(T, threshold, beta, width, gamma, self.sigma if self.method.measures else None))
        return alpha if alpha.dim() > beta.dim() else alpha[None]

    @torch.no_grad()
    def end_step(self, skip: Tensor | None = None) -> None:
        """Update what the layer measures in training. Call it once after every optimiser step.

        Args:
            skip: 0-dimensional; if true, the measurements are discarded. Its value is not synchronised with the host.
        """
        if self.method.measures:
            n, total, squares = self._of_all(self.measured)
            variance = squares / n - (total / n).square()  # NaN if nothing was measured
            self._move(self.sigma, variance.clamp_min(0).sqrt(), n, skip)
        if self.config.init_potential == "measured":
            n, total = self._of_all(self.remains)
            self._move(self.initial, total / n, n, skip)

    def _of_all(self, sums: Tensor) -> Tensor:
        """The sums of all processes since the last call, which are zeroed."""
        whole = sums.clone() if self.gather is None else self.gather(sums).sum(0)
        sums.zero_()
        return whole

    def _move(self, running: Tensor, measured: Tensor, n: Tensor, skip: Tensor | None) -> None:
        """Update a running average, unless the step is skipped or ``n`` is 0."""
        keep = n == 0 if skip is None else (n == 0) | skip
        running.copy_(torch.where(keep, running, running.lerp(measured.to(running.dtype), MOMENTUM)))

    def remove_norm(self) -> None:
        """Remove the reference to the preceding tdBN, after folding."""
        self._norm = ()

    def forward(self, current: Tensor, *, overwrite: bool = False) -> Tensor:
        """Spikes (T, ...) of the type of ``current`` (T, ...).

        Args:
            current: I, time first.
            overwrite: allow the backend to overwrite ``current``. Only for a tensor that nothing, including autograd, reads
                afterwards.
        """
        p = self.parameters_for(current)
        if self.config.input_gain == "1-beta":
            current, overwrite = (current * (1 - p.beta)).to(current.dtype), True
        if self.config.init_potential == "zero":
            return self.implementation(current, p, overwrite)
        current = torch.cat([(current[:1] + p.beta * self.initial).to(current.dtype), current[1:]])
        spikes = self.implementation(current, p)
        if self.training and not self.recomputing:
            self.remains += measure_remains(current, spikes, p)
        return spikes

    def normalise_and_fire(
        self, norm: NormParameters | None, z: Tensor, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        """Spikes of the current tdBN(z) + residual, average-pooled over ``pool`` x ``pool`` positions; does not call hooks.

        Arguments and result as for :meth:`lsgcli.neurons.kernels.Backend.normalise_and_fire`.
        """
        if self.config.init_potential == "measured":
            current = z if norm is None else normalise(z, norm)
            spikes = LIF.forward(self, current if residual is None else current + residual)
            return spikes if pool == 1 else average(spikes, pool)
        p = self.parameters_for(z)
        if self.config.input_gain == "1-beta":
            gain = 1 - self.beta
            if norm is None:
                z = (z * (1 - p.beta)).to(z.dtype)
            else:
                norm = norm._replace(weight=norm.weight * gain, bias=norm.bias * gain)
            residual = None if residual is None else (residual * (1 - p.beta)).to(residual.dtype)
        return self.implementation.normalise_and_fire(z, norm, p, residual=residual, pool=pool)

    @property
    def implementation(self) -> Backend:
        """The backend: looked up by name, or a :class:`Backend` that was assigned, for example to observe the layer."""
        return self.backend if isinstance(self.backend, Backend) else registry.get("backend", self.backend)

    def extra_repr(self) -> str:
        """Settings, current decay and width."""
        per = "" if self.b.dim() == 0 else f" (mean of {len(self.b)})"
        return (
            f"method={self.config.method}, beta={self.beta.mean().item():.3f}{per}, alpha={self.alpha.mean().item():.3f}, "
            f"threshold={float(self.threshold):g}, surrogate={self.config.surrogate}, backend={self.backend}"
        )
