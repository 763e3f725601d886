"""A network of two layers of neurons, forward and backward, and every measure of it, in float64 numpy.

linear - tdBN - LIF - linear - tdBN - LIF - linear, cross-entropy of the mean logits. Nothing here is taken from the package.
"""

import numpy as np

EPS = 1e-5


class Network:
    """Parameters of a :class:`lsgcli.models.mlp.MLP` as arrays; ``run`` computes a batch."""

    def __init__(self, state, threshold=0.5):
        array = {name: tensor.double().numpy() for name, tensor in state.items()}
        self.threshold = threshold
        self.layers = [
            {
                "W": array[f"hidden.{k}.current.conv.weight"][:, :, 0, 0],
                "gamma": array[f"hidden.{k}.current.norm.weight"],
                "mu": array[f"hidden.{k}.current.norm.bias"],
                "beta": 1 / (1 + np.exp(-array[f"hidden.{k}.lif.b"])),
            }
            for k in range(2)
        ]
        for layer in self.layers:
            layer["alpha"] = 2 * threshold * np.sqrt(1 + layer["beta"] ** 2)
        self.V, self.c = array["classifier.weight"], array["classifier.bias"]

    def loss(self, x, y):
        """Of x (T, B, F) and labels (B,)."""
        return self.run(x, y)["loss"]

    def run(self, x, y, recurrent=True):
        """Loss, and for each layer I, u, o, h, du and dW; without the recurrence in the backward pass if asked for."""
        kept, s = [], x
        for layer in self.layers:
            z = s @ layer["W"].T
            mean, var = z.mean((0, 1)), z.var((0, 1))
            hat = (z - mean) / np.sqrt(var + EPS)
            current = layer["gamma"] * self.threshold * hat + layer["mu"]
            u, o = fire(current, layer["beta"], self.threshold)
            h = np.where(np.abs(u - self.threshold) < layer["alpha"] / 2, 1 / layer["alpha"], 0.0)
            kept.append({"s": s, "hat": hat, "var": var, "I": current, "u": u, "o": o, "h": h})
            s = o
        logits = (s @ self.V.T + self.c).mean(0)
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        T, B = x.shape[:2]
        loss = -np.log(p[np.arange(B), y]).mean()
        d = p.copy()
        d[np.arange(B), y] -= 1
        g = np.broadcast_to(d / B / T, (T, *d.shape)) @ self.V
        for layer, k in reversed(list(zip(self.layers, kept, strict=True))):
            k["do"] = g
            k["du"] = self.backward(k, g, layer["beta"], recurrent)
            d_hat = k["du"] * layer["gamma"] * self.threshold
            n = T * B
            centred = d_hat - d_hat.sum((0, 1)) / n - k["hat"] * (d_hat * k["hat"]).sum((0, 1)) / n
            d_z = centred / np.sqrt(k["var"] + EPS)
            k["dW"] = np.einsum("tbo,tbi->oi", d_z, k["s"])
            g = k["ds"] = d_z @ layer["W"]
        return {"loss": loss, "layers": kept}

    def backward(self, k, g, beta, recurrent):
        du, following = np.zeros_like(g), np.zeros_like(g[0])
        for t in reversed(range(len(g))):
            do = g[t] - beta * k["u"][t] * following
            du[t] = do * k["h"][t] + beta * (1 - k["o"][t]) * following
            if recurrent:
                following = du[t]
        return du


def fire(current, beta, threshold):
    """u and o of neurons with a hard reset, (T, ...)."""
    u, o = np.zeros_like(current), np.zeros_like(current)
    for t in range(len(current)):
        u[t] = current[t] + (beta * u[t - 1] * (1 - o[t - 1]) if t else 0)
        o[t] = u[t] >= threshold
    return u, o


def norm(x):
    return np.sqrt((x**2).sum())


