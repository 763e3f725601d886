"""What the autograd graph behind a loss or an output contains."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

WEIGHTED = ("Addmm", "Mm", "Bmm", "Convolution", "MkldnnConv")  # names of nodes that have weights, at their beginning
FLAT = ("round", "floor", "ceil", "trunc", "sign")
NODES = 30  # that are followed from an output
NODES_OF_STEP = 2000  # that are followed from potentials


def behind(loss: Tensor) -> Iterator[Any]:
    """The nodes of the graph behind a loss."""
    nodes, known = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in known:
            continue
        known.add(node)
        nodes += [one for one, _ in node.next_functions]
        yield node


def leaves(loss: Tensor) -> list[Any]:
    """The tensors without a history that a loss depends on."""
    return [node.variable for node in behind(loss) if hasattr(node, "variable")]


def flat(loss: Tensor) -> str:
    """The first operation behind a loss whose derivative is 0 everywhere, such as "round"; empty if there is none, or the graph is large."""
    names = (type(node).__name__.removesuffix("Backward0").lower() for node in islice(behind(loss), NODES_OF_STEP))
    return next((name for name in names if name in FLAT), "")


def softmax_before(outputs: Tensor, loss: str) -> str:
    """Whether outputs pass a softmax between the last weights and a loss that has its own: over their "classes", or "another axis"; else empty."""
    node = outputs.grad_fn
    for _ in range(NODES if loss in ("cross_entropy", "nll_loss") else 0):
        if type(node).__name__ == "SoftmaxBackward0":
            shape = node._input_metadata[0].shape  # type: ignore[union-attr]
            size = shape[node._saved_dim if node._saved_dim < len(shape) else -1]  # type: ignore[union-attr]
            return "classes" if size == outputs.shape[min(1, outputs.dim() - 1)] else "another axis"
        before = [one for one, _ in node.next_functions if one is not None] if node is not None else []
        weighted = len(before) > 1 and type(node).__name__ == "MulBackward0"  # by attention
        if not before or weighted or type(node).__name__.startswith(WEIGHTED):
            break
        node = before[0]
    return ""


def memory(u: Tensor, start: int, end: int) -> float:
    """The largest derivative of potentials by what the timestep before computed: of leaky neurons the decay, 0 if no graph connects the timesteps.

    Args:
        u: the potentials.
        start, end: sequence numbers of the graph's nodes of the potentials two timesteps before and one before.

    Returns:
        NaN if it cannot be computed.
    """
    edges: set[GradientEdge] = set()
    known: set[tuple[Any, int]] = set()
    nodes: list[tuple[Any, int]] = [(u.grad_fn, 0)]
    while nodes and len(known) < NODES_OF_STEP:
        node, number = nodes.pop()
        if node is None or (node, number) in known or hasattr(node, "variable"):
            continue
        known.add((node, number))
        created = node._sequence_nr()
        if start < created <= end:
            edges.add(GradientEdge(node, number))
        elif created > end:
            nodes += node.next_functions
    if not edges:
        return math.nan if nodes else 0.0
    try:
        grads = torch.autograd.grad(u, list(edges), torch.ones_like(u), retain_graph=True, allow_unused=True)
    except RuntimeError:  # of tensors that were changed in place
        return math.nan
    return max([1e-12, *(float(grad.abs().max()) for grad in grads if grad is not None)])  # a decay of 0 is no missing graph
