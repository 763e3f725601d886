"""Methods, which determine membrane decay and surrogate width.

A method defines whether the decay is learned, and computes the surrogate width from the state of a layer. The width affects only the
backward pass and receives no gradient.
"""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from lsgcli.registry import register

NARROWEST = 0.01  # lower bound of measured and learned widths, in units of v_th, to avoid division by 0 in silent layers


class LayerState(NamedTuple):
    """State of a layer of neurons from which a method computes the width. Tensors are detached.

    Attributes:
        T: number of timesteps of the input current.
        threshold: v_th.
        beta: decay per timestep, () per layer or (C,) per channel.
        width: fixed width of the layer, () or (C,), in units of u: the setting, or the stored width if the method ``stores_width``.
        gamma: mean weight of the tdBN before the neurons, (); 1 without tdBN.
        sigma: running average of the standard deviation of u, (); None unless the method ``measures``.
    """

    T: int
    threshold: float
    beta: Tensor
    width: Tensor
    gamma: Tensor
    sigma: Tensor | None = None


class Method:
    """Base class of methods.

    Attributes:
        learns_decay: whether the decay is a parameter.
        measures: whether the layer tracks a running average of the standard deviation of u in training.
        takes_width: whether alpha is the setting ``width``.
        stores_width: whether each layer stores a fixed width with its weights.
        formula: short formula of the width, for tables.
    """

    learns_decay: ClassVar[bool]
    measures: ClassVar[bool] = False
    takes_width: ClassVar[bool] = False
    stores_width: ClassVar[bool] = False
    formula: ClassVar[str]

    def alpha(self, layer: LayerState) -> Tensor:
        """Width alpha of the surrogate, in units of u; by default that of the layer.

        Returns:
            () or the shape of ``layer.beta``; with a leading axis T if the width depends on the timestep.
        """
        return layer.width


class FixedWidth(Method):
    """alpha is the setting ``--width``, independent of the state."""

    takes_width = True
    formula = "--width"


@register("method", "none")
class Fixed(FixedWidth):
    """Decay and width are fixed."""

    learns_decay = False


@register("method", "trainable-decay")
class TrainableDecay(FixedWidth):
    """The decay is learned, the width is fixed.

    Source: Lian et al., IJCAI 2023, Table 1; learned time constants were introduced by Fang et al., "Incorporating Learnable
    Membrane Time Constant to Enhance Learning of Spiking Neural Networks", ICCV 2021.
    """

    learns_decay = True


@register("method", "lsg")
class LearnableSurrogateGradient(Method):
    """The decay is learned, and alpha = 2 v_th sqrt(1 + beta^2).

    The surrogate extends one predicted standard deviation of the membrane potential to either side of the threshold.
    ``docs/method.md`` discusses the assumptions of this prediction.

    Source: Lian et al., "Learnable Surrogate Gradient for Direct Training Spiking Neural Networks", IJCAI 2023, section 4,
    doi 10.24963/ijcai.2023/335.
    """

    learns_decay = True
    formula = "2 v_th sqrt(1+beta^2)"

    def alpha(self, layer: LayerState) -> Tensor:
        """2 v_th sqrt(1 + beta^2), without a gradient of its own."""
        return 2 * layer.threshold * (1 + layer.beta.square()).sqrt()


@register("method", "matched-width")
class MatchedWidth(Method):
    """The decay is learned, and the width of each layer is fixed to its value in another checkpoint (``--width-from``).

    A control for ``lsg``: equal accuracy indicates that the final widths matter, not their changes during training. The widths are
    stored with the weights, so the other checkpoint is needed only once; layers without a stored width use ``--width``.

    Source: this package, as a control for Lian et al., IJCAI 2023.
    """

    learns_decay = True
    stores_width = True
    formula = "that of --width-from"


@register("method", "measured-sigma")
class MeasuredSigma(Method):
    """The decay is learned, and alpha = 2 sigma, the running average of the measured standard deviation of u.

    Measures the standard deviation that ``lsg`` predicts. Each training step computes the standard deviation of u over all samples,
    neurons and timesteps of the layer, from sums of u and u^2 accumulated while u is computed. After the step, sigma is updated with
    momentum 0.1, as in tdBN, so the width of a step depends only on earlier steps. sigma is initialised to the prediction
    v_th sqrt(1 + beta^2) and not updated in evaluation.

    Source: this package, as a control for the prediction of Lian et al., IJCAI 2023.
    """

    learns_decay = True
    measures = True
    formula = "2 measured std(u)"

    def alpha(self, layer: LayerState) -> Tensor:
        """2 sigma."""
        assert layer.sigma is not None
        return 2 * layer.sigma.clamp_min(NARROWEST * layer.threshold)


@register("method", "mpd-agl")
class MembranePotentialDynamics(Method):
    """The decay is learned, and alpha = 2 gamma v_th at the first timestep, 2 gamma v_th sqrt(1 + beta^2) at later timesteps.

    gamma is the mean weight of the layer's tdBN. A current with standard deviation gamma v_th gives u a standard deviation of
    gamma v_th at t = 1 and gamma v_th sqrt(1 + beta^2) at t = 2 (without reset, for inputs uncorrelated in time). The absolute value of
    gamma is used, without a gradient; without tdBN, gamma is 1. If two branches are summed, gamma is that of the branch that
    contains the neurons. Unlike in the source, the decay is learned as in ``lsg``, so that the two methods differ only in the
    width.

    Source: Jiang et al., "Adaptive Gradient Learning for Spiking Neural Networks by Exploiting Membrane Potential Dynamics",
    IJCAI 2025, doi 10.24963/ijcai.2025/464.
    """

    learns_decay = True
    formula = "2 gamma v_th, then times sqrt(1+beta^2)"

    def alpha(self, layer: LayerState) -> Tensor:
        """(T, ...): one width for the first timestep, another for all later ones."""
        first = 2 * layer.threshold * layer.gamma.abs().clamp_min(NARROWEST)
        later = first * (1 + layer.beta.square()).sqrt()
        return torch.stack([first.expand_as(later), *[later] * (layer.T - 1)])
