"""Models of neurons: pure timesteps with named states and parameters.

A neuron is a subclass of :class:`Neuron`, registered by name. ``lif`` has hand-written gradients and fused kernels; every other neuron
runs timestep by timestep, with gradients by autograd, and shares surrogate, width rule, threshold and input gain with ``lif``.
In the equations, q' is the state of the previous timestep, and sigmoid(x) is written s(x).
"""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import ClassVar

import torch
from torch import Tensor, nn

from lsgcli import registry
from lsgcli.config.neuron import NeuronConfig
from lsgcli.errors import ConfigError
from lsgcli.neurons.step import RESETS
from lsgcli.registry import register

State = Mapping[str, Tensor]
Fire = Callable[[Tensor, float | Tensor], Tensor]  # (potential, threshold) -> spikes, differentiable by the surrogate


class Neuron:
    """Base class of neurons.

    Attributes:
        config: settings of the layer.
        states: names of the states, which are 0 before the first timestep.
        learns: whether :meth:`tensors` returns parameters.
    """

    states: ClassVar[tuple[str, ...]]
    learns: ClassVar[bool] = False

    def __init__(self, config: NeuronConfig):
        self.config = config

    def tensors(self, channels: int | None, steps: int) -> dict[str, nn.Parameter]:
        """Parameters that each layer registers, by name: (), (C,) or (T, C)."""
        return {}

    def step(self, current: Tensor, state: State, p: SimpleNamespace, fire: Fire) -> tuple[Tensor, State]:
        """One timestep, without side effects.

        Args:
            current: I[t], (B, C, ...).
            state: of the previous timestep, shaped like the current.
            p: parameters that broadcast against the current: ``beta``, ``threshold``, and those of :meth:`tensors`, of which
                (T, C) are those of this timestep.
            fire: fires at a threshold.

        Returns:
            The spikes o[t] and the next state.
        """
        raise NotImplementedError


@register("neuron", "lif")
class LeakyIntegrateAndFire(Neuron):
    """u = beta reset(u', o') + I; o = 1[u >= v_th]; the reset is that of ``--reset``.

    Source: Wu et al., "Spatio-Temporal Backpropagation for Training High-Performance Spiking Neural Networks", Front. Neurosci. 2018.
    """

    states = ("u", "o")

    def step(self, current: Tensor, state: State, p: SimpleNamespace, fire: Fire) -> tuple[Tensor, State]:
        before = state["o"].detach() if self.config.detach_reset else state["o"]
        u = p.beta * RESETS[self.config.reset](state["u"], before, p.threshold) + current
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


@register("neuron", "klif")
class ReluLIF(Neuron):
    """u = beta f' (1 - o') + I; f = relu(k u); o = 1[f >= v_th]; one learned k per layer, initially 1.

    Source: Jiang and Zhang, "KLIF: An optimized spiking neuron unit for tuning surrogate gradient slope and membrane potential", 2023.
    """

    states = ("f", "o")
    learns = True

    def tensors(self, channels: int | None, steps: int) -> dict[str, nn.Parameter]:
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

    def tensors(self, channels: int | None, steps: int) -> dict[str, nn.Parameter]:
        if channels is None:
            raise ConfigError("neuron: found glif without channels, expected their number")
        if self.config.threshold >= 1:
            raise ConfigError(f"threshold: found {self.config.threshold:g} with the neuron glif, expected below 1")
        method = registry.get("method", self.config.method)
        if self.config.threshold_learned or method.relative or method.sets_threshold:
            other = "threshold_learned" if self.config.threshold_learned else f"the method {self.config.method}"
            raise ConfigError(
                f"neuron: found glif, which learns thresholds of its own, with {other}: found another learned or measured threshold",
                hint="Use --neuron lif.",
            )

        def logit(value: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.full(shape, value).logit())

        gates = {name: nn.Parameter(torch.rand(channels) * 0.2 - 0.1) for name in ("A", "B", "G")}
        v_th = self.config.threshold
        levels = {"v": v_th, "v_re": v_th, "leak": v_th / 8}
        own = {name: logit(value, channels) for name, value in levels.items()}
        return {**gates, **own, "c": logit(0.5, steps, channels)}

    def step(self, current: Tensor, state: State, p: SimpleNamespace, fire: Fire) -> tuple[Tensor, State]:
        A, B, G, v, v_re, leak, c = (x.sigmoid() for x in (p.A, p.B, p.G, p.v, p.v_re, p.leak, p.c))
        before = state["o"]
        kept = (1 - A * (1 - p.beta)) * state["u"] * (1 - G * before)
        u = kept - (1 - A) * leak + (1 - B * (1 - c)) * current - (1 - G) * v_re * before
        o = fire(u, v)
        return o, {"u": u, "o": o}
