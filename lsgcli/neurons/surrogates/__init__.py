"""Surrogate shapes: one file each.

A surrogate stands in for the derivative of the step function, do/du, in the backward pass. Every shape here is a function

    h(x, width) -> tensor like x,      x = u - v_th,

with **one meaning of width**: the equivalent width, area over peak. Each shape has area 1 and peak 1/width, so that shapes of
one width let the same total gradient pass and differ only in how it is spread. For the rectangular shape the width is the
whole support; for the others gradient also passes, weakly, outside of ``|x| < width/2``.

``width`` is a number or a tensor that broadcasts against x; x has any shape and a floating type.
"""

from collections.abc import Callable

from torch import Tensor

Surrogate = Callable[[Tensor, Tensor], Tensor]
