"""Width rules: how the surrogate width alpha of a layer follows from its state.

A rule is a pure function of a :class:`LayerState`. The width affects only the backward pass and, except under ``asgl``, receives no
gradient. ``lsgcli.neurons.methods`` combines rules with the decay and the model of the neurons.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lsgcli.config.neuron import NeuronConfig
from lsgcli.neurons.step import like
from lsgcli.neurons.surrogates import Surrogate, mean_square, rectangular

GAIN = 8.0  # predicted gain of a layer over v_th^2 E[h^2], see docs/gradient-flow.md
RARE = 2.326  # standard deviations that 1 % of a normal distribution exceeds
NARROWEST = 0.01  # lower bound of measured and learned widths, in units of v_th, to avoid division by 0 in silent layers


class LayerState(NamedTuple):
    """State of a layer of neurons from which a rule computes the width. Tensors are detached.

    Attributes:
        T: number of timesteps of the input current.
        threshold: v_th; a tensor, (), if it is learned.
        beta: decay per timestep, () per layer or (C,) per channel.
        width: the setting ``width``, (), in units of u.
        gamma: mean weight of the tdBN before the neurons, (); 1 without tdBN.
        own: parameters and buffers of the rule, see :meth:`WidthRule.tensors`.
        surrogate: shape of the surrogate.
        std: standard deviation of the current after normalisation, times the input gain; broadcasts against beta.
        response: the matrix W of u = W I without reset, (T, ...) rows of the timesteps; None for that of the decay.
    """

    T: int
    threshold: float | Tensor
    beta: Tensor
    width: Tensor
    gamma: Tensor
    own: Mapping[str, Tensor] = {}
    surrogate: Surrogate = rectangular
    std: float | Tensor = 1.0
    response: Tensor | None = None


def leaky(beta: Tensor, T: int) -> Tensor:
    """The matrix of u[t] = beta u[t-1] + I[t]: W[t, i] = beta^(t-i) where i <= t, otherwise 0; (*beta.shape, T, T)."""
    return shifted(beta[..., None] ** torch.arange(T, device=beta.device))


def shifted(kernel: Tensor) -> Tensor:
    """The matrix of a causal convolution over time with a kernel (..., T): W[t, i] = kernel[t - i] where i <= t, otherwise 0."""
    steps = torch.arange(kernel.shape[-1], device=kernel.device)
    lag = steps[:, None] - steps
    return kernel[..., lag.clamp(min=0)].where(lag >= 0, kernel.new_zeros(()))


class WidthRule(ABC):
    """Base class of width rules.

    Attributes:
        formula: short formula of the width, for tables.
        setting: the setting that gives the width or its initial value: ``width``, or ``width_from``; None if alpha depends on neither.
        of_decay: whether alpha depends on the decay, so that the neurons need one.
        correlated: whether alpha depends on the correlation of the currents, ``--input-correlation``.
    """

    formula: str
    setting: ClassVar[str | None] = None
    of_decay: ClassVar[bool] = False
    correlated: ClassVar[bool] = False

    @abstractmethod
    def alpha(self, layer: LayerState) -> Tensor:
        """Width alpha of the surrogate, in units of u.

        Returns:
            () or the shape of ``layer.beta``; with a leading axis T if the width depends on the timestep.
        """

    def tensors(self, config: NeuronConfig, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Parameters and buffers that each layer registers, by name. Tensors that are not parameters become buffers.

        Args:
            config: settings of the layer.
            shape: () per layer or (C,) per channel, as the decay.
        """
        return {}

    def averages(self, moments: Tensor) -> dict[str, Tensor]:
        """Values of an optimiser step whose running averages are buffers of the rule, by name. If a rule defines it, the layer measures u.

        Args:
            moments: (3,): number, sum, and sum of squares of u in the step, over all samples, timesteps and processes, float64.
        """
        return {}


class Given(WidthRule):
    """alpha is the setting ``--width``, independent of the state.

    Args:
        formula: of the width that the neurons compute from the setting, if they do.
    """

    setting = "width"

    def __init__(self, formula: str = "--width"):
        self.formula = formula

    def alpha(self, layer: LayerState) -> Tensor:
        """The setting."""
        return layer.width


class Predicted(WidthRule):
    """alpha = 2 v_th sqrt(1 + beta^2).

    The surrogate extends one predicted standard deviation of the membrane potential to either side of the threshold.
    ``docs/method.md`` discusses the assumptions of this prediction.

    Source: Lian et al., "Learnable Surrogate Gradient for Direct Training Spiking Neural Networks", IJCAI 2023, section 4,
    doi 10.24963/ijcai.2023/335.
    """

    formula = "2 v_th sqrt(1+beta^2)"
    of_decay = True

    def alpha(self, layer: LayerState) -> Tensor:
        """2 v_th sqrt(1 + beta^2)."""
        return 2 * layer.threshold * (1 + layer.beta.square()).sqrt()


