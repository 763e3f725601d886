"""Losses over a sequence of logits, and the gradients of one step.

Labels are (B,) of int64, or (B, classes) of probabilities if samples are mixed.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli.config.training import TrainingConfig
from lsgcli.data.batches import Batch, shares
from lsgcli.errors import ConfigError
from lsgcli.neurons.kernels.base import single_backward
from lsgcli.neurons.layer import drawing
from lsgcli.registry import get, register
from lsgcli.system.device import Compute, full_precision
from lsgcli.training.distributed import ALONE, Group

Loss = Callable[[Tensor, Tensor], Tensor]  # of logits (T, B, classes) and labels


def balanced(y: np.ndarray, classes: int) -> Tensor:
    """Weights of classes, (classes,): n/(K n_k) for class k with n_k of the n labels ``y``; 0 for a class without samples.

    Their mean over the samples is 1 if all K classes have some.
    """
    counts = np.bincount(y, minlength=classes)
    return torch.from_numpy(np.where(counts, len(y) / (classes * np.maximum(counts, 1)), 0.0)).float()


def of_run(config: TrainingConfig, y: np.ndarray | None = None, classes: int = 0) -> Loss:
    """The loss ``config.loss`` of a run.

    Args:
        y: labels of the training part, for the weights of its classes; None: without.
        classes: their number.
    """
    loss = get("loss", config.loss)
    weights = None if y is None or config.class_weights == "none" else balanced(y, classes)

    def of_batch(logits: Tensor, labels: Tensor) -> Tensor:
        nonlocal weights
        if weights is None:
            return loss(logits, labels, config)  # type: ignore[no-any-return]
        weights = weights.to(logits, non_blocking=True)  # copied once
        return loss(logits, labels, config, weights=weights)  # type: ignore[no-any-return]

    return of_batch


def checked(loss: Tensor, config: TrainingConfig) -> Tensor:
    """The value of the loss ``config.loss`` in training, checked.

    Raises:
        ConfigError: it is not a scalar tensor with a gradient.
    """
    if isinstance(loss, Tensor) and loss.dim() == 0 and loss.requires_grad:
        return loss
    found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
    raise ConfigError(f"loss {config.loss}: found {found}, expected a scalar tensor with a gradient, computed from the logits")


@register("loss", "ce")
def ce(logits: Tensor, labels: Tensor, config: TrainingConfig, weights: Tensor | None = None) -> Tensor:
    """CE(mean over t of y[t], label), averaged over the batch.

    Args:
        logits: y, (T, B, classes).
        labels: (B,), or (B, classes).
        config: provides the label smoothing.
        weights: of classes, (classes,).
    """
    return _cross_entropy(logits.mean(0), labels, config, weights)


@register("loss", "tet")
def tet(logits: Tensor, labels: Tensor, config: TrainingConfig, weights: Tensor | None = None) -> Tensor:
    """(1 - l) * mean over t of CE(y[t], label) + l * mean of (y - phi)^2, with l = ``config.tet_lambda``.

    phi is 1, or the one-hot label if ``config.tet_target`` is ``one-hot``.

    Source: Deng et al., "Temporal Efficient Training", ICLR 2022, equations 10 to 12, with phi = 1; the one-hot label in the code of
    Huang et al., "CLIF", ICML 2024.

    Args:
        logits: y, (T, B, classes).
        labels: (B,), or (B, classes).
        config: provides l, phi and the label smoothing.
        weights: of classes, (classes,), in the cross-entropy.
    """
    repeated = labels.repeat(len(logits), *[1] * (labels.dim() - 1))
    every_step = _cross_entropy(logits.flatten(0, 1), repeated, config, weights)
    phi = _one_hot(labels, logits) if config.tet_target == "one-hot" else 1
    regular = (logits - phi).square().mean()
    return (1 - config.tet_lambda) * every_step + config.tet_lambda * regular


@register("loss", "mse")
def mse(logits: Tensor, labels: Tensor, config: TrainingConfig) -> Tensor:
    """Mean squared difference of mean over t of y[t] and the one-hot label, over batch and classes.

    Source: Fang et al., "Incorporating Learnable Membrane Time Constant", ICCV 2021, for firing rates.

    Args:
        logits: y, (T, B, classes).
        labels: (B,), or (B, classes).
        config: unused.
    """
    return F.mse_loss(logits.mean(0), _one_hot(labels, logits))


def _cross_entropy(logits: Tensor, labels: Tensor, config: TrainingConfig, weights: Tensor | None) -> Tensor:
    """Cross-entropy of (N, classes), averaged over N. Weighted losses, too, are divided by N, so that parts of a batch add up."""
    if weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
    smoothing = config.label_smoothing
    return F.cross_entropy(logits, labels, weights, reduction="none", label_smoothing=smoothing).mean()


def _one_hot(labels: Tensor, logits: Tensor) -> Tensor:
    """The labels as (B, classes) of the logits' type."""
    return F.one_hot(labels, logits.shape[-1]).to(logits.dtype) if labels.dim() == 1 else labels


@contextmanager
def observed_rates(net: nn.Module, config: TrainingConfig) -> Iterator[list[Tensor]]:
    """Context that collects the firing rate of each layer of a network, (), with its gradient; nothing without ``rate_target``."""
    rates: list[Tensor] = []
    network: Any = getattr(net, "module", net)  # inside DistributedDataParallel
    layers = [] if config.rate_target is None else network.spiking_layers()
    with ExitStack() as hooks:
        for layer in layers:

            def observe(module: nn.Module, arguments: Any, output: Tensor, unit: float | Tensor = layer.lif.unit) -> None:
                rates.append(output.mean(dtype=torch.float32) / unit)

            hooks.enter_context((layer.block or layer.lif).register_forward_hook(observe))
        yield rates


def rate_penalty(rates: list[Tensor], config: TrainingConfig) -> Tensor | float:
    """w * sum over layers of max(0, r - R)^2, with w = ``config.rate_weight``, R = ``config.rate_target`` and the firing rates r.

    Source: the upper bound on the activity of a population in Rossbroich et al., "Fluctuation-driven initialization for spiking neural
    network training", Neuromorphic Computing and Engineering 2022.

    Args:
        rates: from :func:`observed_rates`; of the samples of this process.
        config: provides w and R.
    """
    if config.rate_target is None:
        return 0.0
    return config.rate_weight * (torch.stack(rates) - config.rate_target).clamp(min=0).square().sum()


def gradients(
    net: nn.Module,
    batch: Batch,
    config: TrainingConfig,
    compute: Compute,
    group: Group = ALONE,
    scale: Callable[[Tensor], Tensor] | None = None,
    loss_of: Loss | None = None,
) -> Tensor:
    """Accumulate the gradients of the mean loss over a batch, part by part.

    Args:
        net: the network, wrapped by ``group``, which averages gradients over processes.
        batch: the samples of this process.
        scale: scales the loss, so that small gradients do not vanish in fp16.
        loss_of: from :func:`of_run`. Default: without weights of classes.

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
