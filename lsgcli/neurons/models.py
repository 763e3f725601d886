"""Models of neurons: pure timesteps with named states and parameters.

A neuron is a subclass of :class:`Neuron`, registered by name or given by a method. ``lif`` has hand-written
gradients and fused kernels. Most others run timestep by timestep, parallel ones all timesteps at once, with gradients by autograd; all
share surrogate, width rule, threshold and input gain with ``lif``. In the equations, q' is the state of the previous timestep, and
sigmoid(x) is written s(x).
"""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import ClassVar

import torch
from torch import Tensor, nn

from lsgcli import registry
from lsgcli.config.neuron import NeuronConfig
from lsgcli.errors import ConfigError
from lsgcli.neurons.kernels.base import combined
from lsgcli.neurons.layer import NeuronLayer
from lsgcli.neurons.step import RESETS, Spike, integrate
from lsgcli.neurons.surrogates import Surrogate, integral
from lsgcli.neurons.widths import learned
from lsgcli.registry import register

State = Mapping[str, Tensor]
Threshold = float | Tensor
Fire = Callable[[Tensor, float | Tensor], Tensor]  # (potential, threshold) -> spikes, differentiable by the surrogate


class Neuron:
    """Base class of neurons.

    Attributes:
        config: settings of the layer.
        states: names of the states, which are 0 before the first timestep.
        resets: supported values of the setting ``reset``.
        fused: whether backends compute the neuron; otherwise autograd does.
        learns: whether :meth:`tensors` returns parameters.
        with_weights: whether these parameters are updated with the weights, instead of with the decays.
        sets_threshold: whether the neuron learns or computes its threshold, so that ``threshold_learned`` does not apply.
        relative: whether v_th is learned and u computed in units of v_th: current / v_th, threshold 1.
        graded: whether the output of the layer is v_th o instead of o.
        draws: whether :meth:`fire` draws random numbers in training.
        parallel: whether it is a :class:`~lsgcli.neurons.parallel.Parallel`, computed at all timesteps at once.
        has_decay: whether the decay of the layer has an effect.
        takes_order: whether the setting ``order`` applies.
        preset: settings that replace defaults where this neuron is chosen.
    """

    states: ClassVar[tuple[str, ...]]
    resets: ClassVar[tuple[str, ...]] = ("hard",)
    fused: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    with_weights: ClassVar[bool] = False
    sets_threshold: ClassVar[bool] = False
    relative: ClassVar[bool] = False
    graded: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    parallel: ClassVar[bool] = False
    has_decay: ClassVar[bool] = True
    takes_order: ClassVar[bool] = False
    preset: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: NeuronConfig):
        self.config = config

    def tensors(self, channels: int | None, steps: int) -> dict[str, Tensor]:
        """Parameters that each layer registers, by name: (), (C,) or (T, C). Tensors that are not parameters become buffers."""
        return {}

    def step(self, current: Tensor, state: State, p: SimpleNamespace, fire: Fire) -> tuple[Tensor, State]:
        """One timestep, without side effects.

        Args:
            current: I[t], (B, C, ...).
            state: of the previous timestep, shaped like the current.
            p: parameters that broadcast against the current: ``beta``, ``threshold``, and the tensors of :meth:`tensors`,
                where a (T, C) is represented by its row of this timestep.
            fire: (potential, threshold) -> spikes.

        Returns:
            The spikes o[t] and the next state.
        """
        raise NotImplementedError

    def aim(self, layer: NeuronLayer, u: Tensor, t: int, threshold: Threshold, alpha: Tensor) -> tuple[Threshold, Tensor]:
        """Threshold and width of a timestep; by default those of the layer.

        Args:
            layer: the neurons.
            u: potential u[t] before the reset, without gradient.
            t: index of the timestep, from 0.
            threshold, alpha: those of the layer.
        """
        return threshold, alpha

    def shape(self, surrogate: Surrogate) -> Surrogate:
        """do/du in the backward pass, from the surrogate of the settings; by default it itself."""
        return surrogate

    def fire(self, layer: NeuronLayer, u: Tensor, t: int, threshold: Threshold, alpha: Tensor) -> Tensor:
        """Spikes of u[t], differentiable; by default 1[u >= v_th] with the surrogate of the layer."""
        return Spike.apply(u, threshold, alpha, layer.surrogate)

    def response(self, p: SimpleNamespace, T: int) -> Tensor | None:
        """The matrix W, (T, T) or (C, T, T), of the potentials without reset, u = W I; None for that of a decay, see :func:`~lsgcli.neurons.widths.leaky`.

        Args:
            p: as for :meth:`step`, with the tensors of :meth:`tensors` as registered.
        """
        return None

    def thresholds(self, p: SimpleNamespace) -> Threshold:
        """v_th, () or (T,), from ``threshold`` of the layer and the tensors of :meth:`tensors`."""
        return p.threshold  # type: ignore[no-any-return]

    def begin_epoch(self, layer: NeuronLayer, epoch: int, epochs: int) -> None:
        """Called before each epoch of training, counted from 0."""
        return None

    def averages(self, moments: Tensor) -> dict[str, Tensor]:
        """Values of an optimiser step whose running averages are buffers of the neuron, by name. If a neuron defines it, the layer measures u.

        Args:
            moments: (3, T): number, sum, and sum of squares of u in the step, over all samples and processes, float64.
        """
        return {}


