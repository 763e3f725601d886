"""Decay beta and surrogate width alpha over training: Figures 6 and 7 of Lian et al. (IJCAI 2023)."""

from collections.abc import Sequence
from typing import ClassVar

from lsgcli.registry import register
from lsgcli.report.axes import Scale
from lsgcli.report.charts import line_drawing
from lsgcli.report.colours import Style, ordered
from lsgcli.report.pictures.base import Flow, Panel, View


@register("picture", "training")
class Training:
    """Panels for beta in the first row and alpha in the second; a column per checkpoint, a line per layer."""

    place: ClassVar = 50
    title: ClassVar = "Decay and width over training"
    shows: ClassVar = (
        "Decay beta and surrogate width alpha of each layer after each epoch of the checkpoint's run; lines are numbered by layer, "
        "from blue at the input to orange at the output."
    )
    hides: ClassVar = (
        "Whether a change improved the result: this is a single run with one seed. If the method derives alpha from beta, the second "
        "row shows the same changes on another scale."
    )

    def views(self, flows: Sequence[Flow], labels: Sequence[str]) -> list[View]:
        histories = [flow.get("history") for flow in flows]
        if not any(histories):
            return []
        panels = []
        for key, title in (("beta", "decay beta"), ("alpha", "width alpha")):
            y = Scale.over(v for history in histories if history for layer in history["layers"].values() for v in layer[key])
            for history, label in zip(histories, labels, strict=True):
                if not history:
                    panels.append(Panel(None, label, "No gradient-flow.jsonl in the directory of this checkpoint."))
                    continue
                lines = {f"layer {i} {name}": layer[key] for i, (name, layer) in enumerate(history["layers"].items(), 1)}
                first = history["epochs"][0] if history["epochs"] else 0
                colours = [Style(colour) for colour in ordered(len(lines))]
                panels.append(
                    Panel(
                        line_drawing(lines, colours, x_label="epoch", y_label=title, x_first=first + 1, y=y, numbered=True),
                        label if len(flows) > 1 else "",
                    )
                )
        return [View("training", panels, len(flows) if len(flows) > 1 else 2)]
