"""Gradient norm by layer, on a logarithmic scale."""

from collections.abc import Sequence
from typing import ClassVar

from lsgcli.registry import register
from lsgcli.report.pictures.base import Flow, Panel, View, legend
from lsgcli.report.pictures.by_layer import by_layer


@register("picture", "gradient-norm")
class GradientNorm:
    """A line per checkpoint; dotted where vanishing and exploding begin, if that is in sight."""

    place: ClassVar = 20
    title: ClassVar = "Gradient norm by layer"
    shows: ClassVar = (
        "The L2 norm of the loss's gradient for the weights that feed each layer, on a logarithmic scale: falling towards the input "
        "it vanishes, rising it explodes. Dotted lines, where in sight, are the limits of those verdicts."
    )
    hides: ClassVar = (
        "Whether the gradient points somewhere useful, since a surrogate gradient is not the loss's own slope; and layers of "
        "different sizes have different norms in any case."
    )

    def views(self, flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
        drawing = by_layer(flows, labels, "grad_norm", limits=[_limits(flow) for flow in flows], log=True)
        return [View("gradient-norm", [Panel(drawing)], legend=legend(labels))]


def _limits(flow: Flow) -> list[float]:
    """Norms where vanishing and exploding begin: both verdicts are on the ratio to the last layer's norm."""
    last = flow["layers"][-1]["grad_norm"]
    thresholds = flow.get("thresholds") or {}
    return [last * thresholds[name] for name in ("vanishing", "exploding") if last and name in thresholds]
