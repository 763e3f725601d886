"""The measures of a gradient-flow record, as columns of tables: what they are called, how they are written, what they mean.

Definitions with their equations are in ``docs/gradient-flow.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measure:
    """One measure of a layer.

    Attributes:
        key: its place in a layer's record, with a dot between the levels.
        title: head of its column.
        form: format of a value.
        meaning: in a few words.
    """

    key: str
    title: str
    form: str
    meaning: str

    def of(self, layer: Mapping[str, Any]) -> float | None:
        """The layer's value; None where it has none."""
        value: Any = layer
        for part in self.key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value

    def text(self, layer: Mapping[str, Any]) -> str:
        """The layer's value as a table shows it."""
        value = self.of(layer)
        return "-" if value is None else format(value, self.form)


MEASURES = (
    Measure("beta", "beta", ".3f", "decay of the membrane potential from one step to the next"),
    Measure("alpha", "alpha", ".3f", "width of the surrogate gradient, in units of u"),
    Measure("coverage", "coverage", ".3f", "share of membrane potentials inside the interval where gradient can pass"),
    Measure("sg_mean", "E[h]", ".3f", "mean surrogate gradient; unlike coverage it does not reward any widening"),
    Measure("sg_sq_mean", "E[h^2]", ".3f", "mean square of the surrogate gradient"),
    Measure("firing_rate", "firing rate", ".3f", "spikes per neuron and step"),
    Measure("silent", "silent", ".3f", "share of neurons without a spike in any sample"),
    Measure("saturated", "saturated", ".3f", "share of neurons with a spike at every step of every sample"),
    Measure("u_mean", "u mean", ".2f", "mean membrane potential, in units of v_th"),
    Measure("u_std", "u std", ".2f", "its standard deviation, in units of v_th"),
    Measure("u_std_predicted.paper", "u std, formula", ".2f", "the prediction of the paper, sqrt(1 + beta^2)"),
    Measure("u_std_predicted.with_gamma", "with gamma", ".2f", "the same times the mean gamma of the layer's tdBN"),
    Measure(
        "u_std_predicted.without_reset", "without reset", ".2f", "what independent inputs give at the last step without a reset"
    ),
    Measure("u_skew", "u skew", ".2f", "its skewness; 0 for a normal distribution"),
    Measure("gamma", "gamma", ".2f", "mean weight of the layer's tdBN"),
    Measure("rho", "rho", ".2f", "correlation of the currents of successive steps; the prediction takes 0"),
    Measure("grad_norm", "|dL/dW|", ".2e", "L2 norm of the gradient of the weights that feed the layer"),
    Measure("grad_ratio", "ratio", ".2g", "that norm over the one of the last layer of neurons"),
    Measure("grad_relative", "|dL/dW| / |W|", ".2e", "that norm over the norm of the weights"),
    Measure("grad_zero", "dL/du = 0", ".3f", "share of entries of dL/du that are exactly zero"),
    Measure("grad_zero_weight", "dL/dW = 0", ".3f", "share of entries of dL/dW that are exactly zero"),
    Measure("temporal_share", "temporal share", ".3f", "part of dL/dW that came through the recurrence over time"),
    Measure("snr", "SNR", ".2f", "mean over standard deviation of dL/dW over mini-batches, median of entries"),
    Measure("mismatch", "mismatch", ".3f", "cosine of the surrogate gradient and a finite difference of the loss"),
)

# Verdict -> the rule that gives it, with the threshold's place.
RULES = {
    "silent": "firing rate below {:g}",
    "saturated": "firing rate above {:g}",
    "blocked": "share of zero entries of dL/du above {:g}",
    "vanishing": "ratio below {:g}",
    "exploding": "ratio above {:g}, or not a number",
}


def present(layers: list[dict[str, Any]]) -> list[Measure]:
    """The measures that at least one of the layers has."""
    return [measure for measure in MEASURES if any(measure.of(layer) is not None for layer in layers)]


def measure(key: str) -> Measure:
    """The measure with this key."""
    return next(one for one in MEASURES if one.key == key)
