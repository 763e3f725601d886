"""The width that another network has ended with, from the first step on: the control that tells whether adapting matters."""

from torch import Tensor

from lsgcli.neurons.methods import Layer, Method
from lsgcli.registry import register


@register("method", "matched-width")
class MatchedWidth(Method):
    """The decay is learned, and each layer keeps the width that it has in another checkpoint (``--width-from``).

    If it does as well as ``lsg``, what helped was the width that was found, not that it moved. The widths are stored with the
    layers' weights, so that the checkpoint that they came from is not needed again; a layer that was given none has ``--width``.

    Source: ours, as a control for Lian et al., IJCAI 2023.
    """

    learns_decay = True
    stores_width = True
    formula = "that of --width-from"

    def alpha(self, layer: Layer) -> Tensor:
        """The layer's own width."""
        return layer.width
