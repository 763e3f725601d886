"""Export formats: one file each. Called as a function, ``lsg.export(...)``, it is :func:`lsgcli.api.export`."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """This package, whose name is also that of a function of ``import lsgcli as lsg``."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module("lsgcli.api").export(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
