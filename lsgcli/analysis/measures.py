"""Fields of a layer in a gradient-flow record: the table from which CSV, terminal output, pages and documentation are generated.

Measures that follow from the sums of :class:`~lsgcli.analysis.sums.LayerSums` have their formula in the table.
The key of a field is its path in the record, with dots between levels.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lsgcli.config.fields import Values

LEARNED = 0.85  # accuracy above which what rules find is a note
RECENT = 20  # losses and accuracies that count as the last


@dataclass(frozen=True)
class Means:
    """Means of sums over the entries of some timesteps: ``Means(totals, steps)("u_squared")``; NaN without data.

    Attributes:
        totals: sums at each timestep, by name; ``n`` is the number of entries.
        steps: the timesteps.
    """

    totals: Mapping[str, Sequence[float]]
    steps: Sequence[int]

    def __call__(self, name: str) -> float:
        """The mean of a sum."""
        n, total = (sum(sum(self.totals.get(key, ())[t : t + 1]) for t in self.steps) for key in ("n", name))
        return total / n if n else math.nan


def _std(mean: Means) -> float:
    variance = mean("u_squared") - mean("u") ** 2
    return math.sqrt(variance) if variance > 0 else 0.0 if variance <= 0 else math.nan


def _skew(mean: Means) -> float:
    u = mean("u")
    square = mean("u_squared")
    cube = mean("u_cubed")
    std = _std(mean)
    return (cube - 3 * u * square + 2 * u**3) / std**3 if std > 0 else math.nan


def _rho(mean: Means) -> float:
    """corr(I[t], I[t+1])."""
    steps = [t for t in mean.steps if t + 1 < len(mean.totals["n"])]
    now = Means(mean.totals, steps)
    later = Means(mean.totals, [t + 1 for t in steps])
    variances = [means("current_squared") - means("current") ** 2 for means in (now, later)]
    covariance = now("product") - now("current") * later("current")
    return covariance / math.sqrt(variances[0] * variances[1]) if min(variances) > 0 else math.nan


def _xi(mean: Means) -> float:
    std = _std(mean)
    return (1 - mean("u")) / std if std > 0 else math.nan


def _sgv(mean: Means, power: int = 1) -> float:
    """Variance of d at the last timestep over a power of its mean absolute value."""
    last = Means(mean.totals, mean.steps[-1:])
    return (last("d_squared") - last("d") ** 2) / last("d_abs") ** power if last("d_abs") > 0 else math.nan


def _tgc(mean: Means) -> float:
    """Mean over t of cos(d[t], d[t+1])."""
    cosines = []
    for t in mean.steps:
        if t + 1 < len(mean.totals["n"]):
            now = Means(mean.totals, [t])
            later = Means(mean.totals, [t + 1])
            size = math.sqrt(now("d_squared") * later("d_squared"))
            cosines.append(now("d_product") / size if size > 0 else math.nan)
    return sum(cosines) / len(cosines) if cosines else math.nan


@dataclass(frozen=True)
class Field:
    """A field of a record.

    Attributes:
        kind: JSON type: ``text``, ``number``, ``object`` or ``list``.
        meaning: definition, in plain text.
        unit: unit of the number; empty if dimensionless.
        title: column heading in tables; fields without a title have no column.
        form: format of values in tables.
        rank: priority, from 1, if only some columns fit; 0 if never shown.
        empty: whether the value may be null.
        per_step: whether ``per_step`` contains a list of its values per timestep.
        formula: of a measure that follows from sums.
    """

    kind: str
    meaning: str
    unit: str = ""
    title: str = ""
    form: str = ""
    rank: int = 0
    empty: bool = False
    per_step: bool = False
    formula: Callable[[Means], float] | None = None

    @property
    def described(self) -> str:
        """Meaning and unit in one line."""
        return self.meaning if self.unit in ("", "share") else f"{self.meaning}; in {self.unit}"


_number = partial(Field, "number", form=".3f", empty=True)
_per_step = partial(_number, per_step=True)
LAYER: dict[str, Field] = {
    "name": Field("text", "name of the layer"),
    "beta": _number(
        "decay of the membrane potential u per timestep; mean over channels for a decay per channel",
        title="beta",
        rank=4,
        empty=False,
    ),
    "alpha": _per_step(
        "width of the surrogate gradient; mean over channels and timesteps", "u", title="alpha", rank=7, empty=False
    ),
    "interval": Field("list", "[v_th - alpha/2, v_th + alpha/2], where the rectangular surrogate is not zero", "u"),
    "gamma": _number("mean weight of the tdBN before the neurons; null without tdBN", title="gamma", form=".2f", rank=16),
    "coverage": _per_step(
        "share of membrane potentials u inside the interval: mean of 1[abs(u - v_th) < alpha/2]",
        "share",
        title="coverage",
        formula=lambda mean: mean("inside"),
    ),
    "sg_mean": _per_step(
        "mean surrogate gradient; unlike coverage, it does not necessarily increase with the width",
        "1/u",
        title="E[h]",
        rank=12,
        formula=lambda mean: mean("h"),
    ),
    "sg_sq_mean": _per_step(
        "mean square of the surrogate gradient", "1/u^2", title="E[h^2]", formula=lambda mean: mean("h_squared")
    ),
    "firing_rate": _per_step(
        "mean of the spikes o",
        "spikes per neuron and timestep",
        title="firing rate",
        rank=3,
        formula=lambda mean: mean("spikes"),
    ),
    "silent": _number("share of neurons without a spike in any sample", "share", title="silent"),
    "saturated": _number("share of neurons with a spike at every timestep of every sample", "share", title="saturated"),
    "u_mean": _per_step(
        "mean of the membrane potential u", "v_th", title="u mean", form=".2f", rank=13, formula=lambda mean: mean("u")
    ),
    "u_std": _per_step("standard deviation of u", "v_th", title="u std", form=".2f", rank=8, formula=_std),
    "u_skew": _per_step("skewness of u; 0 for a normal distribution", title="u skew", form=".2f", formula=_skew),
    "u_std_predicted": Field("object", "predictions of u_std", "v_th", per_step=True),
    "u_std_predicted.paper": _number(
        "u_std by the paper's Theorem 1: sqrt(1 + beta^2)", "v_th", title="u std, formula", form=".2f", rank=14
    ),
    "u_std_predicted.with_gamma": _number("the same times abs(gamma) of the tdBN", "v_th", title="with gamma", form=".2f"),
    "u_std_predicted.without_reset": _number(
        "u_std of neurons without reset, for independent inputs: sqrt((1 - beta^(2T)) / (1 - beta^2)); per_step has t for T",
        "v_th",
        title="without reset",
        form=".2f",
    ),
    "xi": _per_step(
        "distance of the mean potential from the threshold, (v_th - mean u) / std u; usually 1 to 3 at the start of training "
        "(Rossbroich et al. 2022)",
        title="xi",
        form=".2f",
        rank=19,
        formula=_xi,
    ),
    "drift": Field("object", "change of u from the first to the last timestep", "v_th"),
    "drift.mean": _number("change of the mean of u", "v_th", title="u drift", form=".2f", rank=20),
    "drift.std": _number("change of the standard deviation of u", "v_th", title="u std drift", form=".2f"),
    "rho": _per_step(
        "correlation of I[t] and I[t+1]; null at the last timestep", title="rho", form=".2f", rank=15, formula=_rho
    ),
    "presynaptic_silent": _number(
        "share of channels or features of the layer's input that are 0 in all samples and timesteps; their weights have no gradient",
        "share",
        title="inputs silent",
        rank=21,
    ),
    "sgv": _number(
        "variance of dL/du at the last timestep over its mean absolute value; proportional to the gradient; null unless measured in detail",
        "dL/du",
        title="SGV",
        form=".2e",
        formula=_sgv,
    ),
    "sgv_relative": _number(
        "the same variance over the square of the mean absolute value; null unless measured in detail",
        title="SGV, relative",
        form=".2g",
        formula=partial(_sgv, power=2),
    ),
    "tgc": _per_step(
        "temporal gradient consistency: cosine of dL/du[t] and dL/du[t+1], mean over t; null at the last timestep, and unless measured in detail",
        title="TGC",
        form=".2f",
        formula=_tgc,
    ),
    "grad_norm": _number(
        "L2 norm of dL/dW, the gradient of the layer's input weights; mean over mini-batches",
        title="|dL/dW|",
        form=".2e",
        rank=1,
    ),
    "grad_ratio": _number("L2 norm of dL/dW over that of the last spiking layer", title="ratio", form=".2g", rank=6),
    "grad_relative": _number("L2 norm of dL/dW over that of W", title="|dL/dW| / |W|", form=".2e"),
    "grad_zero": _per_step(
        "share of entries of dL/du that are exactly zero",
        "share",
        title="dL/du = 0",
        rank=17,
        formula=lambda mean: 1 - mean("du"),
    ),
    "grad_zero_weight": _number(
        "share of entries of dL/dW that are exactly zero; mean over mini-batches", "share", title="dL/dW = 0"
    ),
    "gain": _number(
        "mean square of dL/ds over that of dL/do, where s is the input of the layer's weights and o its spikes; null if s is the network's input",
        title="gain",
        form=".2g",
        rank=10,
    ),
    "gain_between": _number(
        "mean square of dL/do of the layer before over that of this layer; in a chain of layers, gain / k^4 where averages over k x k neurons lie "
        "between the two, and gain where nothing does; null for the first layer",
        title="gain between layers",
        form=".2g",
    ),
    "gain_predicted": Field("object", "predictions of gain"),
    "gain_predicted.kaiming": _number(
        "gain of Kaiming weights and tdBN at the start of training: 8 v_th^2 E[h^2], which is 2 E[h^2] for v_th = 0.5",
        title="gain, formula",
        form=".2g",
        rank=11,
    ),
    "gain_predicted.weights": _number(
        "gain of the layer's own weights and tdBN; null without tdBN", title="gain, weights", form=".2g", rank=18
    ),
    "temporal_share": _number(
        "norm of the part of dL/dW that flows through time, over the norm of dL/dW; mean over mini-batches",
        title="temporal share",
        rank=5,
    ),
    "snr": _number(
        "signal-to-noise ratio, abs(mean) / std of dL/dW over mini-batches, median of entries; null for one mini-batch",
        title="SNR",
        form=".2f",
        rank=9,
    ),
    "mismatch": _number(
        "cosine similarity of dL/dW and finite differences of the loss; null without --mismatch", title="mismatch", rank=2
    ),
    "histogram": Field("object", "counts of u between `edges`, and outside (`below`, `above`)", "v_th"),
    "per_step": Field("object", "lists of T values for the fields marked *"),
    "verdict": Field(
        "text",
        "rule of the worst finding that names the layer; `network` if findings concern the network as a whole only; otherwise `ok`",
    ),
    "reason": Field(
        "text", "the measure behind the verdict and its usual range, or the findings on the network; empty if `ok`"
    ),
}
MEASURES = {key: field for key, field in LAYER.items() if field.title}


def measured(totals: Mapping[str, Sequence[float]], steps: Sequence[int]) -> dict[str, float]:
    """The measures with a formula, over some timesteps."""
    means = Means(totals, steps)
    return {key: field.formula(means) for key, field in LAYER.items() if field.formula is not None}


def value(layer: Values, key: str) -> Any:
    """A layer's value of a field; None if missing."""
    item: Any = layer
    for part in key.split("."):
        item = item.get(part) if isinstance(item, Mapping) else None
    return item


