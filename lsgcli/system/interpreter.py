"""What interpreters import and warn about: not the modules of the working directory, which may be a stranger's. Imports nothing heavy."""

import os
import sys
import warnings

PYTHON = (sys.executable, "-P")


def command(module: str, *words: str) -> list[str]:
    """The command line that runs a module, such as ``lsgcli`` itself, in a new interpreter."""
    return [*PYTHON, "-m", module, *words]


def protect_children() -> None:
    """Keep the working directory out of the module path of interpreters that libraries start: multiprocessing, torchrun, submitit."""
    os.environ["PYTHONSAFEPATH"] = "1"


def filter_warnings() -> None:
    """Drop Pillow's warnings about odd images, and let numba's about an invalid environment variable be errors."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.filterwarnings("error", "Environment variable 'NUMBA", RuntimeWarning)
