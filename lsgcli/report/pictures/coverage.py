"""Coverage by layer: Figure 5 of Lian et al. (IJCAI 2023)."""

from collections.abc import Sequence
from typing import ClassVar

from lsgcli.registry import register
from lsgcli.report.pictures.base import Flow, Panel, View, legend
from lsgcli.report.pictures.by_layer import by_layer


@register("picture", "coverage")
class Coverage:
    """A line per checkpoint, with an axis from 0; the mean surrogate gradient as second view."""

    place: ClassVar = 10
    title: ClassVar = "Coverage by layer"
    shows: ClassVar = (
        "Fraction of membrane potentials inside the surrogate's interval, where the rectangular surrogate is not zero."
    )
    hides: ClassVar = (
        "Whether higher coverage is better. A wider interval always covers more, but a wider surrogate is also lower: its mean E[h], the "
        "average factor on the gradient, does not necessarily increase."
    )

    def views(self, flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
        return [
            View(name, [Panel(by_layer(flows, labels, key))], legend=legend(labels))
            for name, key in (("coverage", "coverage"), ("mean surrogate E[h]", "sg_mean"))
        ]
