"""The leaky integrate-and-fire neuron as a module over a sequence.

    u[t] = beta * u[t-1] * (1 - o[t-1]) + I[t]        u[0] = o[0] = 0 before the first step
    o[t] = 1 if u[t] >= v_th else 0

In the backward pass the derivative of the step function is replaced by a surrogate h of width alpha; the reset is not detached:

    do[t] = g[t]          - beta * u[t] * du[t+1]
    du[t] = do[t] * h[t]  + beta * (1 - o[t]) * du[t+1]
    dbeta = sum over t and neurons of du[t] * u[t-1] * (1 - o[t-1])

Options of the neuron, where r[t] is the potential after the reset, so that u[t] = beta * r[t-1] + gain * I[t]:

    reset soft:         r = u - v_th * o;  do[t] = g[t] - beta * v_th * du[t+1],  du[t] = do[t] * h[t] + beta * du[t+1]
    reset none:         r = u;             do[t] = g[t],                          du[t] = do[t] * h[t] + beta * du[t+1]
    detached reset:     do[t] = g[t]
    learned threshold:  dv_th = - sum of do[t] * h[t], with soft reset also - sum of beta * o[t] * du[t+1]
    input gain:         gain = 1 or 1 - beta
    initial potential:  r[0] = 0, or the running average of r[T] over the neurons that fired at any step (MP-Init)

Source: Lian et al., "Learnable Surrogate Gradient for Direct Training Spiking Neural Networks", IJCAI 2023,
doi 10.24963/ijcai.2023/335, section 3.
"""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli import registry
from lsgcli.config.fields import check, fields_of
from lsgcli.config.neuron import NeuronConfig
from lsgcli.errors import ConfigError, refuse
from lsgcli.neurons.kernels.base import Backend, NormParameters, one_by_one
from lsgcli.neurons.layer import NeuronLayer, detached
from lsgcli.neurons.methods import Method, by_name
from lsgcli.neurons.models import LeakyIntegrateAndFire, Neuron
from lsgcli.neurons.norms import MembraneNorm
from lsgcli.neurons.step import LIFParameters, measure_remains, number, over_channels
from lsgcli.neurons.surrogates import Surrogate, check_surrogate
from lsgcli.neurons.unrolled import InParallel, Unrolled
from lsgcli.neurons.widths import WidthRule

DEFAULTS = NeuronConfig()


def _check_options(neuron: Neuron, method: Method) -> None:
    """Check that the neuron supports the options in its settings.

    Raises:
        ConfigError: with one line for each option that it does not support.
    """
    config = neuron.config
    lif = isinstance(neuron, LeakyIntegrateAndFire)
    # Settings that must have their defaults.
    fixed = {
        "input_gain": not neuron.has_decay,
        "detach_reset": not lif,
        "init_potential": not lif,
        "threshold_learned": neuron.sets_threshold,
        "neuron": method.neuron is not None,
    }
    expected = {name: repr(getattr(DEFAULTS, name)) for name, applies in fixed.items() if applies}
    problems = {name: value for name, value in expected.items() if repr(getattr(config, name)) != value}
    if config.reset not in neuron.resets:
        problems["reset"] = " or ".join(map(repr, neuron.resets))
    if method.needs_decay and not neuron.has_decay:
        problems["method"] = "one whose width does not follow the decay, such as 'linear-sigma' or 'fixed'"
    kind = f"the neuron {config.neuron}" if method.neuron is None else f"the method {config.method}"
    lines = (f"{name}: found {getattr(config, name)!r} with {kind}, expected {value}" for name, value in problems.items())
    refuse(lines, "Use --neuron lif with a method that has no neurons of its own, or omit these options.")


def _scaled(current: Tensor, gain: Tensor) -> Tensor:
    """A current (T, B, C, ...) times a factor, () or (C,), in the current's type."""
    return (current * over_channels(gain, current.dim() - 3)).to(current.dtype)