def text(layer: Values, key: str) -> str:
    """A layer's value of a measure, formatted for tables."""
    number = value(layer, key)
    return "-" if number is None else format(number, MEASURES[key].form)


def present(layers: Iterable[Values]) -> dict[str, Field]:
    """The measures of which at least one layer has a value."""
    layers = list(layers)
    return {key: measure for key, measure in MEASURES.items() if any(value(layer, key) is not None for layer in layers)}


def rows(flows: Iterable[Values]) -> list[list[Any]]:
    """Headings, and a row per checkpoint and layer, with all measures except lists and objects."""
    keys = [key for key, field in LAYER.items() if field.kind in ("text", "number")]
    table: list[list[Any]] = [["checkpoint", "method", *(key.replace(".", "_") for key in keys)]]
    for flow in flows:
        table += [[flow["checkpoint"], flow["method"], *(value(layer, key) for key in keys)] for layer in flow["layers"]]
    return table


def fallen(losses: Sequence[Any]) -> float:
    """Share by which losses fell from their start, the mean of the first, to the mean of the last; NaN of fewer than 5."""
    if len(losses) < 5:
        return math.nan
    start = sum(map(float, losses[:3])) / 3
    last = [float(loss) for loss in losses[-min(RECENT, len(losses) // 3) :]]
    return (start - sum(last) / len(last)) / abs(start) if start else math.nan
