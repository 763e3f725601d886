"""Measurements on networks, returned as plain records.

:func:`inspect` measures the gradient flow of any spiking network, of lsg or another library. Names are loaded on first use, because the
command line reads :mod:`lsgcli.analysis.advice` and :mod:`lsgcli.analysis.measures` without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lsgcli.analysis.dynamics import Dynamics
    from lsgcli.analysis.energy import synops
    from lsgcli.analysis.gradflow import inspect
    from lsgcli.analysis.gradients import Sample
    from lsgcli.analysis.raster import activity
    from lsgcli.analysis.watchers import Adapter, Layer, equivalent_width, height_of, pairs

_MODULES = {
    "Adapter": "watchers",
    "Dynamics": "dynamics",
    "Layer": "watchers",
    "Sample": "gradients",
    "activity": "raster",
    "equivalent_width": "watchers",
    "height_of": "watchers",
    "inspect": "gradflow",
    "pairs": "watchers",
    "synops": "energy",
}
__all__ = [
    "Adapter",
    "Dynamics",
    "Layer",
    "Sample",
    "activity",
    "equivalent_width",
    "height_of",
    "inspect",
    "pairs",
    "synops",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
