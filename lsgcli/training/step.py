"""The gradients of one step."""

import torch
from torch import Tensor

from lsgcli import registry
from lsgcli.compute import Compute, full_precision
from lsgcli.config import RunConfig
from lsgcli.data.batches import Batch
from lsgcli.models.base import SpikingNet
from lsgcli.neurons.kernels import single_backward


def split(batch: Batch, count: int) -> list[Batch]:
    """Split a batch into ``count`` parts, or into its samples if it has fewer."""
    count = min(count, len(batch.y))
    along = 1 if batch.x.dim() == 5 else 0  # the axis of samples
    parts = zip(batch.x.tensor_split(count, along), batch.y.tensor_split(count), strict=True)
    return [Batch(x, y, batch.index) for x, y in parts]


def gradients(model: SpikingNet, batch: Batch, config: RunConfig, compute: Compute) -> Tensor:
    """Accumulate the gradients of the mean loss over a batch, part by part.

    Returns:
        (2,) float64 on the device: sum of the loss over samples, and number of correct predictions.
    """
    compute_loss = registry.get("loss", config.loss)
    sums = torch.zeros(2, dtype=torch.float64, device=compute.device)
    for part in split(batch, config.accumulate):
        labels = compute.move(part.y)
        with compute.autocast(), single_backward():
            logits = model(compute.move(part.x))
        loss: Tensor = compute_loss(full_precision(logits), labels, config)
        (loss * (len(part.y) / len(batch.y))).backward()
        right = (logits.detach().mean(0).argmax(1) == labels).sum()
        sums += torch.stack([loss.detach().double() * len(part.y), right.double()])
    return sums
