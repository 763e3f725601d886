"""Gradient-flow records as ``lsg inspect-gradients`` makes them, with made-up numbers."""

import math

import numpy as np

THRESHOLDS = {"silent": 0.001, "saturated": 0.9, "blocked": 0.999, "vanishing": 1e-3, "exploding": 1e3}
EDGES = [round(-4 + k / 10, 9) for k in range(101)]


def flow(layers: int = 3, T: int = 4, method: str = "lsg", epochs: int = 5, seed: int = 0, **changes) -> dict:
    """A record of a network with some layers; ``changes`` replace its fields."""
    rng = np.random.default_rng(seed)
    records = [layer(f"conv{k + 1}", T, rng, scale=10.0 ** -(layers - k)) for k in range(layers)]
    history = {
        "epochs": list(range(epochs)),
        "layers": {
            record["name"]: {key: [float(v) for v in rng.uniform(0.2, 0.6, epochs)] for key in ("beta", "alpha", "coverage")}
            for record in records
        },
    }
    made = {
        "schema": "lsg.gradient-flow/1",
        "threshold": 0.5,
        "T": T,
        "batches": 2,
        "loss": 1.5,
        "layers": records,
        "checkpoint": f"runs/{method}/best.safetensors",
        "method": method,
        "thresholds": dict(THRESHOLDS),
        "history": history,
    }
    return {**made, **changes}


def layer(name: str, T: int, rng: np.random.Generator, scale: float = 1.0) -> dict:
    """A layer's record; its potentials are a sample of a normal distribution."""
    beta = float(rng.uniform(0.1, 0.6))
    alpha = math.sqrt(1 + beta**2)
    u = rng.normal(0.1, 1.1, 5000)
    counts = np.histogram(u, EDGES)[0]
    inside = np.abs(u / 2 - 0.5) < alpha / 2
    steps = {
        key: [float(v) for v in rng.uniform(0, 1, T)] for key in ("coverage", "firing_rate", "sg_mean", "u_std", "grad_zero")
    }
    steps["u_mean"] = [float(v) for v in rng.uniform(-1, 1, T)]
    steps["rho"] = [*(float(v) for v in rng.uniform(-1, 1, T - 1)), None]
    return {
        "name": name,
        "beta": beta,
        "alpha": alpha,
        "interval": [0.5 - alpha / 2, 0.5 + alpha / 2],
        "gamma": 1.1,
        "coverage": float(inside.mean()),
        "sg_mean": float(inside.mean() / alpha),
        "sg_sq_mean": float(inside.mean() / alpha**2),
        "firing_rate": float((u >= 1).mean()),
        "silent": 0.01,
        "saturated": 0.0,
        "u_mean": float(u.mean()),
        "u_std": float(u.std()),
        "u_skew": 0.02,
        "u_std_predicted": {"paper": alpha, "with_gamma": 1.1 * alpha, "without_reset": alpha},
        "rho": 0.3 if T > 1 else None,
        "grad_norm": 0.5 * scale,
        "grad_ratio": 10 * scale,
        "grad_relative": 0.01,
        "grad_zero": 0.2,
        "grad_zero_weight": 0.0,
        "temporal_share": 0.1,
        "snr": 0.7,
        "mismatch": None,
        "histogram": {
            "edges": EDGES,
            "counts": [int(n) for n in counts],
            "below": int((u < -4).sum()),
            "above": int((u >= 6).sum()),
        },
        "per_step": steps,
        "verdict": "ok",
        "reason": "",
    }


def hollow(record: dict) -> dict:
    """The same record with None wherever a number may be missing."""
    kept = {"name", "verdict", "reason", "histogram", "interval"}
    layers = []
    for one in record["layers"]:
        empty = {key: value if key in kept else None for key, value in one.items()}
        empty["interval"] = [None, None]
        empty["per_step"] = {key: [None] * record["T"] for key in one["per_step"]}
        empty["u_std_predicted"] = dict.fromkeys(one["u_std_predicted"])
        empty["histogram"] = {**one["histogram"], "counts": [0] * 100, "below": 0, "above": 0}
        layers.append(empty)
    return {**record, "layers": layers, "loss": None, "history": None}
