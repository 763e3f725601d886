"""AEDAT 2.0 as other libraries read it: oracles for what is read."""

import importlib
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest


def spikingjelly(path):
    """Its loader of CIFAR10-DVS's original files: (column, row, t, on) of the upright recording."""
    package = pytest.importorskip("spikingjelly", reason="spikingjelly is not installed")
    datasets = "spikingjelly.datasets"
    if datasets not in sys.modules:
        # An empty package in its place: the real one imports all of its data sets, and torchaudio for one of them.
        sys.modules[datasets] = types.ModuleType(datasets)
        sys.modules[datasets].__path__ = [str(Path(package.__file__).parent / "datasets")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = importlib.import_module(f"{datasets}.cifar10_dvs")._load_origin_data(path)
    return tuple(np.asarray(found[name]).astype(np.int64) for name in ("x", "y", "t", "p"))


def tonic(path):
    """Its parsers of header and words, and the address of a DVS128 by hand: (bits 1-7, bits 8-14, t, on)."""
    from tonic.io import get_aer_events_from_file, read_aedat_header_from_file

    version, start, _ = read_aedat_header_from_file(str(path))
    words = get_aer_events_from_file(str(path), version, start)
    address = words["address"].astype(np.int64)
    return address >> 1 & 0x7F, address >> 8 & 0x7F, words["timeStamp"].astype(np.int64), 1 - (address & 1)
