"""The ``triton`` backend: memory layout, surrogates, kernels, and the autograd function that launches them.

Only ``shapes`` and ``kernels`` import Triton; ``sequence`` and the backend import them lazily.
"""

import os


def interpreted() -> bool:
    """Whether Triton's interpreter is enabled, which runs kernels on the CPU; Triton reads the variable on import."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in {"1", "true", "yes", "on", "y"}
