"""A width that follows the membrane potential as it is, not as it is predicted."""

from torch import Tensor

from lsgcli.neurons.methods import NARROWEST, Layer, Method
from lsgcli.registry import register


@register("method", "measured-sigma")
class MeasuredSigma(Method):
    """The decay is learned, and alpha = 2 sigma, the running average of the measured standard deviation of u.

    What ``lsg`` predicts is measured here. In training, each step takes the standard deviation of u, around its own mean, over
    all samples, neurons and timesteps of the layer together, exactly and without another pass over memory: the pass that
    computes u also sums u and u^2. After the step, sigma moves a tenth of the way towards it (the momentum of tdBN), so that a
    step's width is that of the steps before it. sigma starts at the prediction v_th sqrt(1 + beta^2); evaluation leaves it alone.

    Source: ours, as a control: it tells what the prediction of Lian et al., IJCAI 2023, loses.
    """

    learns_decay = True
    measures = True
    formula = "2 measured std(u)"

    def alpha(self, layer: Layer) -> Tensor:
        """2 sigma."""
        assert layer.sigma is not None
        return 2 * layer.sigma.clamp_min(NARROWEST * layer.threshold)