class LinearSigma(WidthRule):
    """alpha[t] = 2 sigma[t], where sigma[t]^2 = w[t]^T K w[t] is the variance of u[t] = w[t] I without reset.

    w[t] is row t of the matrix W of the neurons: beta^(t-i) for a decay, times the input gain. K is the covariance of the currents of
    two timesteps: s^2 on the diagonal with ``--input-correlation identity``, where s is the standard deviation after the normalisation of
    the layer (v_th with tdBN, 1 with other norms); or the running average of the measured covariance. At t = 2, a decay with tdBN has
    the width of ``lsg``. ``docs/method.md`` derives it, and says where it fails.

    Source: this package, after Lian et al., IJCAI 2023, section 4.
    """

    formula = "2 sqrt(w[t]^T K w[t])"
    correlated = True

    def alpha(self, layer: LayerState) -> Tensor:
        """(T, *beta.shape)."""
        w = leaky(layer.beta, layer.T) if layer.response is None else layer.response[..., : layer.T, :]
        if (measured := layer.own.get("covariance")) is None:
            variance = w.square().sum(-1)
            scale = layer.std if isinstance(layer.std, float) else layer.std[..., None]
            sigma = variance.sqrt() * scale
        else:
            n = w.shape[-1]
            m = len(measured)
            K = torch.eye(n, dtype=w.dtype, device=w.device) * measured[-1, -1]
            K[:m, :m] = measured[:n, :n]
            sigma = (w @ K * w).sum(-1).clamp_min(0).sqrt()
        return (2 * sigma).movedim(-1, 0).clamp_min(NARROWEST)


