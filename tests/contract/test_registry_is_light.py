"""Names are listed without importing the things: help pages and completion must not wait for torch."""

import subprocess
import sys

HEAVY = ("torch", "torchvision", "tonic", "numba", "scipy", "sklearn", "matplotlib")
SCRIPT = f"""
import sys
from lsgcli import config, registry
listed = {{kind: registry.names(kind) for kind in registry.PLACES}}
assert all(listed[kind] for kind in ("surrogate", "method", "backend", "arch", "dataset", "loss")), listed
assert not config.check({{"method": "lsg", "surrogate": "atan", "backend": "auto", "arch": "vggsnn"}})
assert not config.check({{"dataset": "tonic:SHD"}}) and config.check({{"dataset": "tonic:"}})
print(*(name for name in {HEAVY!r} if name in sys.modules))
"""


def test_listing_all_names_imports_nothing_heavy():
    """A fresh interpreter lists every kind and checks a configuration, and has imported none of the large packages."""
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == []


def test_training_imports_no_module_that_only_posix_systems_have():
    source = """
import sys
sys.modules |= {"fcntl": None, "resource": None, "termios": None, "pwd": None}
from lsgcli import memory, run, streaming
from lsgcli.cli.app import app
memory.check_address_space()
assert memory.peak_bytes() == 0
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
