"""Cross-entropy of the mean logits: the paper's loss."""

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
        config: not made use of.
    """
    return F.cross_entropy(logits.mean(0), labels)