class LIF(NeuronLayer):
    """A layer of neurons, by default LIF, over a whole sequence, (T, ...) currents to (T, ...) spikes of the same type.

    ``LIF(decay=0.2, method="lsg")`` sets fields of :class:`~lsgcli.config.neuron.NeuronConfig` by name.

    Args:
        config: settings of the neurons. Default: ``NeuronConfig()``, with the method ``lsg``.
        channels: C of a current (T, B, C, ...); required for a decay per channel, for ``membrane``, and for the neuron ``glif``.
        norm: the preceding tdBN, whose mean weight some width rules use. It does not become a submodule.
        steps: T, for neurons with parameters per timestep.
        membrane: whether u is normalised before it is compared with the threshold (MPBN).
        dropout: probability that an output is set to 0 in training, at all timesteps of a sample; the others are divided by 1 - dropout.
        settings: fields of ``config`` to replace.

    Attributes:
        config: settings of the neurons.
        method: the method: whether the decay is learned, the width rule, and the method's own neuron, if any.
        neuron: the model of the neuron, given by the method or by the setting ``neuron``.
        surrogate: shape of do/du, of the setting ``surrogate`` and :meth:`~lsgcli.neurons.models.Neuron.shape`.
        watcher: observes the timesteps of a layer that autograd computes (``unrolled``), if any.
        membrane: normalisation of u before the threshold (MPBN), if any.
        b: beta = sigmoid(b), () or (C,); a parameter if the decay is learned, otherwise a buffer.
        q: (), a parameter if the threshold is learned: v_th = softplus(q).
        (others): parameters and buffers of the width rule and of the neuron, see
            :meth:`~lsgcli.neurons.widths.WidthRule.tensors` and :meth:`~lsgcli.neurons.models.Neuron.tensors`.
        initial: (), a buffer, if the initial potential is measured, in units of u; updated by :meth:`end_step`.
        recomputing: set while activations are recomputed for the backward pass; u is then not measured again.

    Raises:
        ConfigError: a name is unknown, or a value is out of range.
    """

    def __init__(
        self,
        config: NeuronConfig = DEFAULTS,
        *,
        channels: int | None = None,
        norm: nn.Module | None = None,
        steps: int = 1,
        membrane: bool = False,
        dropout: float = 0.0,
        **settings: Any,
    ):
        super().__init__()
        if not isinstance(config, NeuronConfig):
            raise ConfigError(f"LIF: found {config!r}, expected a NeuronConfig, or settings by name, such as LIF(method='lsg')")
        if problems := check(settings, fields_of(NeuronConfig)):
            raise ConfigError("\n".join(problems))
        self.config = config = dataclasses.replace(config, **(by_name(settings) if config is DEFAULTS else settings))
        per_channel = config.decay_per == "channel"
        if channels is None and (per_channel or membrane):
            raise ConfigError("LIF: found no channels, expected their number, for decay_per 'channel' or a normalisation of u")
        self.backend: str | Backend = config.backend
        self.method: Method = registry.get("method", config.method)
        surrogate: Surrogate = registry.get("surrogate", config.surrogate)
        self.dropout = dropout
        self._norm = () if norm is None else (norm,)  # a tuple, so that it is not registered as a submodule
        shape: Any = (channels,) if per_channel else ()
        self.neuron: Neuron = (self.method.neuron or registry.get("neuron", config.neuron))(config)
        b = torch.full(shape, math.log(config.decay / (1 - config.decay)) if self.neuron.has_decay else math.nan)
        self._keep(b=nn.Parameter(b) if self.method.learns_decay and self.neuron.has_decay else b)
        check_surrogate(config.surrogate, surrogate)
        self.surrogate = self.neuron.shape(surrogate)
        _check_options(self.neuron, self.method)
        self.watcher = None
        self.membrane = MembraneNorm(channels) if membrane and channels else None
        of_width = self.method.width.tensors(config, shape)
        of_neuron = self.neuron.tensors(channels, steps)
        self._of_width, self._of_neuron = tuple(of_width), tuple(of_neuron)
        self._keep(**of_width, **of_neuron)
        if self.method.width.correlated and config.input_correlation == "measured":
            gain = 1 - config.decay if config.input_gain == "1-beta" else 1
            self.register_buffer("covariance", torch.eye(steps) * (gain * self._std()) ** 2)
            self._start_sums("products", steps + 1, steps + 1)
            self._of_width += ("covariance",)
        per_step = type(self.neuron).averages is not Neuron.averages
        self.measures_u = per_step or type(self.method.width).averages is not WidthRule.averages
        if self.measures_u:
            self._start_sums("measured", 3, *([steps] if per_step else []))
        self.learns_threshold = config.threshold_learned or self.neuron.relative
        if self.learns_threshold:
            self.q = nn.Parameter(torch.tensor(config.threshold + math.log(-math.expm1(-config.threshold))))
        self.starts = config.init_potential == "measured"
        if self.starts:
            self.register_buffer("initial", torch.zeros(()))
            self._start_sums("remains", 2)
        self.check_width(steps)

    @property
    def alpha_varies(self) -> bool:
        """Whether the width differs between timesteps, so that :attr:`alpha` is one of several."""
        return len(self._alpha(2)) > 1 or type(self.neuron).aim is not Neuron.aim

    def parameters_for(self, current: Tensor) -> LIFParameters:
        """Parameters for a current (T, ...): decay shaped to broadcast against one step, width against the current.

        Raises:
            ConfigError: the current has no timestep, is not of a floating type, or its channels do not match the decay.
        """
        if not current.is_floating_point():
            raise ConfigError(
                f"LIF: found a current of type {current.dtype}, expected a floating type",
                hint="Convert it, for example with current.float(): products with the decay are not integers.",
            )
        per_channel = self.b.dim() == 1
        expected = f"(T, B, {len(self.b)}, ...)" if per_channel else "(T, ...)"
        if current.dim() == 0 or len(current) == 0 or (per_channel and current.shape[2:3] != self.b.shape):
            raise ConfigError(
                f"LIF: found a current of shape {tuple(current.shape)}, expected {expected} with at least one timestep"
            )
        trailing = current.dim() - 3 if per_channel else 0  # axes after the channels
        beta = over_channels(self.beta, trailing)
        alpha = self._alpha(len(current))
        before = current.dim() - alpha.dim() - trailing  # axes between time and channels
        alpha = alpha.reshape(len(alpha), *(1,) * before, *alpha.shape[1:], *(1,) * trailing)
        measured = self.measured if self.measures_u and self.is_measuring else None
        threshold = self.threshold
        if self.neuron.relative:
            alpha = alpha / detached(threshold)
            threshold = 1.0
        return LIFParameters(beta, alpha, threshold, self.surrogate, measured, self.config.reset, self.config.detach_reset)

    def remove_norm(self) -> None:
        """Remove the reference to the preceding tdBN, after folding."""
        self._norm = ()

    def forward(self, current: Tensor, *, overwrite: bool = False) -> Tensor:
        """Spikes (T, ...) of the type of ``current`` (T, ...).

        Args:
            current: I, time first.
            overwrite: allow the backend to overwrite ``current``. Only for a tensor that nothing, including autograd, reads
                afterwards.

        Raises:
            ConfigError: as for :meth:`parameters_for`.
        """
        p = self.parameters_for(current)
        measuring = self.starts and self.is_measuring
        gain = self._gain()
        if gain is not None:
            current = _scaled(current, gain)
            overwrite = True
        if self.starts:
            first = current[:1] + p.beta * (self.initial / self.threshold if self.neuron.relative else self.initial)
            current = torch.cat([first.to(current.dtype), current[1:]])
            overwrite = True
        if self.correlates and self.is_measuring:
            self._measure_current(current)
        spikes = self.implementation(current, p, overwrite and not measuring)
        if measuring:
            with torch.no_grad():
                n, total = measure_remains(current, spikes, p)
                self.remains += torch.stack([n, total * self.threshold if self.neuron.relative else total])
        return self._output(spikes)

    def normalise_and_fire(
        self, norm: NormParameters | None, z: Tensor, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        """Spikes of the current tdBN(z) + residual, average-pooled over ``pool`` x ``pool`` positions; does not call hooks.

        Arguments and result as for :meth:`lsgcli.neurons.kernels.base.Backend.normalise_and_fire`.
        """
        if self.starts or (self.training and (self.dropout or self.correlates)):
            return one_by_one(lambda current: LIF.forward(self, current), z, norm, residual, pool)
        p = self.parameters_for(z)
        gain = self._gain()
        if gain is not None:
            if norm is None:
                z = _scaled(z, gain)
            else:
                norm = norm._replace(weight=norm.weight * gain, bias=norm.bias * gain)
            residual = None if residual is None else _scaled(residual.to(z.dtype), gain)
        return self._output(self.implementation.normalise_and_fire(z, norm, p, residual=residual, pool=pool))

    def _gain(self) -> Tensor | None:
        """Factor on the current, () or (C,); None if it is 1."""
        gain = None if self.config.input_gain == "1" else 1 - self.beta
        if self.neuron.relative:
            return (1.0 if gain is None else gain) / self.threshold  # type: ignore[return-value]
        return gain

    def _output(self, spikes: Tensor) -> Tensor:
        """Output of the layer for its spikes, or for averages of them."""
        out = (spikes * self.threshold).to(spikes.dtype) if self.neuron.graded else spikes
        # t = T, because the neuron draws the numbers of the steps 0 to T - 1.
        return self.dropped(out, self.dropout, len(out)) if self.dropout and self.training else out

    def apart(self) -> list[nn.Parameter]:
        """Parameters with an optimiser of their own: all, except those that the neuron declares to be updated with the weights."""
        others = self._of_neuron if self.neuron.with_weights else ()
        return [p for name, p in self.named_parameters(recurse=False) if name not in others]

    @property
    def unit(self) -> float | Tensor:
        """Output of the layer for a spike: 1, or v_th if the neuron is graded, without gradient."""
        return detached(self.threshold) if self.neuron.graded else 1.0

    @property
    def draws(self) -> bool:
        """Whether the layer draws random numbers in training."""
        return self.neuron.draws or self.dropout > 0

    @property
    def unrolled(self) -> bool:
        """Whether autograd computes the gradients, timestep by timestep or of all at once, regardless of the backend."""
        return not self.neuron.fused or self.membrane is not None

    def firing(self) -> tuple[float | Tensor, Tensor | None]:
        """Threshold and sign s with which a neuron fires in evaluation, if s u >= threshold; with MPBN (C,) each, otherwise v_th and None."""
        v_th = number(self.threshold)
        return (v_th, None) if self.membrane is None else self.membrane.firing(v_th)

    @property
    def implementation(self) -> Backend:
        """The backend: looked up by name, or a :class:`Backend` that was assigned, for example to observe the layer."""
        if self.unrolled:
            return (InParallel if self.neuron.parallel else Unrolled)(self)
        return self.backend if isinstance(self.backend, Backend) else registry.get("backend", self.backend)

    def extra_repr(self) -> str:
        """Settings, and the means of the current decay and width."""
        config = self.config
        settings = f"{config.neuron}, method={config.method}, surrogate={config.surrogate}, backend={self.backend}"
        if self.b.is_meta:
            return settings
        beta = f", beta={self.beta.mean():.3f}" if self.neuron.has_decay else ""
        return f"{settings}{beta}, alpha={self.alpha.mean():.3f}"
