import logging
import os
from pathlib import Path

import pytest
import torch

# Tests give programs cache folders of their own; kernels need not be compiled for each of them.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
os.environ.setdefault("NUMBA_CACHE_DIR", str(CACHE / "lsg" / "kernels"))


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny tensors gain nothing from more threads, and on a busy machine they wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fresh_logger():
    """Commands set the logger up for a terminal; a test that looks at messages needs it as it is for a library."""
    logger = logging.getLogger("lsg")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