class Stored(WidthRule):
    """alpha of each layer is fixed to its value in another checkpoint (``--width-from``).

    A control for ``lsg``: equal accuracy indicates that the final widths matter, not their changes during training. The widths are
    stored with the weights, so the other checkpoint is needed only once.

    Source: this package, as a control for Lian et al., IJCAI 2023.
    """

    formula = "that of --width-from"
    setting = "width_from"

    def tensors(self, config: NeuronConfig, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """width: alpha of the layer."""
        return {"width": torch.full(shape, config.width)}

    def alpha(self, layer: LayerState) -> Tensor:
        """The stored width."""
        return layer.own["width"]


def mean_and_std(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of u from its moments, (3,), as in :meth:`WidthRule.averages`; NaN if nothing was measured."""
    n, total, squares = moments
    mean = total / n
    return mean, (squares / n - mean.square()).clamp_min(0).sqrt()


class MeasuredSigma(WidthRule):
    """alpha = 2 sigma, the running average of the measured standard deviation of u.

    Measures the standard deviation that ``lsg`` predicts. Each training step computes the standard deviation of u over all samples,
    neurons and timesteps of the layer, from sums of u and u^2 accumulated while u is computed. After the step, sigma is updated with
    momentum 0.1, as in tdBN, so the width of a step depends only on earlier steps. sigma is initialised to the prediction
    v_th sqrt(1 + beta^2) and not updated in evaluation.

    Source: this package, as a control for the prediction of Lian et al., IJCAI 2023.
    """

    formula = "2 measured std(u)"

    def tensors(self, config: NeuronConfig, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """sigma: running average of the standard deviation of u."""
        return {"sigma": torch.tensor(config.threshold * math.sqrt(1 + config.decay**2))}

    def alpha(self, layer: LayerState) -> Tensor:
        """2 sigma."""
        return 2 * layer.own["sigma"].clamp(min=NARROWEST * layer.threshold)

    def averages(self, moments: Tensor) -> dict[str, Tensor]:
        """sigma, over all timesteps."""
        return {"sigma": mean_and_std(moments)[1]}


class Adaptive(MeasuredSigma):
    """alpha = ratio x sigma, with sigma as in ``measured-sigma``, at least v_th / 2.33; the ratio of each layer is fixed.

    ``--init spikeinit``, ``micheli``, ``ding`` or ``fluctuation`` computes the ratio, and ``measured`` measures it, at which the layer preserves
    the mean square of the gradient at the start; otherwise it is 2. Unlike in the source, sigma is that of the layer, not of a sample and channel.

    Source: Shi and Yu, "Training Deep Spiking Neural Networks without Normalization", ICML 2026.
    """

    formula = "ratio x measured std(u)"

    def tensors(self, config: NeuronConfig, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """sigma, and ratio, ()."""
        return {**super().tensors(config, shape), "ratio": torch.tensor(2.0)}

    def alpha(self, layer: LayerState) -> Tensor:
        """ratio x sigma."""
        return layer.own["ratio"] * layer.own["sigma"].clamp(min=layer.threshold / RARE)


class Isometric(WidthRule):
    """alpha is the width at which a layer preserves the mean square of the gradient: 8 v_th^2 E[h^2] = 1.

    8 v_th^2 E[h^2] is the gain that is predicted for Kaiming weights and tdBN. u is assumed to be normal, with running averages of the
    measured mean and standard deviation, which are updated as ``sigma`` of ``measured-sigma`` and start at 0 and v_th sqrt(1 + beta^2).
    With a rectangular surrogate, E[h^2] is coverage / alpha^2. The largest solution is used, which never exceeds sqrt(8) v_th; this is also
    the width if there is no solution above 0.09 v_th, because hardly any u is near the threshold.

    Source: this package.
    """

    formula = "8 v_th^2 E[h^2] = 1"

    def tensors(self, config: NeuronConfig, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """u_mean and u_std: running averages of mean and standard deviation of u."""
        return {"u_mean": torch.zeros(()), "u_std": torch.tensor(config.threshold * math.sqrt(1 + config.decay**2))}

    def alpha(self, layer: LayerState) -> Tensor:
        """v_th times the largest root x of 8 E[(x h)^2] / x = x, interpolated between 32 values; u in units of v_th, h of 1 / v_th."""
        mean, std = (layer.own[name].double() / layer.threshold for name in ("u_mean", "u_std"))
        widest = math.sqrt(GAIN)
        x = torch.linspace(widest / 32, widest, 32, dtype=mean.dtype, device=mean.device)
        excess = GAIN * mean_square(layer.surrogate, x, mean - 1, std.clamp_min(NARROWEST)) / x - x
        before = excess[:-1]
        after = excess[1:]
        roots = x[:-1] + (x[1] - x[0]) * before / (before - after)
        largest = roots.where((before > 0) & (after <= 0), 0).amax()
        return layer.threshold * largest.where(largest > 0, widest).to(layer.beta.dtype)

    def averages(self, moments: Tensor) -> dict[str, Tensor]:
        """u_mean and u_std, over all timesteps."""
        mean, std = mean_and_std(moments)
        return {"u_mean": mean, "u_std": std}


class PredictedWithGamma(WidthRule):
    """alpha = 2 gamma v_th at the first timestep, 2 gamma v_th sqrt(1 + beta^2) at later timesteps.

    gamma is the mean weight of the layer's tdBN. A current with standard deviation gamma v_th gives u a standard deviation of
    gamma v_th at t = 1 and gamma v_th sqrt(1 + beta^2) at t = 2 (without reset, for inputs uncorrelated in time). The absolute value of
    gamma is used, without a gradient; without tdBN, gamma is 1. If two branches are summed, the gamma of the branch that
    contains the neurons is used. Unlike in the source, the decay is learned as in ``lsg``, so that the two methods differ only in the
    width.

    Source: Jiang et al., "Adaptive Gradient Learning for Spiking Neural Networks by Exploiting Membrane Potential Dynamics",
    IJCAI 2025, doi 10.24963/ijcai.2025/464.
    """

    formula = "2 gamma v_th, then times sqrt(1+beta^2)"
    of_decay = True

    def alpha(self, layer: LayerState) -> Tensor:
        """(T, ...): one width for the first timestep, another for all later ones."""
        first = 2 * layer.threshold * layer.gamma.abs().clamp_min(NARROWEST)
        later = first * (1 + layer.beta.square()).sqrt()
        return torch.stack([first.expand_as(later), *[later] * (layer.T - 1)])


class Learned(WidthRule):
    """alpha is learned, one per layer, from ``--width``.

    Its parameter is ln alpha, or 4 / alpha with ``--width-as slope``. The neurons of ``asgl`` give it a gradient.
    """

    formula = "learned"
    setting = "width"

    def tensors(self, config: NeuronConfig, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """log_width: ln alpha, or slope: 4 / alpha, a parameter."""
        if config.width_as == "slope":
            return {"slope": nn.Parameter(torch.tensor(4 / config.width))}
        return {"log_width": nn.Parameter(torch.tensor(math.log(config.width)))}

    def alpha(self, layer: LayerState) -> Tensor:
        """The learned width."""
        return learned(layer.own)


def learned(own: Mapping[str, Tensor]) -> Tensor:
    """The width of :class:`Learned`, differentiable; a slope is at least 1e-6."""
    return 4 / own["slope"].clamp_min(1e-6) if "slope" in own else own["log_width"].exp()


class AtThreshold(WidthRule):
    """alpha = v_th."""

    formula = "v_th"

    def alpha(self, layer: LayerState) -> Tensor:
        """v_th."""
        return like(layer.threshold, layer.beta)
