"""A learned decay under a surrogate of fixed width: the middle row of the paper's ablation."""

from lsgcli.neurons.methods import FixedWidth
from lsgcli.registry import register


@register("method", "trainable-decay")
class TrainableDecay(FixedWidth):
    """The decay is learned, the width is fixed.

    Source: Lian et al., IJCAI 2023, Table 1; the idea of a learned time constant is that of Fang et al., "Incorporating Learnable
    Membrane Time Constant to Enhance Learning of Spiking Neural Networks", ICCV 2021.
    """

    learns_decay = True
