"""Whether the samples of a batch share their labels with their nearest neighbours, in the input of a network, or in its outputs."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

MOST = 100_000  # entries of a call that are kept
SAMPLES, FEATURES = 128, 4096  # that are compared
BINS = 4  # classes of targets that are numbers


def kept(x: Tensor) -> Tensor:
    """A copy of a tensor, thinned along its last axis if it is large."""
    return x.detach()[..., :: 1 + x.numel() // MOST].clone()


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


def agreement(features: Tensor, labels: Tensor) -> tuple[float, float, float]:
    """How many samples have the label of their nearest neighbour, how many would have that of a random one, and the variance of that number."""
    features, labels = features[:SAMPLES, :: 1 + features.shape[1] // FEATURES].float(), labels[:SAMPLES]
    if labels.is_floating_point() and len(labels.unique()) > BINS:
        labels = labels.argsort().argsort() * BINS // len(labels)
    distances = torch.cdist(features, features).fill_diagonal_(torch.inf)
    same = labels == labels[:, None]
    right = float(same.gather(1, distances.argmin(1, keepdim=True)).sum())
    chance = (same.sum(1) - 1).double() / (len(labels) - 1)
    return right, float(chance.sum()), float((chance * (1 - chance)).sum())
