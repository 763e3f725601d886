"""The gradients of one step."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from lsgcli.config.training import TrainingConfig
from lsgcli.data.batches import Batch, shares
from lsgcli.neurons.draws import drawing
from lsgcli.neurons.kernels.base import single_backward
from lsgcli.system.device import Compute, full_precision
from lsgcli.training.distributed import ALONE, Group
from lsgcli.training.losses import Loss, checked, observed_rates, of_run, rate_penalty

Scale = Callable[[Tensor], Tensor] | None


def gradients(
    net: nn.Module,
    batch: Batch,
    config: TrainingConfig,
    compute: Compute,
    group: Group = ALONE,
    scale: Scale = None,
    loss_of: Loss | None = None,
) -> Tensor:
    """Accumulate the gradients of the mean loss over a batch, part by part.

    Args:
        net: the network, wrapped by ``group``, which averages gradients over processes.
        batch: the samples of this process.
        scale: scales the loss, so that small gradients do not vanish in fp16.
        loss_of: from :func:`lsgcli.training.losses.of_run`. Default: without weights of classes.

    Returns:
        (2,) float64 on the device: sum of the loss over samples, without the penalty of firing rates, and number of correct predictions,
        in this process. The class of a mixed sample is the one with the largest weight.
    """
    total = batch.total or len(batch.y)
    sizes = [len(part) for part in shares(total, config.accumulate, group.rank, group.size)]
    loss_of = loss_of or of_run(config)
    sums = torch.zeros(2, dtype=torch.float64, device=compute.device)
    xs = batch.x.split(sizes, 1 if batch.x.dim() == 5 else 0)  # along the axis of samples
    samples = [None] * len(xs) if batch.samples is None else compute.move(batch.samples).split(sizes)
    for part, (x, y, own) in enumerate(zip(xs, batch.y.split(sizes), samples, strict=True), start=1):
        labels = compute.move(y)
        whole = nullcontext() if part == len(xs) else group.accumulating(net)
        with whole, drawing(net, own), observed_rates(net, config) as rates:
            with compute.context(), single_backward():
                logits = net(compute.move(x))
            loss = checked(loss_of(full_precision(logits), labels), config)
            share = (loss + rate_penalty(rates, config)) * (len(y) * group.size / total)
            (share if scale is None else scale(share)).backward()
        main = labels if labels.dim() == 1 else labels.argmax(1)
        right = (logits.detach().mean(0).argmax(1) == main).sum()
        sums += torch.stack([loss.detach().double() * len(y), right.double()])
    return sums