@register("neuron", "lif")
class LeakyIntegrateAndFire(Neuron):
    """u = beta reset(u', o') + I; o = 1[u >= v_th]; the reset is that of ``--reset``.

    Source: Wu et al., "Spatio-Temporal Backpropagation for Training High-Performance Spiking Neural Networks", Front. Neurosci. 2018.
    """

    states = ("u", "o")
    resets = tuple(RESETS)
    fused = True

    def step(self, current: Tensor, state: State, p: SimpleNamespace, fire: Fire) -> tuple[Tensor, State]:
        u = integrate(current, state["u"], state["o"], p)
        o = fire(u, p.threshold)
        return o, {"u": u, "o": o}


@register("neuron", "clif")
class ComplementaryLIF(Neuron):
    """u = beta w' + I; o = 1[u >= v_th]; m = m' s((1-beta) u) + o; w = u - o (v_th + s(m)).

    The complementary potential m, which follows u, deepens the reset of neurons that fired recently and carries gradients further
    through time. The source has beta 0.5, v_th 1, and a rectangular surrogate of width 1.

    Source: Huang et al., "CLIF: Complementary Leaky Integrate-and-Fire Neuron for Spiking Neural Networks", ICML 2024.
    """

    states = ("w", "m")

    def step(self, current: Tensor, state: State, p: SimpleNamespace, fire: Fire) -> tuple[Tensor, State]:
        u = p.beta * state["w"] + current
        o = fire(u, p.threshold)
        m = state["m"] * ((1 - p.beta) * u).sigmoid() + o
        return o, {"w": u - o * (p.threshold + m.sigmoid()), "m": m}


@register("neuron", "ar-lif")
class AdaptiveResetLIF(Neuron):
    """u = beta w' + I; o = 1[u >= v_th + p]; w = u - o (v_th + p + s(m)); p = tanh(a) tanh(I); m depends on I and o; one learned a and c per layer.

    m = max(m', 0) s(c I) + min(m', 0) (1 - s(c I)) + (2 o - 1) s(I). Nothing is detached. a and c start at 0 and 1 and are updated with
    the weights, by ``--lr``; they decay with ``--weight-decay-on all``, as in the source, where all parameters form one group. The source has
    beta 0.5, v_th 1, and a rectangular surrogate of width 1, for recordings a triangular one. Its code for recordings sets m' to 0 at
    every timestep, so that c has no effect: ``--no-carry-m``.

    Source: the code of Huang et al., "AR-LIF: Adaptive Reset Leaky Integrate-and-Fire Neuron for Spiking Neural Networks", 2025
    (github.com/2ephyrus/AR-LIF).
    """

    states = ("w", "m")
    learns = True
    with_weights = True

    def tensors(self, channels: int | None, steps: int) -> dict[str, Tensor]:
        return {"a": nn.Parameter(torch.zeros(())), "c": nn.Parameter(torch.ones(()))}

    def step(self, current: Tensor, state: State, p: SimpleNamespace, fire: Fire) -> tuple[Tensor, State]:
        u = p.beta * state["w"] + current
        threshold = p.threshold + p.a.tanh() * current.tanh()
        o = fire(u, threshold)
        m = (2 * o - 1) * current.sigmoid()
        if self.config.carry_m:
            before = state["m"]
            kept = (p.c * current).sigmoid()
            m = m + before.clamp_min(0) * kept + before.clamp_max(0) * (1 - kept)
        return o, {"w": u - o * (threshold + m.sigmoid()), "m": m}


@register("neuron", "klif")
class ReluLIF(Neuron):
    """u = beta f' (1 - o') + I; f = relu(k u); o = 1[f >= v_th]; one learned k per layer, initially 1.

    Source: Jiang and Zhang, "KLIF: An optimized spiking neuron unit for tuning surrogate gradient slope and membrane potential", 2023.
    """

    states = ("f", "o")
    learns = True

    def tensors(self, channels: int | None, steps: int) -> dict[str, Tensor]:
        return {"k": nn.Parameter(torch.ones(()))}

    def step(self, current: Tensor, state: State, p: SimpleNamespace, fire: Fire) -> tuple[Tensor, State]:
        f = (p.k * (p.beta * state["f"] * (1 - state["o"]) + current)).relu()
        o = fire(f, p.threshold)
        return o, {"f": f, "o": o}


