"""Initial weights N(0, s^2 / fan_in) and biases of networks without normalisation, and the surrogate widths that go with them.

Spikes of rate p through such weights are currents N(0, s^2 p g^2), where g is the input gain. :func:`population` follows the distribution of
the potentials of neurons with such currents over the timesteps. What reaches a layer may have another mean square than p, as averages of
spikes, and be correlated in time: :func:`balancing` simulates neurons with such currents.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.special import ndtr, ndtri

from lsgcli.neurons.step import RESETS
from lsgcli.neurons.surrogates import Surrogate, mean_square

CELLS = 512  # of the potentials
SIMULATED = 4096  # neurons


class Neurons(NamedTuple):
    """What initial weights depend on.

    Attributes:
        beta: decay per timestep.
        threshold: v_th.
        gain: g, the factor on the current.
        reset: a key of :data:`~lsgcli.neurons.step.RESETS`.
        surrogate: h.
        T: number of timesteps.
        rate: p, the firing rate, of these neurons and of their inputs.
    """

    beta: float
    threshold: float
    gain: float
    reset: str
    surrogate: Surrogate
    T: int
    rate: float

    def remains(self, u: Tensor) -> Tensor:
        """beta r(u): what the reset and the decay leave of u."""
        return self.beta * RESETS[self.reset].remains(u, (u >= self.threshold).to(u.dtype), self.threshold)


class Population(NamedTuple):
    """Potentials u = x + N(0, std^2) of all neurons and timesteps.

    Attributes:
        x: what is left of the potential of the timestep before, (n,), float64.
        share: probability of each, (n,).
        std: standard deviation of the currents.
    """

    x: Tensor
    share: Tensor
    std: float

    def firing_rate(self, threshold: float) -> float:
        """P(u >= v_th)."""
        return float(self.share @ ndtr((self.x - threshold) / self.std))

    def u_std(self) -> float:
        """Standard deviation of u."""
        return math.sqrt(self.std**2 + float(self.share @ self.x.square() - (self.share @ self.x) ** 2))

    def sg_sq_mean(self, h: Surrogate, threshold: float, width: float) -> float:
        """E[h(u - v_th, width)^2]."""
        square = mean_square(h, torch.full_like(self.x, width), self.x[:, None] - threshold, self.x.new_tensor(self.std))
        return float(self.share @ square) / width**2


def population(n: Neurons, std: float) -> Population:
    """The neurons that start with u = 0, and whose currents N(0, std^2) are independent of each other and in time."""
    reach = 8 * std * math.sqrt(sum(n.beta ** (2 * t) for t in range(n.T)))
    cell = 2 * reach / CELLS
    lowest = math.floor(-(reach + n.threshold) / cell)  # so that the threshold lies between two cells
    u = n.threshold + cell * (torch.arange(CELLS + 1, dtype=torch.float64) + lowest + 0.5)
    x = n.remains(u)

    def probability(distance: Tensor) -> Tensor:
        return torch.exp(-(distance / std).square() / 2) * cell / (std * math.sqrt(2 * math.pi))

    now = probability(u)
    moves = probability(u - x[:, None])
    share = torch.zeros_like(u)
    for _ in range(n.T - 1):
        share += now / n.T
        now = now @ moves
    return Population(torch.cat([x, x.new_zeros(1)]), torch.cat([share, share.new_full((1,), 1 / n.T)]), std)


def root(excess: Callable[[float], float], low: float, high: float) -> float:
    """The number between ``low`` and ``high``, both above 0, at which an increasing function becomes positive, by bisection."""
    for _ in range(24):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return math.sqrt(low * high)


def balanced(n: Neurons) -> float:
    """Standard deviation of independent currents at which the neurons fire at their rate."""
    return root(lambda std: population(n, std).firing_rate(n.threshold) - n.rate, n.threshold / 100, n.threshold * 100)


def balancing(n: Neurons, currents: Tensor) -> float:
    """Factor on the weights of a layer at which its neurons fire at their rate.

    Random weights of many inputs make currents that are normal over the channels. At a position and a timestep, their mean square is that of
    the inputs there, times s^2. A part of them lasts: inputs are never below 0 and fire at different rates, and images do not change at all.
    Currents of simulated neurons are the sum of a mean, which is not 0 behind a maximum, a part that lasts and one that changes, times
    the root of the mean square at each timestep of a position; all of these are measured.

    Args:
        n: the neurons.
        currents: of the layer, (T, B, C, ...).
    """
    T = len(currents)
    squares = currents.square().mean(2).flatten(1).double().cpu()
    mean = float(currents.mean())
    variance = float(squares.mean()) - mean**2
    of_averages = float(currents.mean(0).square().mean()) - mean**2  # over time
    changing = max(variance - of_averages, 0.0) * T / max(T - 1, 1)
    lasting = max(variance - changing, 0.0)
    draws = torch.Generator().manual_seed(0)
    positions = torch.randint(squares.shape[1], (SIMULATED,), generator=draws)
    order = torch.randperm(SIMULATED, generator=draws)
    normal = ndtri((order.double() + 0.5) / SIMULATED)
    noise = torch.randn(T, SIMULATED, generator=draws, dtype=torch.float64)
    size = (squares[:, positions] / squares.mean()).sqrt()
    simulated = n.gain * size * (mean + math.sqrt(lasting) * normal + math.sqrt(changing) * noise)

    def excess(factor: float) -> float:
        u = torch.zeros_like(normal)
        spikes = 0.0
        for current in factor * simulated:
            u = n.remains(u) + current
            spikes += float((u >= n.threshold).double().mean())
        return spikes / T - n.rate

    about = n.threshold / (n.gain * math.sqrt(float(squares.mean())))
    return root(excess, about / 100, about * 100)


def width_ratio(n: Neurons, s: float) -> float:
    """Width over the standard deviation of u at which weights of scale s preserve the mean square of the gradient.

    E[h^2] (s g)^2 times the sum over later timesteps of ((1 - p) beta^2)^k, the gradient through time, is 1.
    """
    u = population(n, s * n.gain * math.sqrt(n.rate))
    kept = (1 - n.rate) * n.beta**2
    through_time = sum(1 - kept**t for t in range(1, n.T + 1)) / (n.T * (1 - kept))
    wanted = 1 / (through_time * (s * n.gain) ** 2)
    std = u.u_std()
    return root(lambda ratio: wanted - u.sg_sq_mean(n.surrogate, n.threshold, ratio * std), 0.02, 20)


def fluctuating(n: Neurons, currents: Tensor) -> float:
    """Factor on the weights of a layer at which xi standard deviations of u, without resets, lie between its mean and the threshold.

    The currents, (T, B, C, ...), are taken to be independent in time; their mean is not 0 behind a maximum.
    """
    mean = max(float(currents.mean()), 0.0) / (1 - n.beta)
    std = float(currents.std()) / math.sqrt(1 - n.beta**2)
    return n.threshold / (n.gain * (mean + _xi(n) * std))


def standard_rate(threshold: float) -> float:
    """P(N(0, 1) >= v_th), the firing rate of potentials of variance 1, which ``micheli`` starts from."""
    return float(ndtr(torch.tensor(-threshold)))


def _xi(n: Neurons) -> float:
    """Standard deviations of u between its mean and the threshold at which a normal u reaches it at the rate."""
    return -float(ndtri(torch.tensor(n.rate)))


def _spikeinit(n: Neurons) -> tuple[float, float]:
    return balanced(n) / (n.gain * math.sqrt(n.rate)), 0.0


def _micheli(n: Neurons) -> tuple[float, float]:
    return 1 / math.sqrt(standard_rate(n.threshold)), 0.0


def _ding(n: Neurons) -> tuple[float, float]:
    return math.sqrt(2) * n.threshold / n.gain, n.threshold * (1 - n.beta) / (2 * n.gain)


def _fluctuation(n: Neurons) -> tuple[float, float]:
    return n.threshold * math.sqrt(1 - n.beta**2) / (n.gain * math.sqrt(n.rate) * _xi(n)), 0.0


# Scale s of the weights, and bias, by name.
# spikeinit: Shi and Yu, "Training Deep Spiking Neural Networks without Normalization", ICML 2026, where u is normal, as in many timesteps.
# micheli: Micheli et al., arXiv 2410.00580. ding: Ding et al., "Accelerating Training of Deep Spiking Neural
# Networks with Parameter Initialization", 2021. fluctuation: Rossbroich, Gygax and Zenke, "Fluctuation-driven
# initialization for spiking neural network training", Neuromorphic Computing and Engineering 2022, where xi is chosen.
SCALES: Mapping[str, Callable[[Neurons], tuple[float, float]]] = {
    "spikeinit": _spikeinit,
    "micheli": _micheli,
    "ding": _ding,
    "fluctuation": _fluctuation,
    "measured": _spikeinit,  # from where it is measured
}

# Factor on the weights of a layer for its currents, where more than their mean square matters.
FACTORS: Mapping[str, Callable[[Neurons, Tensor], float]] = {"spikeinit": balancing, "fluctuation": fluctuating}
