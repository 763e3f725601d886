"""Methods, which determine membrane decay, surrogate width, and, where a method says so, threshold and output.

A method defines whether the decay is learned, and computes the surrogate width from the state of a layer. The width affects only the
backward pass and, except under ``asgl``, receives no gradient. A *stepwise* method sees u[t] before the neurons fire; layers with
such a method run timestep by timestep (``lsgcli.neurons.stepped``).
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from lsgcli import registry
from lsgcli.config.neuron import NeuronConfig
from lsgcli.errors import ConfigError
from lsgcli.neurons.kernels.synchronised import combined
from lsgcli.neurons.step import Spike
from lsgcli.neurons.surrogates import PRIMITIVES, Surrogate, mean_square, rectangular
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.neurons.lif import LIF

GAIN = 8.0  # predicted gain of a layer over v_th^2 E[h^2], see docs/gradient-flow.md
NARROWEST = 0.01  # lower bound of measured and learned widths, in units of v_th, to avoid division by 0 in silent layers
Threshold = float | Tensor


class LayerState(NamedTuple):
    """State of a layer of neurons from which a method computes the width. Tensors are detached.

    Attributes:
        T: number of timesteps of the input current.
        threshold: v_th; a tensor, (), if it is learned.
        beta: decay per timestep, () per layer or (C,) per channel.
        width: the setting ``width``, (), in units of u.
        gamma: mean weight of the tdBN before the neurons, (); 1 without tdBN.
        own: parameters and buffers of the method, see :meth:`Method.tensors`.
        surrogate: shape of the surrogate.
    """

    T: int
    threshold: Threshold
    beta: Tensor
    width: Tensor
    gamma: Tensor
    own: Mapping[str, Tensor] = {}
    surrogate: Surrogate = rectangular


class Method:
    """Base class of methods.

    Attributes:
        learns_decay: whether the decay is a parameter.
        learns: whether :meth:`tensors` returns parameters.
        measures: whether the layer measures u in training, for :meth:`averages`.
        takes_width: whether alpha depends on the setting ``width``.
        stores_width: whether each layer stores a fixed width with its weights, from ``--width-from``.
        stepwise: whether the method implements :meth:`aim` or :meth:`fire`.
        relative: whether v_th is learned and u computed in units of v_th: current / v_th, threshold 1.
        graded: whether neurons pass on v_th o instead of o.
        draws: whether :meth:`fire` draws random numbers in training.
        sets_threshold: whether :meth:`aim` returns another threshold than that of the neuron.
        formula: short formula of the width, for tables.
    """

    learns_decay: ClassVar[bool]
    learns: ClassVar[bool] = False
    measures: ClassVar[bool] = False
    takes_width: ClassVar[bool] = False
    stores_width: ClassVar[bool] = False
    stepwise: ClassVar[bool] = False
    relative: ClassVar[bool] = False
    graded: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    sets_threshold: ClassVar[bool] = False
    formula: ClassVar[str]

    def tensors(self, config: NeuronConfig, shape: tuple[int, ...], steps: int) -> dict[str, Tensor]:
        """Parameters and buffers that each layer registers, by name: those that are no parameter become buffers.

        Args:
            config: settings of the layer.
            shape: () per layer or (C,) per channel, as the decay.
            steps: T.
        """
        return {}

    def alpha(self, layer: LayerState) -> Tensor:
        """Width alpha of the surrogate, in units of u; by default the setting.

        Returns:
            () or the shape of ``layer.beta``; with a leading axis T if the width depends on the timestep.
        """
        return layer.width

    def averages(self, moments: Tensor) -> dict[str, Tensor]:
        """Values of an optimiser step whose running averages are buffers of the method, by name.

        Args:
            moments: (3,), or (3, T) of a stepwise method: number, sum, and sum of squares of u in the step, over all samples and
                processes, float64.
        """
        return {}

    def aim(self, layer: "LIF", u: Tensor, t: int, threshold: Threshold, alpha: Tensor) -> tuple[Threshold, Tensor]:
        """Threshold and width of a timestep. By default those of the layer.

        Args:
            layer: the neurons.
            u: potential u[t] before the reset, without gradient.
            t: index of the timestep, from 0.
            threshold, alpha: those of the layer.
        """
        return threshold, alpha

    def fire(self, layer: "LIF", u: Tensor, t: int, threshold: Threshold, alpha: Tensor) -> Tensor:
        """Spikes of u[t], differentiable; by default 1[u >= v_th] with the surrogate of the layer."""
        return Spike.apply(u, threshold, alpha, layer.surrogate)


def check_width(settings: Mapping[str, Any]) -> None:
    """Check that settings of neurons, given by name, contain a width if the method stores it, and not without a method that takes it.

    Raises:
        ConfigError: they do not.
    """
    name, width = settings.get("method", NeuronConfig.method), settings.get("width")
    method: type[Method] = registry.get("method", name)
    if width is None and method.stores_width:
        raise ConfigError(
            f"width: not given with the method {name}, which keeps the width of each layer",
            hint="Give width=..., or load a checkpoint of a run with --width-from.",
        )
    if width is not None and "method" not in settings and not method.takes_width:
        raise ConfigError(
            f"width: found {width!r} with the default method {name}, which computes the width",
            hint="Give method='none' for a fixed width and decay, or 'trainable-decay'.",
        )


class FixedWidth(Method):
    """alpha is the setting ``--width``, independent of the state."""

    takes_width = True
    formula = "--width"


@register("method", "none")
class Fixed(FixedWidth):
    """Decay and width are fixed."""

    learns_decay = False


@register("method", "trainable-decay")
class TrainableDecay(FixedWidth):
    """The decay is learned, the width is fixed.

    Source: Lian et al., IJCAI 2023, Table 1; learned time constants were introduced by Fang et al., "Incorporating Learnable
    Membrane Time Constant to Enhance Learning of Spiking Neural Networks", ICCV 2021.
    """

    learns_decay = True


@register("method", "lsg")
class LearnableSurrogateGradient(Method):
    """The decay is learned, and alpha = 2 v_th sqrt(1 + beta^2).

    The surrogate extends one predicted standard deviation of the membrane potential to either side of the threshold.
    ``docs/method.md`` discusses the assumptions of this prediction.

    Source: Lian et al., "Learnable Surrogate Gradient for Direct Training Spiking Neural Networks", IJCAI 2023, section 4,
    doi 10.24963/ijcai.2023/335.
    """

    learns_decay = True
    formula = "2 v_th sqrt(1+beta^2)"

    def alpha(self, layer: LayerState) -> Tensor:
        """2 v_th sqrt(1 + beta^2), without a gradient of its own."""
        return 2 * layer.threshold * (1 + layer.beta.square()).sqrt()


@register("method", "matched-width")
class MatchedWidth(Method):
    """The decay is learned, and the width of each layer is fixed to its value in another checkpoint (``--width-from``).

    A control for ``lsg``: equal accuracy indicates that the final widths matter, not their changes during training. The widths are
    stored with the weights, so the other checkpoint is needed only once; layers without a stored width use ``--width``.

    Source: this package, as a control for Lian et al., IJCAI 2023.
    """

    learns_decay = True
    stores_width = True
    formula = "that of --width-from"

    def tensors(self, config: NeuronConfig, shape: tuple[int, ...], steps: int) -> dict[str, Tensor]:
        """width: alpha of the layer."""
        return {"width": torch.full(shape, config.width)}

    def alpha(self, layer: LayerState) -> Tensor:
        """The stored width."""
        return layer.own["width"]


@register("method", "measured-sigma")
class MeasuredSigma(Method):
    """The decay is learned, and alpha = 2 sigma, the running average of the measured standard deviation of u.

    Measures the standard deviation that ``lsg`` predicts. Each training step computes the standard deviation of u over all samples,
    neurons and timesteps of the layer, from sums of u and u^2 accumulated while u is computed. After the step, sigma is updated with
    momentum 0.1, as in tdBN, so the width of a step depends only on earlier steps. sigma is initialised to the prediction
    v_th sqrt(1 + beta^2) and not updated in evaluation.

    Source: this package, as a control for the prediction of Lian et al., IJCAI 2023.
    """

    learns_decay = True
    measures = True
    formula = "2 measured std(u)"

    def tensors(self, config: NeuronConfig, shape: tuple[int, ...], steps: int) -> dict[str, Tensor]:
        """sigma: running average of the standard deviation of u."""
        return {"sigma": torch.tensor(config.threshold * math.sqrt(1 + config.decay**2))}

    def alpha(self, layer: LayerState) -> Tensor:
        """2 sigma."""
        return 2 * layer.own["sigma"].clamp(min=NARROWEST * layer.threshold)

    def averages(self, moments: Tensor) -> dict[str, Tensor]:
        """sigma, over all timesteps."""
        n, total, squares = moments
        variance = squares / n - (total / n).square()  # NaN if nothing was measured
        return {"sigma": variance.clamp_min(0).sqrt()}


@register("method", "isometric")
class Isometric(Method):
    """The decay is learned, and alpha is the width at which a layer passes on the mean square of its gradient: 8 v_th^2 E[h^2] = 1.

    8 v_th^2 E[h^2] is the gain that is predicted for Kaiming weights and tdBN. u is assumed to be normal, with running averages of the
    measured mean and standard deviation, which are updated as ``sigma`` of ``measured-sigma`` and start at 0 and v_th sqrt(1 + beta^2).
    With a rectangular surrogate, E[h^2] is coverage / alpha^2. The largest solution is used, which never exceeds sqrt(8) v_th; this is also
    the width if there is no solution above 0.09 v_th, because hardly any u is near the threshold.

    Source: this package.
    """

    learns_decay = True
    measures = True
    formula = "8 v_th^2 E[h^2] = 1"

    def tensors(self, config: NeuronConfig, shape: tuple[int, ...], steps: int) -> dict[str, Tensor]:
        """u_mean and u_std: running averages of mean and standard deviation of u."""
        return {"u_mean": torch.zeros(()), "u_std": torch.tensor(config.threshold * math.sqrt(1 + config.decay**2))}

    def alpha(self, layer: LayerState) -> Tensor:
        """v_th times the largest root x of 8 E[(x h)^2] / x = x, interpolated between 32 values; u in units of v_th, h of 1 / v_th."""
        mean, std = (layer.own[name].double() / layer.threshold for name in ("u_mean", "u_std"))
        widest = math.sqrt(GAIN)
        x = torch.linspace(widest / 32, widest, 32, dtype=mean.dtype, device=mean.device)
        excess = GAIN * mean_square(layer.surrogate, x, mean - 1, std.clamp_min(NARROWEST)) / x - x
        before, after = excess[:-1], excess[1:]
        roots = x[:-1] + (x[1] - x[0]) * before / (before - after)
        largest = roots.where((before > 0) & (after <= 0), 0).amax()
        return layer.threshold * largest.where(largest > 0, widest).to(layer.beta.dtype)

    def averages(self, moments: Tensor) -> dict[str, Tensor]:
        """u_mean and u_std, over all timesteps."""
        n, total, squares = moments
        mean = total / n  # NaN if nothing was measured
        return {"u_mean": mean, "u_std": (squares / n - mean.square()).clamp_min(0).sqrt()}


@register("method", "mpd-agl")
class MembranePotentialDynamics(Method):
    """The decay is learned, and alpha = 2 gamma v_th at the first timestep, 2 gamma v_th sqrt(1 + beta^2) at later timesteps.

    gamma is the mean weight of the layer's tdBN. A current with standard deviation gamma v_th gives u a standard deviation of
    gamma v_th at t = 1 and gamma v_th sqrt(1 + beta^2) at t = 2 (without reset, for inputs uncorrelated in time). The absolute value of
    gamma is used, without a gradient; without tdBN, gamma is 1. If two branches are summed, gamma is that of the branch that
    contains the neurons. Unlike in the source, the decay is learned as in ``lsg``, so that the two methods differ only in the
    width.

    Source: Jiang et al., "Adaptive Gradient Learning for Spiking Neural Networks by Exploiting Membrane Potential Dynamics",
    IJCAI 2025, doi 10.24963/ijcai.2025/464.
    """

    learns_decay = True
    formula = "2 gamma v_th, then times sqrt(1+beta^2)"

    def alpha(self, layer: LayerState) -> Tensor:
        """(T, ...): one width for the first timestep, another for all later ones."""
        first = 2 * layer.threshold * layer.gamma.abs().clamp_min(NARROWEST)
        later = first * (1 + layer.beta.square()).sqrt()
        return torch.stack([first.expand_as(later), *[later] * (layer.T - 1)])


@register("method", "ds-atgo")
class DynamicThreshold(Method):
    """The decay is learned, the threshold is theta[t] = mean(u[t]) + std(u[t]), and alpha[t] = k0 (1 + tanh(std(u[t]) - V0)).

    Mean and unbiased standard deviation are those of the batch and all neurons of the layer, at each timestep, without gradient. After
    a training step, a running average of theta[t] is updated with momentum 0.1, from ``--threshold``; evaluation uses it. V0 is
    ``--threshold`` and k0 is ``--width``; the rule depends on the scale of u, for which the source has V0 = k0 = 1. The moments of a
    step include all parts of the batch (``--accumulate``).

    Source: the code of Jiang et al., "DS-ATGO" (github.com/jqjiang1999/DS-ATGO). Its paper has another width, see ``ds-atgo-paper``.
    """

    learns_decay = True
    measures = True
    takes_width = True
    stepwise = True
    sets_threshold = True
    formula = "k0 (1+tanh(std(u)-V0))"

    def tensors(self, config: NeuronConfig, shape: tuple[int, ...], steps: int) -> dict[str, Tensor]:
        """theta: running average of the threshold at each timestep, (T,)."""
        if config.neuron == "clif":
            raise ConfigError(
                f"neuron: found clif, whose reset subtracts the threshold, with the method {config.method}, whose thresholds differ between timesteps"
            )
        if config.threshold_learned:
            raise ConfigError(f"threshold_learned: found True with the method {config.method}, which computes the threshold")
        if config.reset == "soft":
            raise ConfigError(
                f"reset: found soft with the method {config.method}, whose thresholds differ between timesteps, expected hard or none"
            )
        return {"theta": torch.full((steps,), config.threshold)}

    def aim(self, layer: "LIF", u: Tensor, t: int, threshold: Threshold, alpha: Tensor) -> tuple[Threshold, Tensor]:
        """theta[t] and alpha[t]."""
        if not layer.training:
            running = layer.of_method()["theta"]
            return running[min(t, len(running) - 1)], alpha
        variance, mean = torch.var_mean(u, correction=0)
        n: Tensor | int = u.numel()
        if layer.gather is not None:
            n, mean, variance = (x[0] for x in combined(u.numel(), mean.double()[None], variance.double()[None], layer.gather))
        deviation = (variance * (n / (n - 1))).sqrt() if n > 1 else torch.zeros_like(variance)
        theta = (mean + deviation).to(u.dtype)
        return theta, alpha * (1 + (self.distance(theta, deviation, layer.config.threshold)).tanh()).to(alpha.dtype)

    def distance(self, theta: Tensor, deviation: Tensor, v0: float) -> Tensor:
        """Argument of tanh."""
        return deviation - v0

    def averages(self, moments: Tensor) -> dict[str, Tensor]:
        """theta at each timestep."""
        n, total, squares = moments
        variance = (squares - total.square() / n) / (n - 1).clamp_min(1)
        return {"theta": total / n + variance.clamp_min(0).sqrt()}


@register("method", "ds-atgo-paper")
class DynamicThresholdOfPaper(DynamicThreshold):
    """As ``ds-atgo``, with the width of the paper's equation 7: alpha[t] = k0 (1 + tanh(theta[t] - V0)).

    Source: Jiang et al., "DS-ATGO", equation 7; its code has std(u[t]) in place of theta[t].
    """

    formula = "k0 (1+tanh(theta-V0))"

    def distance(self, theta: Tensor, deviation: Tensor, v0: float) -> Tensor:
        """Argument of tanh."""
        return theta - v0


@register("method", "asgl")
class AdaptiveSmoothing(Method):
    """The decay and alpha are learned; in training, a share ``--smooth`` of the neurons passes on H(u - v_th) instead of a spike.

    H is the integral of the surrogate: at width alpha, H = clip(x / alpha + 1/2, 0, 1) for ``rectangular``, sigmoid(4 x / alpha) for
    ``sigmoid``. Which neurons are smooth is drawn for each neuron and timestep. The gradient, also of alpha, is that of H everywhere. The reset
    uses the mixed output, and the layer passes on v_th times it. Evaluation fires as usual, with the surrogate as gradient of u. One alpha per
    layer starts at ``--width``; its parameter is ln alpha, or 4 / alpha with ``--width-as slope``, as in the source for ``sigmoid``.

    Source: Wang et al., "Adaptive Smoothing Gradient Learning for Spiking Neural Networks", ICML 2023.
    """

    learns_decay = True
    learns = True
    takes_width = True
    stepwise = True
    graded = True
    draws = True
    formula = "learned"

    def tensors(self, config: NeuronConfig, shape: tuple[int, ...], steps: int) -> dict[str, Tensor]:
        """log_width: ln alpha, or slope: 4 / alpha, a parameter."""
        if config.surrogate not in PRIMITIVES:
            raise ConfigError(
                f"surrogate: found {config.surrogate} with the method asgl, expected one whose integral is known: {', '.join(PRIMITIVES)}"
            )
        if config.width_as == "slope":
            return {"slope": nn.Parameter(torch.tensor(4 / config.width))}
        return {"log_width": nn.Parameter(torch.tensor(math.log(config.width)))}

    def alpha(self, layer: LayerState) -> Tensor:
        """The learned width."""
        return _learned(layer.own)

    def fire(self, layer: "LIF", u: Tensor, t: int, threshold: Threshold, alpha: Tensor) -> Tensor:
        """Spikes, in training mixed with H; alpha is replaced by the parameter, which receives a gradient."""
        if not layer.training:
            return super().fire(layer, u, t, threshold, alpha)
        x = u - threshold
        step = (x >= 0).to(x.dtype)
        smooth = PRIMITIVES[layer.config.surrogate](x, _learned(layer.of_method()))
        mixed = step.where(layer.uniforms(x, t) >= layer.config.smooth, smooth.detach())
        return mixed + (smooth - smooth.detach())  # the second term is exactly 0


def _learned(own: Mapping[str, Tensor]) -> Tensor:
    """The width of ``asgl``; a slope is at least 1e-6."""
    return 4 / own["slope"].clamp_min(1e-6) if "slope" in own else own["log_width"].exp()


@register("method", "trsg")
class ThresholdRobust(Method):
    """Decay and threshold are learned, alpha = v_th, and the neurons pass on v_th o, so that the gradient inside the window is 1.

    With a rectangular surrogate, for the output a = v_th o: da/du = 1 and da/dv_th = o - u/v_th where abs(u/v_th - 1) < 1/2; elsewhere
    0 and o. v_th = softplus(q) per layer. The source uses it with ``--reset soft --input-gain 1-beta --decay 0.5 --threshold 1``, and
    with ``--init-potential measured`` (MP-Init).

    Source: "TrSG" and "MP-Init", the code in github.com/kookhh0827/SNN-MP-Init-TRSG.
    """

    learns_decay = True
    relative = True
    graded = True
    formula = "v_th"

    def alpha(self, layer: LayerState) -> Tensor:
        """v_th."""
        return torch.as_tensor(layer.threshold, dtype=layer.beta.dtype, device=layer.beta.device)
