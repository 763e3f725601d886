"""Measurements on networks, returned as plain records.

:func:`inspect` measures the gradient flow of any spiking network, of lsg or another library.
"""

from lsgcli.analysis.dynamics import (
    Dynamics,
    decayed_then_subtracted,
    no_reset,
    reset_by_subtraction,
    reset_to_zero,
)
from lsgcli.analysis.gradflow import inspect
from lsgcli.analysis.gradients import Sample
from lsgcli.analysis.hooks import Adapter, Layer, equivalent_width, height_of, pairs
from lsgcli.analysis.verdicts import Thresholds

__all__ = [
    "Adapter",
    "Dynamics",
    "Layer",
    "Sample",
    "Thresholds",
    "decayed_then_subtracted",
    "equivalent_width",
    "height_of",
    "inspect",
    "no_reset",
    "pairs",
    "reset_by_subtraction",
    "reset_to_zero",
]
