"""Gradient-flow records as ``lsg inspect-gradients`` makes them, with made-up numbers."""

import copy
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from lsgcli.analysis.measures import LAYER, Field
from lsgcli.store.flows import HISTORY

THRESHOLDS = {"silent": 0.001, "saturated": 0.9, "blocked": 0.999, "vanishing": 1e-3, "exploding": 1e3}
OF_A_RECORD = {
    "schema": "lsg.gradient-flow/1", "threshold": 0.5, "batches": 2, "loss": 1.5, "accuracy": {"evaluation": 0.9, "batch": 0.92},
    "eval_gap": 0.02, "batch_invariant": None, "input": {"mean": 0.1, "std": 0.9}, "output_values": 320, "findings": None, "tried": None,
}  # fmt: skip
OF_A_LAYER = {
    "gamma": 1.1, "silent": 0.01, "saturated": 0.0, "u_skew": 0.02, "xi": 0.8, "drift": {"mean": 0.1, "std": 0.02}, "presynaptic_silent": 0.0,
    "sgv": None, "sgv_relative": None, "tgc": None, "grad_relative": 0.01, "grad_zero": 0.2, "grad_zero_weight": 0.0, "gain": 0.9,
    "gain_between": 0.7, "gain_predicted": {"kaiming": 0.8, "weights": 0.85}, "temporal_share": 0.1, "snr": 0.7, "mismatch": None,
    "verdict": "ok", "reason": "",
}  # fmt: skip
EDGES = [round(-4 + k / 10, 9) for k in range(101)]


def flow(layers: int = 3, T: int = 4, method: str = "lsg", epochs: int = 5, seed: int = 0, **changes) -> dict:
    """A record of a network with some layers; ``changes`` replace its fields."""
    rng = np.random.default_rng(seed)
    records = [layer(f"conv{k + 1}", T, rng, scale=10.0 ** -(layers - k)) for k in range(layers)]
    names = [record["name"] for record in records]
    history = {name: {key: rng.uniform(0.2, 0.6, epochs).tolist() for key in HISTORY} for name in names}
    made = {
        "T": T,
        "layers": records,
        "activity": {"sample": 3, "layers": [active(name, 40 * (k + 1), T, rng) for k, name in enumerate(names)]},
        "checkpoint": f"runs/{method}/best.safetensors",
        "method": method,
        "thresholds": dict(THRESHOLDS),
        "history": {"epochs": list(range(epochs)), "layers": history},
    }
    return {**copy.deepcopy(OF_A_RECORD), **made, **changes}


def layer(name: str, T: int, rng: np.random.Generator, scale: float = 1.0) -> dict:
    """A layer's record; its potentials are a sample of a normal distribution."""
    beta = float(rng.uniform(0.1, 0.6))
    alpha = math.sqrt(1 + beta**2)
    u = rng.normal(0.1, 1.1, 5000)
    counts = np.histogram(u, EDGES)[0]
    inside = np.abs(u / 2 - 0.5) < alpha / 2
    steps = {key: rng.uniform(0, 1, T).tolist() for key in ("coverage", "firing_rate", "sg_mean", "u_std", "grad_zero")}
    steps["u_mean"] = rng.uniform(-1, 1, T).tolist()
    steps["xi"] = [0.8] * T
    steps["tgc"] = [None] * T
    steps["rho"] = [*rng.uniform(-1, 1, T - 1).tolist(), None]
    return {
        "name": name,
        "beta": beta,
        "alpha": alpha,
        "interval": [0.5 - alpha / 2, 0.5 + alpha / 2],
        "coverage": float(inside.mean()),
        "sg_mean": float(inside.mean() / alpha),
        "sg_sq_mean": float(inside.mean() / alpha**2),
        "firing_rate": float((u >= 1).mean()),
        "u_mean": float(u.mean()),
        "u_std": float(u.std()),
        "u_std_predicted": {"paper": alpha, "with_gamma": 1.1 * alpha, "without_reset": alpha},
        "rho": 0.3 if T > 1 else None,
        "grad_norm": 0.5 * scale,
        "grad_ratio": 10 * scale,
        "histogram": {"edges": EDGES, "counts": counts.tolist(), "below": int((u < -4).sum()), "above": int((u >= 6).sum())},
        "per_step": steps,
        **copy.deepcopy(OF_A_LAYER),
    }


