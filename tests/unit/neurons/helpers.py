"""Running a backend with gradients, and comparing, for the tests of neurons and of networks."""

from typing import NamedTuple

import numpy as np
import torch

from lsgcli import registry
from lsgcli.neurons import LIFParameters

EAGER = [name for name in registry.names("backend") if not registry.get("backend", name).compiles]  # others: test_compiled.py
AVAILABLE = [name for name in EAGER if registry.get("backend", name).available(torch.device("cpu"))]
BACKENDS = ["autograd", "reference"]  # in float64 the others compute as the reference: see test_fused.py
SURROGATES = registry.names("surrogate")
# The width rules: methods that determine nothing but decay and width.
METHODS = [name for name in registry.names("method") if registry.get("method", name).neuron is None]


class Run(NamedTuple):
    """What a backend returned, and the gradients that arrived."""

    spikes: torch.Tensor
    d_current: torch.Tensor
    d_beta: torch.Tensor


def normal(*shape, seed=0, mean=0.0, std=1.0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(std).add(mean).to(dtype)


def parameters(beta=0.5, alpha=1.0, threshold=0.5, surrogate="rectangular", dtype=torch.float64):
    """LIFParameters of numbers or tensors; beta is a leaf that takes a gradient."""
    beta = torch.as_tensor(beta, dtype=dtype).clone().requires_grad_()
    return LIFParameters(beta, torch.as_tensor(alpha, dtype=dtype), threshold, registry.get("surrogate", surrogate))


def run_backend(name, leaf, grad, p, *, shape=lambda x: x, overwrite=False):
    """Spikes of the current ``shape(leaf)``, and the gradients of ``leaf`` and of ``p.beta`` for ``grad`` at the spikes."""
    leaf = leaf.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    beta = p.beta.detach().clone().requires_grad_()
    spikes = registry.get("backend", name)(shape(leaf), p._replace(beta=beta), overwrite)
    return Run(spikes.detach(), *torch.autograd.grad(spikes, (leaf, beta), grad))


def close(found, expected, tolerance=1e-9):
    """Equal in shape, and to ``tolerance`` relative to the largest element."""
    found, expected = (np.asarray(x.detach() if isinstance(x, torch.Tensor) else x) for x in (found, expected))
    return found.shape == expected.shape and np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def same(found, expected, tolerance=1e-9):
    return torch.equal(found.spikes, expected.spikes) and all(
        close(a, b, tolerance) for a, b in zip(found[1:], expected[1:], strict=True)
    )