@register("neuron", "glif")
class GatedLIF(Neuron):
    """u = (1 - A (1-beta)) u' (1 - G o') - (1-A) leak + (1 - B (1-c[t])) I - (1-G) v_re o'; o = 1[u >= v]; gates A, B, G.

    Gates, leak, reset v_re, threshold v and conductance c[t] are sigmoids of parameters per channel, c also per timestep. Initial
    values: gates about 0.5 (logits uniform in +-0.1), v and v_re ``--threshold``, leak an eighth of it, c 0.5. The decay beta
    (tau in the source, 0.25) is that of the layer, ``--decay`` and ``--decay-per``.

    Source: Yao et al., "GLIF: A Unified Gated Leaky Integrate-and-Fire Neuron for Spiking Neural Networks", NeurIPS 2022.
    """

    states = ("u", "o")
    learns = True
    sets_threshold = True

    def tensors(self, channels: int | None, steps: int) -> dict[str, Tensor]:
        if channels is None:
            raise ConfigError("neuron: found glif without channels, expected their number")
        if self.config.threshold >= 1:
            raise ConfigError(f"threshold: found {self.config.threshold:g} with the neuron glif, expected below 1")

        def logit(value: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.full(shape, value).logit())

        gates = {name: nn.Parameter(torch.rand(channels) * 0.2 - 0.1) for name in ("A", "B", "G")}
        v_th = self.config.threshold
        levels = {"v": logit(v_th, channels), "v_re": logit(v_th, channels), "leak": logit(v_th / 8, channels)}
        return {**gates, **levels, "c": logit(0.5, steps, channels)}

    def step(self, current: Tensor, state: State, p: SimpleNamespace, fire: Fire) -> tuple[Tensor, State]:
        A, B, G, v, v_re, leak, c = (x.sigmoid() for x in (p.A, p.B, p.G, p.v, p.v_re, p.leak, p.c))
        before = state["o"]
        kept = (1 - A * (1 - p.beta)) * state["u"] * (1 - G * before)
        u = kept - (1 - A) * leak + (1 - B * (1 - c)) * current - (1 - G) * v_re * before
        o = fire(u, v)
        return o, {"u": u, "o": o}


class DynamicThresholdLIF(LeakyIntegrateAndFire):
    """LIF with the threshold theta[t] = mean(u[t]) + std(u[t]), and alpha[t] = k0 (1 + tanh(std(u[t]) - V0)).

    Mean and unbiased standard deviation are over the batch and all neurons of the layer, at each timestep, without gradient. After
    a training step, a running average of theta[t] is updated with momentum 0.1, from ``--threshold``; evaluation uses it. V0 is
    ``--threshold`` and k0 is ``--width``; the rule depends on the scale of u, for which the source has V0 = k0 = 1. The moments of a
    step include all parts of the batch (``--accumulate``).

    Source: the code of Jiang et al., "DS-ATGO" (github.com/jqjiang1999/DS-ATGO). Its paper has another width, see ``ds-atgo-paper``.
    """

    resets = ("hard", "none")  # a soft reset subtracts the threshold, which differs between timesteps
    fused = False
    sets_threshold = True

    def tensors(self, channels: int | None, steps: int) -> dict[str, Tensor]:
        """theta: running average of the threshold at each timestep, (T,)."""
        return {"theta": torch.full((steps,), self.config.threshold)}

    def aim(self, layer: NeuronLayer, u: Tensor, t: int, threshold: Threshold, alpha: Tensor) -> tuple[Threshold, Tensor]:
        """theta[t] and alpha[t]."""
        if not layer.training:
            running = layer.of_neuron()["theta"]
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


class DynamicThresholdLIFOfPaper(DynamicThresholdLIF):
    """LIF as in ``ds-atgo``, with the width of the paper's equation 7: alpha[t] = k0 (1 + tanh(theta[t] - V0)).

    Source: Jiang et al., "DS-ATGO", equation 7; its code has std(u[t]) in place of theta[t].
    """

    def distance(self, theta: Tensor, deviation: Tensor, v0: float) -> Tensor:
        """Argument of tanh."""
        return theta - v0