def active(name: str, neurons: int, T: int, rng: np.random.Generator) -> dict:
    """Activity of a layer, of whose neurons a quarter is silent."""
    spikes = rng.random((neurons, T)) < np.linspace(0.9, 0, neurons)[:, None]
    spikes[: neurons * 3 // 4, 0] = True
    spikes[neurons * 3 // 4 :] = False
    traces = [
        {
            "role": role,
            "neuron": [k, 2, 3],
            "u": np.where(spikes[k], rng.uniform(1, 2, T), rng.uniform(-1, 1, T)).tolist(),
            "alpha": [1.5],
        }
        for k, role in ((0, "most active"), (neurons // 2, "median active"), (neurons - 1, "silent"))
    ]
    rows = ["".join("01"[fired] for fired in row.astype(int)) for row in spikes[:200]]
    counts = {"neurons": neurons, "active": neurons * 3 // 4, "firing_rate": float(spikes.mean())}
    return {"name": name, **counts, "spikes": rows, "traces": traces}


def hollow(record: dict) -> dict:
    """The same record with None wherever a number may be missing."""
    kept = {"name", "verdict", "reason", "histogram", "interval"}
    layers = []
    for one in record["layers"]:
        empty = {key: value if key in kept else None for key, value in one.items()}
        empty["interval"] = [None, None]
        empty["per_step"] = {key: [None] * record["T"] for key in one["per_step"]}
        for key in ("u_std_predicted", "gain_predicted", "drift"):
            empty[key] = dict.fromkeys(one[key])
        empty["histogram"] = {**one["histogram"], "counts": [0] * 100, "below": 0, "above": 0}
        layers.append(empty)
    activity = {"sample": 0, "layers": [{**one, "firing_rate": None, "traces": []} for one in record["activity"]["layers"]]}
    return {**record, "layers": layers, "loss": None, "history": None, "activity": activity}


EMPTY = partial(Field, meaning="", empty=True)
RECORD = {  # of the whole record
    **dict.fromkeys(("schema", "checkpoint", "method"), Field("text", "")),
    **dict.fromkeys(("T", "batches", "output_values"), Field("count", "")),
    **dict.fromkeys(("thresholds", "input"), Field("object", "")),
    **dict.fromkeys(("accuracy", "activity", "history"), EMPTY("object")),
    **dict.fromkeys(("loss", "eval_gap"), EMPTY("number")),
    **dict.fromkeys(("findings", "tried"), EMPTY("list")),
    **{"threshold": Field("number", ""), "layers": Field("list", ""), "batch_invariant": EMPTY("truth")},
}
KINDS = {"text": str, "number": (int, float), "count": int, "object": dict, "list": list, "truth": bool}


def problems(record: Mapping[str, Any], fields: Mapping[str, Field] = RECORD, where: str = "record") -> list[str]:
    """Deviations of a record, or of one of its layers, from this table."""
    keys = [key for key in fields if "." not in key]
    found = [f"{where}: {name} is not documented" for name in record if name not in keys]
    found += [f"{where}: {name} is missing" for name in keys if name not in record]
    for name, value in record.items():
        field = fields.get(name)
        if field is None or (value is None and field.empty):
            continue
        if not isinstance(value, KINDS[field.kind]) or (isinstance(value, bool) and field.kind != "truth"):
            found.append(f"{where}: {name} is {value!r}, which is no {field.kind}")
    for layer in record.get("layers", ()):
        found += problems(layer, LAYER, f"layer {layer.get('name')}")
        lists = {name for name, field in LAYER.items() if field.per_step}
        if layer["per_step"].keys() != lists or any(len(values) != record["T"] for values in layer["per_step"].values()):
            found.append(
                f"layer {layer['name']}: per_step has {sorted(layer['per_step'])}, not {record['T']} of {sorted(lists)}"
            )
    return found
