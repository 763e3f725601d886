"""The learnable surrogate gradient: a width that follows from the learned decay."""

from torch import Tensor

from lsgcli.neurons.methods import Layer, Method
from lsgcli.registry import register


@register("method", "lsg")
class LearnableSurrogateGradient(Method):
    """The decay is learned, and alpha = 2 v_th sqrt(1 + beta^2).

    The rule puts one predicted standard deviation of the membrane potential on either side of the threshold. ``docs/method.md``
    says under which assumptions that prediction holds, and where it does not.

    Source: Lian et al., "Learnable Surrogate Gradient for Direct Training Spiking Neural Networks", IJCAI 2023, section 4,
    doi 10.24963/ijcai.2023/335.
    """

    learns_decay = True
    formula = "2 v_th sqrt(1+beta^2)"

    def alpha(self, layer: Layer) -> Tensor:
        """2 v_th sqrt(1 + beta^2), without a gradient of its own."""
        return 2 * layer.threshold * (1 + layer.beta.square()).sqrt()
