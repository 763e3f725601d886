"""Methods: how decay and surrogate width are set, one file each.

A method is a class that says whether the decay is learned, and computes the width of the surrogate from a layer's state. The
width enters the backward pass only and receives no gradient.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor

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
        stores_width: whether each layer has a fixed width of its own, stored with its weights.
        formula: of the width, in a few characters, for tables.
    """

    learns_decay: ClassVar[bool]
    measures: ClassVar[bool] = False
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

    formula = "--width"

    def alpha(self, layer: Layer) -> Tensor:
        """The fixed width."""
        return layer.width
