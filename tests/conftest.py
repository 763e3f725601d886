import logging
import os
import runpy
import signal
from pathlib import Path

import pytest

from lsgcli import registry

# Tiny tensors gain nothing from more threads. torch reads this when it is first imported, here and in processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

# Tests have no settings of the user's.
for name in [name for name in os.environ if name.startswith("LSG_")]:
    del os.environ[name]

# Tests give programs cache folders of their own; kernels need not be compiled for each of them.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
os.environ.setdefault("NUMBA_CACHE_DIR", str(CACHE / "lsg" / "kernels"))

# A shell script that runs tests in the background (`pytest &`) makes them ignore SIGINT and SIGQUIT. Tests send these signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# Files of tests need not survive a power failure, so nothing waits until they are on the disk.
os.fsync = lambda descriptor: None


@pytest.fixture(autouse=True)
def fresh_logger():
    """Commands set the logger up for a terminal; a test that looks at messages needs it as it is for a library."""
    logger = logging.getLogger("lsg")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def plugins():
    """The examples of docs/plugins, registered."""
    before = set(registry._entries)
    for file in (Path(__file__).parents[1] / "docs" / "plugins").glob("*.py"):
        runpy.run_path(str(file))
    yield
    for kind, name in registry._entries.keys() - before:
        if name not in registry.facts()[kind]:  # those of lsg are not registered again
            del registry._entries[kind, name]


def pytest_collection_modifyitems(items):
    """Tests marked ``slow(first=True)``, of minutes, start first, so that no process waits for one of them at the end.

    Networks and neurons are last: of two processes, which begin with a half each, only one then compiles kernels at first.
    """
    last = ("tests/unit/models/", "tests/unit/neurons/")
    items.sort(key=lambda item: item.nodeid.startswith(last))
    items.sort(key=lambda item: not any(mark.kwargs.get("first") for mark in item.iter_markers("slow")))
