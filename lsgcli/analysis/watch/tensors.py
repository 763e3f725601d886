"""What tensors of a watched training tell: their values, their samples beside labels, and the autograd graph behind them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lsgcli.analysis.watch.modules import is_plain

SAMPLE = 100_000  # entries of a tensor of which moments are computed
FEW = 4096  # entries that are kept
ROWS, FEATURES = 64, 4096  # samples and features of an input, of which moments of features are computed
COMPARED = 128  # samples whose nearest neighbours are found
BINS = 4  # classes of targets that are numbers
FLAT = ("round", "floor", "ceil", "trunc", "sign")
WEIGHTED = ("Addmm", "Mm", "Bmm", "Convolution", "MkldnnConv")  # names of nodes that have weights, at their beginning
# Names of nodes that pass a gradient on as it is.
LINEAR = (
    "Clone",
    "Alias",
    "View",
    "UnsafeView",
    "Reshape",
    "Unsqueeze",
    "Squeeze",
    "Expand",
    "Select",
    "Copy",
    "Slice",
    "Where",
)
NODES = 30  # that are followed from an output
NODES_OF_STEP = 2000  # that are followed from potentials


def sampled(x: Tensor) -> Tensor:
    """At most about ``SAMPLE`` entries of x, evenly spaced, (n,), float32, without gradient."""
    flat = x.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // SAMPLE)].float()


def thinned(x: Tensor) -> Tensor:
    """At most about ``FEW`` entries of x, evenly spaced, (n,), float32, without gradient, on the CPU: a copy."""
    flat = x.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // FEW)].to("cpu", torch.float32, copy=True)


def kept(x: Tensor) -> Tensor:
    """A copy of a tensor, thinned along its last axis if it is large."""
    return x.detach()[..., :: 1 + x.numel() // SAMPLE].clone()


def is_binary(x: Tensor) -> bool:
    """Whether a floating tensor has the values 0 and one other value above it, in a sample; also if all are 0, or 1."""
    if not x.is_floating_point() or not x.numel():
        return False
    values = sampled(x)
    low, top = map(float, values.aminmax())
    if low != 0:
        return low == top == 1
    return bool(((values == 0) | (values == top)).all())


def is_count(x: Tensor) -> bool:
    """Whether all values of a sample are counts of spikes, or spikes of one height."""
    values = sampled(x)
    return bool((values >= 0).all()) and (bool((values == values.round()).all()) or is_binary(x))


def norm_of(tensors: Iterable[Tensor]) -> float:
    """Euclidean norm of some tensors together."""
    return math.sqrt(sum(float(tensor.detach().double().square().sum()) for tensor in tensors))


def explained(values: Tensor, targets: Tensor) -> float:
    """The share of the variance of targets (B, ...) that values explain, R^2; NaN if they are all equal."""
    rest = (values - targets).square().mean()
    variance = (targets - targets.mean(0)).square().mean()
    return 1 - float(rest / variance) if variance > 0 else math.nan


def axis_of(x: Tensor, batch: int) -> int:
    """The axis of an input that is that of the samples, of which there are ``batch``; -1 if that is not clear."""
    axes = [axis for axis, size in enumerate(x.shape[: min(2, x.dim() - 1)]) if size == batch > 1]  # none is one of features
    return axes[0] if len(axes) == 1 else -1


def moments(x: Tensor, axis: int) -> dict[str, Any]:
    """Statistics of a network's input with its axis of samples, and some of these as "rows", (B, features)."""
    values = sampled(x)
    known = 0 <= axis < x.dim() - 1
    rows = x.movedim(axis, 0)[:ROWS].flatten(1) if known else values[:0, None]
    rows = rows[:, :: 1 + rows.shape[1] // FEATURES].float()
    spreads = rows.std(0)[rows.std(0) > 0] if len(rows) > 1 else values[:0]
    steps = x.movedim(1 - axis, 0) if known and x.dim() > 2 else x[:1]
    return {
        "rows": rows,
        "repeated": float(is_binary(x) and all_equal(steps)),
        "mean": float(values.mean()),
        "std": float(values.std()) if values.numel() > 1 else 0.0,
        "unequal": float(spreads.max() / spreads.median()) if len(spreads) else math.nan,  # standard deviations of features
        "finite": float(torch.isfinite(values).all()),
        "differences": float((rows - rows.mean(0)).abs().mean()),  # between samples; NaN if these are not known
    }


def all_equal(parts: Sequence[Tensor] | Tensor) -> bool:
    """Whether there are several tensors, all with the same values."""
    return len(parts) > 1 and all(torch.equal(part, parts[0]) for part in parts)


def layouts(calls: Sequence[Tensor], batch: int) -> Iterator[tuple[str, Tensor]]:
    """The readings of some calls' tensors as samples, each (B, features): ``rows`` of the first axis, ``second`` of the second, or one a call
    (``calls``)."""
    if batch < 2 or any(call.dim() < 1 or call.shape != calls[0].shape for call in calls):
        return
    x = torch.stack(list(calls), 1)  # (rows, calls, ...)
    if len(calls) == batch:
        yield "calls", x.transpose(0, 1).flatten(1)
    if len(x) == batch:
        yield "rows", x.flatten(1)
    if x.dim() > 3 and x.shape[2] == batch:
        yield "second", x.movedim(2, 0).flatten(1)


def agreement(features: Tensor, labels: Tensor) -> Tensor:
    """How many samples have the label of their nearest neighbour, how many would have that of a random one, and the variance of that number, (3,)."""
    features = features[:COMPARED, :: 1 + features.shape[1] // FEATURES].float()
    labels = labels[:COMPARED]
    if labels.is_floating_point() and len(labels.unique()) > BINS:
        labels = labels.argsort().argsort() * BINS // len(labels)
    distances = torch.cdist(features, features).fill_diagonal_(torch.inf)
    same = labels == labels[:, None]
    right = same.gather(1, distances.argmin(1, keepdim=True)).sum()
    chance = (same.sum(1) - 1).double() / (len(labels) - 1)
    return torch.stack([right.double(), chance.sum(), (chance * (1 - chance)).sum()])


def behind(loss: Tensor) -> Iterator[Any]:
    """The nodes of the graph behind a loss."""
    nodes = [loss.grad_fn]
    known = set()
    while nodes:
        node = nodes.pop()
        if node is None or node in known:
            continue
        known.add(node)
        nodes += [before for before, _ in node.next_functions]
        yield node


def leaves(loss: Tensor) -> list[Any]:
    """The tensors without a history that a loss depends on."""
    return [node.variable for node in behind(loss) if is_leaf(node)]


def is_leaf(node: Any) -> bool:
    """Whether a node of the graph stands for a tensor without a history."""
    return type(node).__name__ == "AccumulateGrad"


def flat(loss: Tensor) -> str:
    """The first operation behind a loss whose derivative is 0 everywhere, such as "round"; empty if there is none, or the graph is large."""
    names = (type(node).__name__.removesuffix("Backward0").lower() for node in islice(behind(loss), NODES_OF_STEP))
    return next((name for name in names if name in FLAT), "")


def softmax_before(outputs: Tensor) -> str:
    """Whether outputs pass a softmax after the last weights: over their "classes", or "another axis"; else empty."""
    node: Any = outputs.grad_fn
    for _ in range(NODES):
        name = type(node).__name__
        if name == "SoftmaxBackward0":
            shape = node._input_metadata[0].shape
            size = shape[node._saved_dim if node._saved_dim < len(shape) else -1]
            return "classes" if size == outputs.shape[min(1, outputs.dim() - 1)] else "another axis"
        before = [one for one, _ in node.next_functions if one is not None]
        weighted = len(before) > 1 and name == "MulBackward0"  # by attention
        if not before or weighted or name.startswith(WEIGHTED):
            break
        node = before[0]
    return ""


def memory(u: Tensor, start: int, end: int) -> float:
    """The largest derivative of potentials by what the timestep before computed: of leaky neurons the decay, 0 if no graph connects the timesteps.

    On each way it is the product of the factors that the graph has stored, and ways add up: nothing is computed backwards.

    Args:
        u: the potentials.
        start, end: sequence numbers of the graph's nodes of the potentials two timesteps before and one before.

    Returns:
        NaN if it is unknown.
    """
    if torch._C._autograd._top_saved_tensors_default_hooks(False) is not None:
        return math.nan  # reading what the graph has stored would run code of the script
    reached: list[float] = []
    arriving: dict[Any, list[float]] = {u.grad_fn: [1.0]}
    for _ in range(NODES_OF_STEP):
        if not arriving:
            break
        # The node that was created last: what arrives at it has come from all of its users.
        node = max(arriving, key=_created)
        factors = [factor for factor in arriving.pop(node) if math.isfinite(factor)]
        factor = sum(factors) if factors else math.nan
        if _created(node) > end:
            for (before, _), own in zip(node.next_functions, _factors(node), strict=False):
                if before is not None and not is_leaf(before):
                    arriving.setdefault(before, []).append(factor * own)
        elif _created(node) > start:
            reached.append(abs(factor))
    if not reached:
        return math.nan if arriving else 0.0
    finite = [factor for factor in reached if math.isfinite(factor)]
    return max([1e-12, *finite]) if finite else math.nan  # a decay of 0 is no missing graph


def _created(node: Any) -> int:
    return int(node._sequence_nr())


def _factors(node: Any) -> list[float]:
    """The derivative of an operation by each of its operands, the largest one of a tensor, as far as it is known; NaN elsewhere."""
    name = type(node).__name__.partition("Backward")[0]
    if name in ("Neg", "Rsub"):
        return [-1.0] * len(node.next_functions)
    if name in ("Add", "Sub"):
        alpha = _largest(getattr(node, "_saved_alpha", 1.0))  # which those of a tensor and a number may not have
        return [1.0, alpha if name == "Add" else -alpha]
    if name in LINEAR:
        return [1.0] * len(node.next_functions)
    # Nodes of code that torch.jit has traced store neither numbers nor operands.
    other = _largest(getattr(node, "_saved_other", None))
    if name == "Mul":
        return [other, _largest(getattr(node, "_saved_self", None))]
    if name == "Div":
        return [1 / (other or math.nan), math.nan]
    return [math.nan] * len(node.next_functions)


def _largest(value: Any) -> float:
    """A number, or the value of a tensor that is farthest from 0."""
    if is_plain(value) and value.numel():
        values = value.detach().reshape(-1)
        return float(values[values.abs().argmax()])
    return float(value) if isinstance(value, int | float) else math.nan
