"""Start other Python interpreters without the modules of the working directory, which may be a stranger's. Imports nothing heavy."""

import os
import sys


def command(module: str, *words: str) -> list[str]:
    """The command line that runs a module, such as ``lsgcli`` itself, in a new interpreter."""
    return [sys.executable, "-P", "-m", module, *words]


def protect_children() -> None:
    """Keep the working directory out of the module path of interpreters that libraries start: multiprocessing, torchrun, submitit, Ray."""
    os.environ["PYTHONSAFEPATH"] = "1"
