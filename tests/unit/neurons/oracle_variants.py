"""Further neurons and rules in float64 numpy, forward and backward by hand; as ``oracle``, nothing is taken from the package.

Each function returns the output, and gradients by name: ``current`` (T, ...); others per neuron, summed over t only, or of ``c`` (T, ...).
"""

import numpy as np

from tests.unit.neurons.oracle import SURROGATES


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slope(x):
    """Derivative of sigmoid."""
    return sigmoid(x) * (1 - sigmoid(x))


def clif(current, grad, beta, alpha, v_th, surrogate):
    """u = beta w' + I; o = 1[u >= v_th]; m = m' sigmoid((1 - beta) u) + o; w = u - o (v_th + sigmoid(m))."""
    T, h, zero = len(current), SURROGATES[surrogate], np.zeros_like(current[0])
    u, o, m, w = (np.zeros((T + 1, *zero.shape)) for _ in range(4))  # index 0 is before the first step
    for t in range(1, T + 1):
        u[t] = beta * w[t - 1] + current[t - 1]
        o[t] = u[t] >= v_th
        m[t] = m[t - 1] * sigmoid((1 - beta) * u[t]) + o[t]
        w[t] = u[t] - o[t] * (v_th + sigmoid(m[t]))
    d_current, d_beta = np.zeros_like(current), zero.copy()
    dw = dm = zero
    for t in range(T, 0, -1):
        dm = dm - o[t] * slope(m[t]) * dw
        do = grad[t - 1] + dm - (v_th + sigmoid(m[t])) * dw
        leak = dm * m[t - 1] * slope((1 - beta) * u[t])
        du = do * h(u[t] - v_th, alpha) + dw + leak * (1 - beta)
        d_current[t - 1] = du
        d_beta = d_beta + du * w[t - 1] - leak * u[t]
        dw, dm = beta * du, dm * sigmoid((1 - beta) * u[t])
    return o[1:], {"current": d_current, "beta": d_beta}


def ar_lif(current, grad, beta, alpha, v_th, surrogate, a, c, carry):
    """p = tanh(a) tanh(I); o = 1[u >= v_th + p]; m = relu(m') s(cI) - relu(-m') (1 - s(cI)) + (2o - 1) s(I); w = u - o (v_th + s(m) + p)."""
    T, h, zero = len(current), SURROGATES[surrogate], np.zeros_like(current[0])
    u, o, m, w = (np.zeros((T + 1, *zero.shape)) for _ in range(4))
    x = np.concatenate([zero[None], current])
    high = v_th + np.tanh(a) * np.tanh(x)
    for t in range(1, T + 1):
        u[t] = beta * w[t - 1] + x[t]
        o[t] = u[t] >= high[t]
        rise, fall = np.maximum(m[t - 1], 0) * carry, np.maximum(-m[t - 1], 0) * carry
        m[t] = rise * sigmoid(c * x[t]) - fall * (1 - sigmoid(c * x[t])) + (2 * o[t] - 1) * sigmoid(x[t])
        w[t] = u[t] - o[t] * (high[t] + sigmoid(m[t]))
    d = {"current": np.zeros_like(current)} | {name: zero.copy() for name in ("beta", "a", "c", "threshold")}
    dw = dm = zero
    for t in range(T, 0, -1):
        dm = dm - o[t] * slope(m[t]) * dw
        do = grad[t - 1] + 2 * sigmoid(x[t]) * dm - (high[t] + sigmoid(m[t])) * dw
        height = h(u[t] - high[t], alpha)
        du, d_high = do * height + dw, -do * height - o[t] * dw
        by_gate = dm * np.abs(m[t - 1]) * slope(c * x[t]) * carry
        by_threshold = d_high * np.tanh(a) / np.cosh(x[t]) ** 2
        d["current"][t - 1] = du + by_threshold + (2 * o[t] - 1) * slope(x[t]) * dm + by_gate * c
        d["c"] += by_gate * x[t]
        d["a"] += d_high * np.tanh(x[t]) / np.cosh(a) ** 2
        d["threshold"] += d_high
        d["beta"] += du * w[t - 1]
        gate = sigmoid(c * x[t])
        dw, dm = beta * du, dm * carry * np.where(m[t - 1] > 0, gate, np.where(m[t - 1] < 0, 1 - gate, 0))
    return o[1:], d


def klif(current, grad, beta, alpha, v_th, surrogate, k):
    """u = beta f' (1 - o') + I; f = relu(k u); o = 1[f >= v_th]."""
    T, h, zero = len(current), SURROGATES[surrogate], np.zeros_like(current[0])
    u, f, o, rest = (np.zeros((T + 1, *zero.shape)) for _ in range(4))
    for t in range(1, T + 1):
        u[t] = beta * rest[t - 1] + current[t - 1]
        f[t] = np.maximum(k * u[t], 0)
        o[t] = f[t] >= v_th
        rest[t] = f[t] * (1 - o[t])
    d_current, d_beta, d_k, dr = np.zeros_like(current), zero.copy(), zero.copy(), zero
    for t in range(T, 0, -1):
        df = (grad[t - 1] - f[t] * dr) * h(f[t] - v_th, alpha) + (1 - o[t]) * dr
        df = df * (k * u[t] > 0)
        du = df * k
        d_k, d_beta, d_current[t - 1] = d_k + df * u[t], d_beta + du * rest[t - 1], du
        dr = beta * du
    return o[1:], {"current": d_current, "beta": d_beta, "k": d_k}


