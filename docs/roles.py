"""Griffe extension: references in docstrings, such as :class:`~lsgcli.neurons.LIF`, as code on the site."""

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:class|func|meth|data|attr|mod):`(~?)([\w.]+)`")


class Roles(Extension):
    """``:meth:`~a.b.c``` becomes ```c```."""

    def on_instance(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = ROLE.sub(
                lambda found: f"`{found[2].rpartition('.')[2] if found[1] else found[2]}`", obj.docstring.value
            )
