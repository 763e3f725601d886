"""Surrogates as Triton functions h(x, width) of tiles, from the expressions in ``lsgcli.neurons.surrogates``; ``width`` broadcasts against x."""

import linecache
import math
from functools import cache
from typing import Any

import triton
import triton.language as tl

from lsgcli.neurons.surrogates import FORMS, Surrogate

PI = tl.constexpr(math.pi)


def compiled(surrogate: Surrogate) -> Any:
    """The Triton function of a surrogate; None if it has no expression for Triton."""
    expression = FORMS[surrogate].triton if surrogate in FORMS else ""
    return _function(surrogate.__name__, expression) if expression else None  # type: ignore[attr-defined]


@cache
def _function(name: str, expression: str) -> Any:
    steps, _, value = expression.rpartition(";")
    source, file = f"def {name}(x, width):\n    {steps}\n    return {value}\n", f"<{name}: {expression}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # Triton compiles the source text
    namespace = {"tl": tl, "pi": PI, "__name__": __name__}
    exec(compile(source, file, "exec"), namespace)
    return triton.jit(namespace[name])
