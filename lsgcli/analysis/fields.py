"""The fields of a gradient-flow record: names, types and meanings. The documentation's tables and the CSV are made from these."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Field:
    """A field.

    Attributes:
        kind: ``text``, ``number``, ``count``, ``object`` or ``list``, each as in JSON.
        meaning: its definition, in Markdown.
        unit: of the number.
        empty: it may be null.
        per_step: ``per_step`` has a list of it, too.
    """

    kind: str
    meaning: str
    unit: str = ""
    empty: bool = False
    per_step: bool = False


V_TH, SHARE, NONE = "v_th", "share", "-"
LAYER: dict[str, Field] = {
    "name": Field("text", "of the layer"),
    "beta": Field("number", "decay; mean over channels where each has its own", NONE),
    "alpha": Field("number", "surrogate width; mean over channels and timesteps where they differ", "u", per_step=True),
    "interval": Field("list", "[v_th - alpha/2, v_th + alpha/2]", "u"),
    "gamma": Field("number", "mean weight of the tdBN between synapse and neurons; none without tdBN", NONE, empty=True),
    "coverage": Field("number", "mean of 1[abs(u - v_th) < alpha/2]", SHARE, empty=True, per_step=True),
    "sg_mean": Field("number", "E[h]; coverage alone rewards any widening", "1/u", empty=True, per_step=True),
    "sg_sq_mean": Field("number", "E[h^2]", "1/u^2", empty=True, per_step=True),
    "firing_rate": Field("number", "mean of o", "spikes a neuron and step", empty=True, per_step=True),
    "silent": Field("number", "neurons that fired in no sample", SHARE, empty=True),
    "saturated": Field("number", "neurons that fired at every step of every sample", SHARE, empty=True),
    "u_mean": Field("number", "mean of u", V_TH, empty=True, per_step=True),
    "u_std": Field("number", "standard deviation of u", V_TH, empty=True, per_step=True),
    "u_skew": Field("number", "skewness of u", NONE, empty=True, per_step=True),
    "u_std_predicted": Field(
        "object",
        "what theory says `u_std` is. `paper`: sqrt(1 + beta^2); `with_gamma`: times abs(gamma); `without_reset`: "
        "sqrt((1 - beta^(2T)) / (1 - beta^2)), in `per_step` with t in place of T",
        V_TH,
        per_step=True,
    ),
    "rho": Field(
        "number", "correlation of I[t] and I[t+1]; none at the last step, or at T = 1", NONE, empty=True, per_step=True
    ),
    "grad_norm": Field("number", "L2 norm of dL/dW, W the weights that feed the layer; mean over mini-batches", "", empty=True),
    "grad_ratio": Field("number", "`grad_norm` over that of the last layer of neurons", NONE, empty=True),
    "grad_relative": Field("number", "`grad_norm` over the L2 norm of W", "", empty=True),
    "grad_zero": Field("number", "entries of dL/du that are exactly zero", SHARE, empty=True, per_step=True),
    "grad_zero_weight": Field("number", "entries of dL/dW that are exactly zero; mean over mini-batches", SHARE, empty=True),
    "temporal_share": Field(
        "number", "norm of the part of dL/dW that came through time, over the whole; mean over mini-batches", NONE, empty=True
    ),
    "snr": Field(
        "number", "abs(mean) / std of dL/dW over mini-batches, median of entries; none for one mini-batch", NONE, empty=True
    ),
    "mismatch": Field("number", "cosine of dL/dW and finite differences of the loss; none if not asked for", NONE, empty=True),
    "histogram": Field("object", "counts of u in `edges`, and outside of them (`below`, `above`)", V_TH),
    "per_step": Field("object", "the fields so marked, a list of T values each"),
    "verdict": Field("text", "`ok`, or what is the matter"),
    "reason": Field("text", "the measurement and the threshold that decided it; empty if `ok`"),
}
RECORD: dict[str, Field] = {
    "schema": Field("text", "`lsg.gradient-flow/1`"),
    "threshold": Field("number", "v_th of the first layer", "u"),
    "T": Field("count", "timesteps"),
    "batches": Field("count", "mini-batches that were measured over"),
    "loss": Field("number", "mean over these", "", empty=True),
    "thresholds": Field("object", "of the verdicts"),
    "layers": Field("list", "in order from the input; fields below"),
    "checkpoint": Field("text", "path, as it was given"),
    "method": Field("text", "how decay and width were set"),
    "history": Field(
        "object",
        "of the run that the checkpoint lies in: `epochs`, and for each of its `layers` lists of `beta`, `alpha`, `coverage`",
        empty=True,
    ),
}
KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "number": (int, float),
    "count": (int,),
    "object": (dict,),
    "list": (list,),
}


def problems(record: Mapping[str, Any], fields: Mapping[str, Field] = RECORD, where: str = "record") -> list[str]:
    """What is not as documented about a record, or about a layer of one."""
    found = [f"{where}: {name} is not documented" for name in record if name not in fields]
    found += [f"{where}: {name} is missing" for name in fields if name not in record]
    for name, value in record.items():
        field = fields.get(name)
        if field is None or (value is None and field.empty):
            continue
        if not isinstance(value, KINDS[field.kind]) or isinstance(value, bool):
            found.append(f"{where}: {name} is {value!r}, which is no {field.kind}")
    for layer in record.get("layers", ()):
        found += problems(layer, LAYER, f"layer {layer.get('name')}")
        lists = {name for name, field in LAYER.items() if field.per_step}
        if layer["per_step"].keys() != lists or any(len(values) != record["T"] for values in layer["per_step"].values()):
            found.append(
                f"layer {layer['name']}: per_step has {sorted(layer['per_step'])}, not {record['T']} of {sorted(lists)}"
            )
    return found


def csv_text(flows: list[dict[str, Any]]) -> str:
    """Records as CSV: a row for each checkpoint and layer, with the numbers that are one for the whole layer."""
    out = io.StringIO()
    plain = [name for name, field in LAYER.items() if field.kind in ("text", "number")]
    predicted = ("paper", "with_gamma", "without_reset")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["checkpoint", "method", *plain, *(f"u_std_predicted_{name}" for name in predicted)])
    for flow in flows:
        for layer in flow["layers"]:
            values = [layer[name] for name in plain] + [layer["u_std_predicted"][name] for name in predicted]
            writer.writerow([flow["checkpoint"], flow["method"], *values])
    return out.getvalue()