def glif(current, grad, beta, alpha, surrogate, raw):
    """The equation of GLIF; ``raw`` holds logits A, B, G, v, v_re, leak, shaped like one step, and c, (T, ...)."""
    T, h, zero = len(current), SURROGATES[surrogate], np.zeros_like(current[0])
    A, B, G, v, v_re, leak, c = (sigmoid(raw[name]) for name in ("A", "B", "G", "v", "v_re", "leak", "c"))
    u, o = np.zeros((T + 1, *zero.shape)), np.zeros((T + 1, *zero.shape))
    for t in range(1, T + 1):
        kept = (1 - A * (1 - beta)) * u[t - 1] * (1 - G * o[t - 1])
        driven = (1 - B * (1 - c[t - 1])) * current[t - 1]
        u[t] = kept - (1 - A) * leak + driven - (1 - G) * v_re * o[t - 1]
        o[t] = u[t] >= v
    names = ("A", "B", "G", "v", "v_re", "leak", "beta")
    d = {name: zero.copy() for name in names} | {"current": np.zeros_like(current), "c": np.zeros_like(current)}
    later = zero
    for t in range(T, 0, -1):
        a = 1 - A * (1 - beta)
        do = grad[t - 1] - (a * G * u[t] + (1 - G) * v_re) * later
        height = h(u[t] - v, alpha)
        du = do * height + a * (1 - G * o[t]) * later
        before, fired, now = u[t - 1], o[t - 1], current[t - 1]
        d["v"] -= do * height
        d["A"] += du * (leak - (1 - beta) * before * (1 - G * fired))
        d["beta"] += du * A * before * (1 - G * fired)
        d["G"] += du * (v_re * fired - a * before * fired)
        d["v_re"] -= du * (1 - G) * fired
        d["leak"] -= du * (1 - A)
        d["B"] -= du * (1 - c[t - 1]) * now
        d["c"][t - 1] = du * B * now
        d["current"][t - 1] = du * (1 - B * (1 - c[t - 1]))
        later = du
    return o[1:], {name: value * (slope(raw[name]) if name in raw else 1.0) for name, value in d.items()}


INTEGRALS = {  # of a surrogate, and its derivative by the width
    "rectangular": (lambda x, a: np.clip(x / a + 0.5, 0, 1), lambda x, a: np.where(np.abs(x) < a / 2, -x / a**2, 0.0)),
    "sigmoid": (lambda x, a: sigmoid(4 * x / a), lambda x, a: -4 * x / a**2 * slope(4 * x / a)),
}


def asgl(current, grad, beta, a, v_th, surrogate, smooth):
    """Hard reset by o = H where ``smooth`` (T, ...), elsewhere 1[u >= v_th]; output v_th o; the gradient is that of H."""
    T, h, zero = len(current), SURROGATES[surrogate], np.zeros_like(current[0])
    H, by_width = INTEGRALS[surrogate]
    u, o = np.zeros((T + 1, *zero.shape)), np.zeros((T + 1, *zero.shape))
    for t in range(1, T + 1):
        u[t] = beta * u[t - 1] * (1 - o[t - 1]) + current[t - 1]
        o[t] = np.where(smooth[t - 1], H(u[t] - v_th, a), u[t] >= v_th)
    d_current, d_beta, d_a, later = np.zeros_like(current), zero.copy(), zero.copy(), zero
    for t in range(T, 0, -1):
        do = v_th * grad[t - 1] - beta * u[t] * later
        du = do * h(u[t] - v_th, a) + beta * (1 - o[t]) * later
        d_a = d_a + do * by_width(u[t] - v_th, a)
        d_beta = d_beta + du * u[t - 1] * (1 - o[t - 1])
        d_current[t - 1], later = du, du
    return v_th * o[1:], {"current": d_current, "beta": d_beta, "width": d_a}


def trsg(current, grad, beta, v_th, mu):
    """w[0] = mu; u = beta w' + (1 - beta) I; a = v_th 1[u >= v_th]; w = u - a; da/du = 1 in the window, da/dv_th = o - u/v_th there."""
    T, zero = len(current), np.zeros_like(current[0])
    u, o, w = (np.zeros((T + 1, *zero.shape)) for _ in range(3))
    w[0] = mu
    for t in range(1, T + 1):
        u[t] = beta * w[t - 1] + (1 - beta) * current[t - 1]
        o[t] = u[t] >= v_th
        w[t] = u[t] - v_th * o[t]
    d_current, d_beta, d_threshold, dw = np.zeros_like(current), zero.copy(), zero.copy(), zero
    for t in range(T, 0, -1):
        inside = np.abs(u[t] / v_th - 1) < 0.5
        da = grad[t - 1] - dw
        du = da * inside + dw
        d_threshold = d_threshold + da * (o[t] - u[t] / v_th * inside)
        d_beta = d_beta + du * (w[t - 1] - current[t - 1])
        d_current[t - 1] = (1 - beta) * du
        dw = beta * du
    return v_th * o[1:], {"current": d_current, "beta": d_beta, "threshold": d_threshold}