def rho(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def cosine(a, b):
    return (a * b).sum() / norm(a) / norm(b)


def skew(x):
    return ((x - x.mean()) ** 3).mean() / x.std() ** 3


def measures(net, batches):
    """layer index -> every measure over batches of (x, y)."""
    whole = [net.run(x, y) for x, y in batches]
    spatial = [net.run(x, y, recurrent=False) for x, y in batches]
    reference = np.mean([norm(run["layers"][-1]["dW"]) for run in whole])
    result = []
    for index, layer in enumerate(net.layers):
        kept = [run["layers"][index] for run in whole]
        rest = [run["layers"][index]["dW"] for run in spatial]
        current, u, o, h, du = (np.concatenate([k[name] for k in kept], axis=1) for name in ("I", "u", "o", "h", "du"))
        grads = np.stack([k["dW"] for k in kept])
        scaled, alpha, beta, T = u / net.threshold, layer["alpha"], layer["beta"], len(u)
        inside = np.abs(u - net.threshold) < alpha / 2
        size = np.mean([norm(g) for g in grads])
        without_reset = [np.sqrt((1 - beta ** (2 * t)) / (1 - beta**2)) for t in range(1, T + 1)]
        counts, edges = np.histogram(scaled, np.linspace(-4, 6, 101))
        varied = grads.std(0) > 0
        folded = layer["W"] * (layer["gamma"] * net.threshold / np.sqrt(kept[-1]["var"] + EPS))[:, None]
        result.append(
            {
                "beta": beta,
                "alpha": alpha,
                "interval": [net.threshold - alpha / 2, net.threshold + alpha / 2],
                "gamma": layer["gamma"].mean(),
                "coverage": inside.mean(),
                "sg_mean": h.mean(),
                "sg_sq_mean": (h**2).mean(),
                "firing_rate": o.mean(),
                "silent": (o.sum((0, 1)) == 0).mean(),
                "saturated": o.all((0, 1)).mean(),
                "u_mean": scaled.mean(),
                "u_std": scaled.std(),
                "u_skew": skew(scaled),
                "u_std_predicted": {
                    "paper": np.sqrt(1 + beta**2),
                    "with_gamma": layer["gamma"].mean() * np.sqrt(1 + beta**2),
                    "without_reset": without_reset[-1],
                },
                "rho": rho(current[:-1], current[1:]),
                "xi": (1 - scaled.mean()) / scaled.std(),
                "drift": {"mean": scaled[-1].mean() - scaled[0].mean(), "std": scaled[-1].std() - scaled[0].std()},
                "presynaptic_silent": np.mean(
                    [not np.concatenate([k["s"] for k in kept], axis=1)[..., i].any() for i in range(layer["W"].shape[1])]
                ),
                "sgv": du[-1].var() / np.abs(du[-1]).mean(),
                "sgv_relative": du[-1].var() / np.abs(du[-1]).mean() ** 2,
                "tgc": np.mean([cosine(du[t], du[t + 1]) for t in range(T - 1)]),
                "grad_norm": size,
                "grad_ratio": size / reference,
                "grad_relative": size / norm(layer["W"]),
                "grad_zero": (du == 0).mean(),
                "grad_zero_weight": (grads == 0).mean(),
                "gain": np.square([k["ds"] for k in kept]).mean() / np.square([k["do"] for k in kept]).mean()
                if index
                else None,
                "gain_between": np.square([run["layers"][index - 1]["do"] for run in whole]).mean()
                / np.square([k["do"] for k in kept]).mean()
                if index
                else None,
                "gain_predicted": {
                    "kaiming": 8 * net.threshold**2 * (h**2).mean(),
                    "weights": (folded**2).sum(0).mean() * (h**2).mean(),
                },
                "temporal_share": np.mean([norm(g - s) / norm(g) for g, s in zip(grads, rest, strict=True)]),
                "snr": np.median(np.abs(grads.mean(0)[varied]) / grads.std(0, ddof=1)[varied]),
                "histogram": {"edges": edges, "counts": counts, "below": (scaled < -4).sum(), "above": (scaled >= 6).sum()},
                "per_step": {
                    "alpha": [alpha] * T,
                    "coverage": inside.mean((1, 2)),
                    "sg_mean": h.mean((1, 2)),
                    "sg_sq_mean": (h**2).mean((1, 2)),
                    "firing_rate": o.mean((1, 2)),
                    "u_mean": scaled.mean((1, 2)),
                    "u_std": scaled.std((1, 2)),
                    "u_skew": [skew(step) for step in scaled],
                    "u_std_predicted": without_reset,
                    "xi": (1 - scaled.mean((1, 2))) / scaled.std((1, 2)),
                    "tgc": [*(cosine(du[t], du[t + 1]) for t in range(T - 1)), None],
                    "rho": [*(rho(current[t], current[t + 1]) for t in range(T - 1)), None],
                    "grad_zero": (du == 0).mean((1, 2)),
                },
            }
        )
    return result
