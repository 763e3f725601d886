"""Gradient norm by layer, on a logarithmic scale."""

from collections.abc import Sequence
from typing import ClassVar

from lsgcli.registry import register
from lsgcli.report.pictures.base import Flow, Panel, View, legend
from lsgcli.report.pictures.by_layer import by_layer


@register("picture", "gradient-norm")
class GradientNorm:
    """A line per checkpoint, with dotted lines at the thresholds of vanishing and exploding, if in range."""

    place: ClassVar = 20
    title: ClassVar = "Gradient norm by layer"
    shows: ClassVar = (
        "L2 norm of the gradient with respect to the input weights of each layer, on a logarithmic scale. A norm that decreases towards "
        "the input indicates vanishing gradients, an increasing norm exploding ones. Dotted lines are the thresholds of these verdicts, if "
        "in range."
    )
    hides: ClassVar = (
        "Whether the direction of the gradient is useful, because a surrogate gradient is not the gradient of the loss. Layers of different "
        "sizes have different norms even without vanishing or exploding."
    )

    def views(self, flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
        drawing = by_layer(flows, labels, "grad_norm", limits=[_limits(flow) for flow in flows], log=True)
        return [View("gradient-norm", [Panel(drawing)], legend=legend(labels))]


def _limits(flow: Flow) -> list[float]:
    """Gradient norms at the thresholds of vanishing and exploding, which are relative to the last layer's norm."""
    last = flow["layers"][-1]["grad_norm"]
    thresholds = flow.get("thresholds") or {}
    return [last * thresholds[name] for name in ("vanishing", "exploding") if last and name in thresholds]
