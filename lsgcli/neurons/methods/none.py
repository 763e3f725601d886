"""Nothing learned but the weights: the baseline of the paper's ablation."""

from lsgcli.neurons.methods import FixedWidth
from lsgcli.registry import register


@register("method", "none")
class Fixed(FixedWidth):
    """Decay and width are fixed."""

    learns_decay = False
