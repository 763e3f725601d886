"""What the autograd graph behind a loss or an output contains."""

from typing import Any

from torch import Tensor

WEIGHTED = ("Addmm", "Mm", "Bmm", "Convolution", "MkldnnConv")  # names of nodes that have weights, at their beginning
NODES = 30  # that are followed from an output


def leaves(loss: Tensor) -> list[Any]:
    """The tensors without a history that a loss depends on."""
    nodes, found, known = [loss.grad_fn], [], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in known:
            continue
        known.add(node)
        nodes += [one for one, _ in node.next_functions]
        if hasattr(node, "variable"):
            found.append(node.variable)
    return found


def softmax_before(outputs: Tensor, loss: str) -> str:
    """Whether outputs pass a softmax between the last weights and a loss that has its own: over their "classes", or "another axis"; else empty."""
    node = outputs.grad_fn
    for _ in range(NODES if loss in ("cross_entropy", "nll_loss") else 0):
        if type(node).__name__ == "SoftmaxBackward0":
            shape = node._input_metadata[0].shape  # type: ignore[union-attr]
            size = shape[node._saved_dim if node._saved_dim < len(shape) else -1]  # type: ignore[union-attr]
            return "classes" if size == outputs.shape[1] else "another axis"
        before = [one for one, _ in node.next_functions if one is not None] if node is not None else []
        weighted = len(before) > 1 and type(node).__name__ == "MulBackward0"  # by attention
        if not before or weighted or type(node).__name__.startswith(WEIGHTED):
            break
        node = before[0]
    return ""
