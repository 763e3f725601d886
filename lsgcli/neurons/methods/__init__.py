"""Methods: how decay and surrogate width are set, one file each.

A method is a class that says whether the decay is learned, and computes the width of the surrogate from a layer's state.
The width enters the backward pass only and receives no gradient.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor


class Method(ABC):
    """A width rule.

    Args:
        threshold: firing threshold v_th.
        width: the width that a method with a fixed width keeps, in units of u.
    """

    learns_decay: ClassVar[bool]

    def __init__(self, threshold: float, width: float):
        self.threshold = threshold
        self.width = width

    @abstractmethod
    def alpha(self, beta: Tensor) -> Tensor:
        """Width alpha of the surrogate for the current decay ``beta`` (detached; 0-dimensional or per channel)."""


class FixedWidth(Method):
    """alpha = ``width``, whatever the decay."""

    def alpha(self, beta: Tensor) -> Tensor:
        """The fixed width, as a tensor like ``beta``."""
        return beta.new_full((), self.width)
