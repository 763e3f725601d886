"""Methods: how decay and surrogate width are set.

A method is a class that says whether the decay is learned, and computes the width of the surrogate from a layer's state. The
width enters the backward pass only and receives no gradient.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from lsgcli.registry import register

NARROWEST = 0.01  # of a width that is measured or learned, in units of v_th: it is divided by, and a dead layer has sigma = 0


class Layer(NamedTuple):
    """What a width may follow from: the present state of a layer of neurons. Tensors are detached.

    Attributes:
        T: timesteps of the current that is about to enter.
        threshold: v_th.
        beta: decay per timestep: () one of the layer, or (C,) one of each channel.
        width: the layer's own fixed width, in units of u: the setting, or, where the method ``stores_width``, what is stored with
            the layer, () or (C,).
        gamma: mean weight of the tdBN before the neurons, (); 1 where there is none.
        sigma: running average of the measured standard deviation of u, (); None unless the method ``measures``.
    """

    T: int
    threshold: float
    beta: Tensor
    width: Tensor
    gamma: Tensor
    sigma: Tensor | None = None


class Method(ABC):
    """A width rule.

    Attributes:
        learns_decay: whether the decay is a parameter.
        measures: whether the layer measures the standard deviation of u in training, and keeps its running average.
        takes_width: whether alpha is the setting ``width``.
        stores_width: whether each layer has a fixed width of its own, stored with its weights.
        formula: of the width, in a few characters, for tables.
    """

    learns_decay: ClassVar[bool]
    measures: ClassVar[bool] = False
    takes_width: ClassVar[bool] = False
    stores_width: ClassVar[bool] = False
    formula: ClassVar[str]

    @abstractmethod
    def alpha(self, layer: Layer) -> Tensor:
        """Width alpha of the surrogate, in units of u.

        Returns:
            () or like ``layer.beta``; or, where it differs between timesteps, like ``layer.beta`` with a leading axis T.
        """


class FixedWidth(Method):
    """alpha is the setting ``--width``, whatever the layer's state."""

    takes_width = True
    formula = "--width"

    def alpha(self, layer: Layer) -> Tensor:
        """The fixed width."""
        return layer.width


@register("method", "none")
class Fixed(FixedWidth):
    """Decay and width are fixed."""

    learns_decay = False


@register("method", "trainable-decay")
class TrainableDecay(FixedWidth):
    """The decay is learned, the width is fixed.

    Source: Lian et al., IJCAI 2023, Table 1; the idea of a learned time constant is that of Fang et al., "Incorporating Learnable
    Membrane Time Constant to Enhance Learning of Spiking Neural Networks", ICCV 2021.
    """

    learns_decay = True


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


@register("method", "mpd-agl")
class MembranePotentialDynamics(Method):
    """The decay is learned, and alpha = 2 gamma v_th at the first timestep, 2 gamma v_th sqrt(1 + beta^2) after it.

    gamma is the mean weight of the layer's tdBN, which scales the current: a current of standard deviation gamma v_th gives u that
    of gamma v_th at t = 1, and of gamma v_th sqrt(1 + beta^2) at t = 2 (without reset, inputs uncorrelated in time). Its absolute
    value is taken, it gets no gradient from here, and where no tdBN stands before the neurons it is 1. Where two branches are
    summed, it is that of the branch that ends in the neurons. That the decay is learned as under ``lsg``, so that the two differ
    in their width alone, is our choice.

    Source: Jiang et al., "Adaptive Gradient Learning for Spiking Neural Networks by Exploiting Membrane Potential Dynamics",
    IJCAI 2025, doi 10.24963/ijcai.2025/464.
    """

    learns_decay = True
    formula = "2 gamma v_th, then times sqrt(1+beta^2)"

    def alpha(self, layer: Layer) -> Tensor:
        """(T, ...): one width for the first timestep, another for all others."""
        first = 2 * layer.threshold * layer.gamma.abs().clamp_min(NARROWEST)
        later = first * (1 + layer.beta.square()).sqrt()
        return torch.stack([first.expand_as(later), *[later] * (layer.T - 1)])
