"""The equations of the neuron, of the methods and of tdBN once more, in float64 numpy: what the torch code is compared with.

Nothing here is taken from the package. The surrogates are written from what their docstrings state (the shape, area 1 and
peak 1/alpha), in another algebraic form where there is one. A surrogate or a method that is added to the package gets its
formula here too, and every backend is then compared with it.
"""

from dataclasses import dataclass

import numpy as np

SURROGATES = {
    "rectangular": lambda x, a: np.where(np.abs(x) < a / 2, 1.0, 0.0) / a,
    "triangular": lambda x, a: np.maximum(a - np.abs(x), 0.0) / a**2,
    "exponential": lambda x, a: np.exp(-2 * np.abs(x) / a) / a,
    "sigmoid": lambda x, a: 1 / (a * np.cosh(2 * x / a) ** 2),
    "tanh": lambda x, a: 4 / (a * (np.exp(2 * x / a) + np.exp(-2 * x / a)) ** 2),
    "atan": lambda x, a: a / (a**2 + np.pi**2 * x**2),
    "a2sg": lambda x, a: np.where(np.abs(x) <= a, x / (2 * a) + 0.5, 0.0) / a,
}

# Width alpha by timestep, (T,), at a state: T, decay beta, threshold, the fixed width, mean weight gamma of the tdBN, and the
# measured standard deviation sigma.
WIDTHS = {
    "fixed": lambda s: np.full(s.T, s.width),
    "trainable-decay": lambda s: np.full(s.T, s.width),
    "matched-width": lambda s: np.full(s.T, s.width),
    "lsg": lambda s: np.full(s.T, 2 * s.threshold * np.sqrt(1 + s.beta**2)),
    "linear-sigma": lambda s: 2 * s.threshold * np.sqrt(np.cumsum(s.beta ** (2 * np.arange(s.T)))),
    "mpd-agl": lambda s: 2 * s.gamma * s.threshold * np.sqrt([1 + s.beta**2 * (t > 0) for t in range(s.T)]),
    "measured-sigma": lambda s: np.full(s.T, 2 * s.sigma),
    "adaptive": lambda s: np.full(s.T, 2 * max(s.sigma, s.threshold / 2.326)),
    "isometric": lambda s: np.full(s.T, s.width),  # of the layer; see isometric()
}


def isometric(mean, std, threshold, surrogate):
    """The largest width with 8 v_th^2 E[h^2] = 1 for a normal u; None without one above v_th / 20."""
    z = np.linspace(-7, 7, 14_001)
    u, weight = mean + std * z, np.exp(-(z**2) / 2) * (z[1] - z[0]) / np.sqrt(2 * np.pi)

    def gain(alpha):
        with np.errstate(over="ignore"):
            h = SURROGATES[surrogate](u - threshold, alpha)
        return 8 * threshold**2 * (h**2 * weight).sum()

    widths = threshold * np.linspace(np.sqrt(8) + 1e-3, 0.05, 100)
    wide = next((i for i, alpha in enumerate(widths) if gain(alpha) >= 1), None)
    if wide is None:
        return None
    low, high = widths[wide], widths[max(0, wide - 1)]
    for _ in range(20):
        low, high = ((low + high) / 2, high) if gain((low + high) / 2) >= 1 else (low, (low + high) / 2)
    return low


@dataclass
class State:
    """What a width follows from."""

    T: int
    beta: float
    threshold: float
    width: float = 1.0
    gamma: float = 1.0
    sigma: float = 1.0


# Where a surrogate jumps, in units of alpha: there, the last bit of u decides about the gradient.
JUMPS = {"rectangular": 0.5, "a2sg": 1.0}


@dataclass
class Result:
    """Everything that a layer computes. All but ``d_beta`` are (T, ...); ``d_beta`` is per neuron, summed over t only."""

    u: np.ndarray
    o: np.ndarray
    d_current: np.ndarray
    d_beta: np.ndarray
    d_threshold: float = 0.0


def lif(current, grad, beta, alpha, threshold, surrogate, *, reset="hard", detach=False, aim=None):
    """Forward and backward pass of a layer.

    Args:
        current: I, (T, ...).
        grad: g, the gradient that arrives at the spikes, (T, ...).
        beta: decay; broadcasts against one timestep.
        alpha: width; broadcasts against one timestep, or (T, ...) as ``current``.
        threshold: v_th.
        surrogate: a key of SURROGATES.
        reset: hard, soft or none.
        detach: whether no gradient flows through the spikes of the reset.
        aim: u[t] -> (threshold, width) of a timestep, instead of ``threshold`` and ``alpha``.
    """
    T, h = len(current), SURROGATES[surrogate]
    alphas = list(alpha) if np.ndim(alpha) == current.ndim else [alpha] * T
    thresholds = [threshold] * T
    u, o = np.zeros_like(current), np.zeros_like(current)
    rest = np.zeros((T + 1, *current.shape[1:]))  # what remains of u[t - 1]
    for t in range(T):
        u[t] = beta * rest[t] + current[t]
        if aim is not None:
            thresholds[t], alphas[t] = aim(u[t])
        o[t] = np.where(u[t] >= thresholds[t], 1.0, 0.0)
        removed = {"hard": u[t], "soft": threshold, "none": 0.0}[reset]
        rest[t + 1] = u[t] - removed * o[t]

    d_current, d_beta, d_threshold = np.zeros_like(current), np.zeros_like(current[0]), 0.0
    du_next = np.zeros_like(current[0])
    for t in range(T - 1, -1, -1):
        removed = {"hard": u[t], "soft": threshold, "none": 0.0}[reset]
        do = grad[t] - (0.0 if detach else beta * removed * du_next)
        spike = do * h(u[t] - thresholds[t], alphas[t])
        du = spike + beta * (1 - o[t] if reset == "hard" else 1.0) * du_next
        d_current[t] = du
        d_threshold -= spike.sum() + ((beta * o[t] * du_next).sum() if reset == "soft" else 0.0)
        d_beta = d_beta + du * rest[t]
        du_next = du
    return Result(u, o, d_current, d_beta, d_threshold)


def decay(b):
    """beta = sigmoid(b), and dbeta/db."""
    beta = 1 / (1 + np.exp(-b))
    return beta, beta * (1 - beta)


def margin(u, threshold, alpha, surrogate):
    """Distance of the nearest membrane potential to a switch: to the threshold, or to a jump of the surrogate."""
    distances = [np.abs(u - threshold).min()]
    if surrogate in JUMPS:
        distances.append(np.abs(np.abs(u - threshold) - JUMPS[surrogate] * alpha).min())
    return min(distances)


def tdbn(current, gamma, mu, threshold, eta=1.0, eps=1e-5, mean=None, var=None):
    """tdBN of (T, B, C, ...), with the statistics of the current itself unless ``mean`` and ``var`` (C,) are given."""
    axes = (0, 1, *range(3, current.ndim))
    per_channel = (-1, *(1,) * (current.ndim - 3))
    mean = current.mean(axis=axes) if mean is None else mean
    var = ((current - mean.reshape(per_channel)) ** 2).mean(axis=axes) if var is None else var
    i_hat = eta * threshold * (current - mean.reshape(per_channel)) / np.sqrt(var.reshape(per_channel) + eps)
    return gamma.reshape(per_channel) * i_hat + mu.reshape(per_channel)
