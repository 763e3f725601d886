"""Coverage by layer: Figure 5 of Lian et al. (IJCAI 2023)."""

from collections.abc import Sequence
from typing import ClassVar

from lsgcli.registry import register
from lsgcli.report.pictures.base import Flow, Panel, View, legend
from lsgcli.report.pictures.by_layer import by_layer


@register("picture", "coverage")
class Coverage:
    """A line per checkpoint, from 0, so that a small difference looks small; the mean surrogate gradient as another choice."""

    place: ClassVar = 10
    title: ClassVar = "Coverage by layer"
    shows: ClassVar = "The share of membrane potentials that lie inside the surrogate's interval, where gradient can pass."
    hides: ClassVar = (
        "Whether more of it is better. Any wider interval covers more, but a wider surrogate is also lower: its mean, E[h], is what "
        "gradient is multiplied by on average, and need not grow."
    )

    def views(self, flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
        return [
            View(name, [Panel(by_layer(flows, labels, key))], legend=legend(labels))
            for name, key in (("coverage", "coverage"), ("mean surrogate E[h]", "sg_mean"))
        ]
