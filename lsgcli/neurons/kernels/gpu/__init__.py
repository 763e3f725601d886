"""The parts of the ``triton`` backend: layout of memory, surrogate shapes, kernels, and the autograd function that launches them.

Only ``shapes`` and ``kernels`` import Triton, and only ``sequence`` and the backend import these, when they run.
"""

import os


def interpreted() -> bool:
    """Whether Triton's interpreter is asked for, which runs kernels on the CPU; Triton looks when it is imported."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in {"1", "true", "yes", "on", "y"}
