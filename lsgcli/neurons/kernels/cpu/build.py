"""Compiles the workers on first use and caches the machine code between runs.

The cache is in ``$NUMBA_CACHE_DIR``, or else in ``$XDG_CACHE_HOME/lsg/kernels`` (``~/.cache/lsg/kernels``), never in the installed
package, which may be read-only. Its subfolder is named by a digest of these sources, so a changed kernel never uses stale code;
numba itself distinguishes processors and its own versions. If the cache cannot be written, or others can write to it, each process
compiles the kernels.
"""

import hashlib
import logging
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import compiler, config
from numba.core.errors import NumbaError

from lsgcli.errors import StorageError
from lsgcli.neurons.kernels.cpu.workers import Worker
from lsgcli.system import files

log = logging.getLogger("lsg")
_KEPT: list[Any] = []  # keeps functions alive, and so their addresses valid


@cache
def folder() -> Path | None:
    """Cache folder of compiled kernels, or None with a warning if it cannot be written, or others can: numba unpickles its files."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    path = Path(os.environ.get("NUMBA_CACHE_DIR") or files.user_cache() / "kernels") / digest.hexdigest()[:12]
    try:
        files.make_private(path)
    except StorageError as error:
        log.warning("%s; compiling kernels in every run; set NUMBA_CACHE_DIR to a folder of your own", error.message)
        return None
    return path


@cache
def address(make: Callable[..., Worker], dtype: type, *options: Any) -> int:
    """Address of the machine code of the worker ``make(dtype, *options)``, cached for the next process.

    Args:
        make: a function of ``workers``, ``rows`` or ``packing``, which have the ``SIGNATURE`` of their workers.
        dtype: numpy type of the tensors; uint16 is bfloat16.
        options: further arguments.
    """
    worker, signature = make(dtype, *options), sys.modules[make.__module__].SIGNATURE
    path, before = folder(), config.CACHE_DIR
    function = None
    if path is not None:
        config.CACHE_DIR = str(path)
        try:
            function = numba.cfunc(signature, cache=True, pipeline_class=_Compiler)(worker)
        except NumbaError:  # the source text, such as the expression of a surrogate
            raise
        except Exception as error:  # file system errors, and anything that unpickling a damaged file can raise
            log.warning("compiled kernels in %s cannot be used (%s: %s); recompiling", path, type(error).__name__, error)
        finally:
            config.CACHE_DIR = before
    if function is None:
        function = numba.cfunc(signature, pipeline_class=_Compiler if path is None else None)(worker)
    _KEPT.append(function)
    return int(function.address)


class _Compiler(compiler.Compiler):  # type: ignore[misc]  # numba has no types
    """Logs once per process that a worker is compiled rather than loaded, which takes longer."""

    def __init__(self, *args: Any, **options: Any):
        _announce()
        super().__init__(*args, **options)


@cache
def _announce() -> None:
    if path := folder():
        log.info("compiling kernels for these settings and this processor (once); cached in %s", path)
