"""Losses over a sequence of logits."""

from torch import Tensor
from torch.nn import functional as F

from lsgcli.config import RunConfig
from lsgcli.registry import register


@register("loss", "ce")
def ce(logits: Tensor, labels: Tensor, config: RunConfig) -> Tensor:
    """CE(mean over t of y[t], label), averaged over the batch.

    Args:
        logits: y, (T, B, classes).
        labels: (B,) of int64.
        config: unused.
    """
    return F.cross_entropy(logits.mean(0), labels)


@register("loss", "tet")
def tet(logits: Tensor, labels: Tensor, config: RunConfig) -> Tensor:
    """(1 - l) * mean over t of CE(y[t], label) + l * mean of (y - 1)^2, with l = ``config.tet_lambda``.

    Source: Deng et al., "Temporal Efficient Training", ICLR 2022, equations 10 to 12, with phi = 1.

    Args:
        logits: y, (T, B, classes).
        labels: (B,) of int64.
        config: provides l.
    """
    every_step = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))
    regular = (logits - 1).square().mean()
    return (1 - config.tet_lambda) * every_step + config.tet_lambda * regular
