"""The learnable surrogate gradient: a width that follows from the learned decay."""

from torch import Tensor

from lsgcli.neurons.methods import Method
from lsgcli.registry import register


@register("method", "lsg")
class LearnableSurrogateGradient(Method):
    """The decay is learned per layer, and alpha = 2 v_th sqrt(1 + beta^2).

    The rule puts one predicted standard deviation of the membrane potential on either side of the threshold. ``docs/method.md``
    says under which assumptions that prediction holds, and where it does not.

    Source: Lian et al., IJCAI 2023, section 4.
    """

    learns_decay = True

    def alpha(self, beta: Tensor) -> Tensor:
        """2 v_th sqrt(1 + beta^2), without a gradient of its own."""
        return 2 * self.threshold * (1 + beta.square()).sqrt()
