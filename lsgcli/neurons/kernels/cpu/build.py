"""Compiles the workers when they are first needed, and keeps the machine code between runs.

It is kept in ``$NUMBA_CACHE_DIR``, or else in ``$XDG_CACHE_HOME/lsg/kernels`` (``~/.cache/lsg/kernels``), never beside the
installed package, which may be read-only. The folder in there is named by a digest of these sources, so that a changed kernel is
never answered with the old one's code; numba itself tells processors and its own versions apart. Where nothing can be written,
kernels are compiled anew in each process.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import config

from lsgcli.neurons.kernels.cpu import watching, workers
from lsgcli.neurons.kernels.cpu.shapes import SCALARS
from lsgcli.neurons.surrogates import Surrogate

log = logging.getLogger("lsg")


@cache
def folder() -> Path | None:
    """Where compiled kernels are kept, or None where they cannot be."""
    base = os.environ.get("NUMBA_CACHE_DIR")
    if not base:
        base = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lsg", "kernels")
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    path = Path(base) / digest.hexdigest()[:12]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return path if os.access(path, os.W_OK) else None


def _compiled(worker: workers.Worker, keep: bool = True) -> int:
    """The address of a worker's machine code, which is kept for the next process unless that is unwanted."""
    path, before = folder() if keep else None, config.CACHE_DIR
    if keep:
        _announce(path)
    function = None
    if path is not None:
        config.CACHE_DIR = str(path)
        try:
            function = numba.cfunc(workers.SIGNATURE, cache=True)(worker)
        except Exception as error:  # of the file system, or of what a damaged file unpickles to: as many as there are damages
            log.warning("compiled kernels in %s cannot be used (%s: %s); compiling anew", path, type(error).__name__, error)
        finally:
            config.CACHE_DIR = before
    if function is None:
        function = numba.cfunc(workers.SIGNATURE)(worker)
    _KEPT.append(function)
    return int(function.address)


@cache
def _announce(path: Path | None) -> None:
    """Say why the first step takes longer, once."""
    if path is None:
        log.warning("compiling kernels in every run: they cannot be kept; set NUMBA_CACHE_DIR to a folder that can be written")
    elif not any(path.rglob("*.nbi")):
        log.info("compiling kernels for this processor, once; they are kept in %s", path)


_KEPT: list[Any] = []  # an address is good for as long as its function lives


@cache
def statistics(dtype: type) -> int:
    """Address of the worker for batch statistics of float32 or (uint16) bfloat16."""
    return _compiled(workers.statistics(dtype))


@cache
def forward(dtype: type) -> int:
    """Address of the worker for the forward pass."""
    return _compiled(workers.forward(dtype))


@cache
def backward(dtype: type, surrogate: Surrogate) -> int:
    """Address of the worker for the backward pass with a shape of SCALARS."""
    return _of_shape(workers.backward, dtype, surrogate)


@cache
def watch(dtype: type, surrogate: Surrogate) -> int:
    """Address of the worker that counts what neurons do, with a shape of SCALARS."""
    return _of_shape(watching.watch, dtype, surrogate)


def _of_shape(make: Callable[[type, Any], workers.Worker], dtype: type, surrogate: Surrogate) -> int:
    shape = SCALARS[surrogate]
    # The digest in the folder's name does not know the sources of a plug-in's shape.
    return _compiled(make(dtype, shape), keep=shape.__module__.startswith("lsgcli."))