class TemporallyAlignedLIF(LeakyIntegrateAndFire):
    """LIF with alpha[t] = k0 (1 + (s[t]/s[1] - 1)/4), where s[t] is the distance of u[t] from v_th; the peak of the surrogate is 1 instead of 1/alpha.

    k0 is ``--width``. s[t] is the mean over samples of the L2 norm of u[t] - v_th over all neurons of the layer, without gradient, in
    training. Several processes use that of the whole batch, parts of a batch (``--accumulate``) their own.

    The equations are from a reimplementation, not from the paper; it has the surrogate 1 / (1 + (pi x / alpha)^2), which is
    ``--surrogate atan``, and k0 = 1. Its cross-entropy at every timestep is ``--loss tet --tet-lambda 0``. Auxiliary classifiers of
    earlier stages are not included.

    Source: a reimplementation of Liu et al., "DeepTAGE: Deep Temporal-Aligned Gradient Enhancement for Optimizing Spiking Neural
    Networks", ICLR 2025.
    """

    fused = False
    share = 0.25  # of the width that follows s

    def shape(self, surrogate: Surrogate) -> Surrogate:
        """alpha h(x, alpha), whose peak is 1 and whose area is alpha."""
        return lambda x, alpha: alpha * surrogate(x, alpha)

    @torch.no_grad()
    def aim(self, layer: NeuronLayer, u: Tensor, t: int, threshold: Threshold, alpha: Tensor) -> tuple[Threshold, Tensor]:
        """The threshold of the layer, and alpha[t]; in evaluation, the width of the layer."""
        if not layer.training:
            return threshold, alpha
        norms = torch.linalg.vector_norm((u - threshold).reshape(len(u), -1), dim=1, dtype=torch.float64)
        sums = torch.stack([norms.sum(), norms.new_full((), len(norms))])
        if layer.gather is not None:
            sums = layer.gather(sums).sum(0)
        distance = sums[0] / sums[1]
        if t == 0:
            self.first = distance  # of the current sequence
        relative = torch.where(self.first > 0, distance / self.first, 1)
        return threshold, (alpha * (1 + self.share * (relative - 1))).to(alpha.dtype)


class SmoothedLIF(LeakyIntegrateAndFire):
    """alpha is learned; in training, a share ``--smooth`` of the neurons passes on H(u - v_th) instead of a spike.

    H is the integral of the surrogate: at width alpha, H = clip(x / alpha + 1/2, 0, 1) for ``rectangular``, sigmoid(4 x / alpha) for
    ``sigmoid``. The smooth neurons are drawn independently at each timestep. The gradients of u and alpha are those of H everywhere. The reset
    uses the mixed output, and the layer passes on v_th times it. Evaluation fires as usual, with the surrogate as gradient of u. One alpha per
    layer starts at ``--width``; its parameter is ln alpha, or 4 / alpha with ``--width-as slope``, as in the source for ``sigmoid``.

    Source: Wang et al., "Adaptive Smoothing Gradient Learning for Spiking Neural Networks", ICML 2023.
    """

    fused = False
    graded = True
    draws = True

    def tensors(self, channels: int | None, steps: int) -> dict[str, Tensor]:
        """No tensors; raises a ConfigError if the integral of the surrogate is unknown."""
        if integral(registry.get("surrogate", self.config.surrogate)) is None:
            raise ConfigError(
                f"surrogate: found {self.config.surrogate} with the method asgl, expected one that states its integral, as all of lsg do"
            )
        return {}

    def fire(self, layer: NeuronLayer, u: Tensor, t: int, threshold: Threshold, alpha: Tensor) -> Tensor:
        """Spikes, in training mixed with H; alpha is replaced by the parameter, which receives a gradient."""
        if not layer.training:
            return super().fire(layer, u, t, threshold, alpha)
        x = u - threshold
        step = (x >= 0).to(x.dtype)
        H = integral(layer.surrogate)
        assert H is not None  # see `tensors`
        smooth = H(x, learned(layer.of_width()))
        mixed = step.where(layer.uniforms(x, t) >= layer.config.smooth, smooth.detach())
        return mixed + (smooth - smooth.detach())  # the second term is exactly 0


class RelativeLIF(LeakyIntegrateAndFire):
    """LIF in units of a learned threshold, with alpha = v_th; passes on v_th o, so that the gradient inside the window is 1.

    With a rectangular surrogate, for the output a = v_th o: da/du = 1 and da/dv_th = o - u/v_th where abs(u/v_th - 1) < 1/2; elsewhere
    0 and o. v_th = softplus(q) per layer. The source uses it with ``--reset soft --input-gain 1-beta --decay 0.5 --threshold 1``, and
    with ``--init-potential measured`` (MP-Init).

    Source: "TrSG" and "MP-Init", the code in github.com/kookhh0827/SNN-MP-Init-TRSG.
    """

    sets_threshold = True
    relative = True
    graded = True
