"""Running statistics of normalisation: accuracy with them beside that with the statistics of each batch, and their re-estimation."""

import copy
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lsgcli.data.batches import Batch, batches
from lsgcli.data.bundle import DataBundle, spread
from lsgcli.errors import ConfigError, log
from lsgcli.models.base import SpikingNet
from lsgcli.system.device import Compute, full_precision

LARGEST_GAP = 0.2  # difference of the accuracies without a warning
SMALLEST = 8  # batch size with usable statistics
ALONE = 8  # samples compared with themselves in a batch
TOLERANCE = 1e-3  # of that comparison: difference in units of the standard deviation of logits
SAMPLES = 256  # standard error of the difference: at most 6 points


class Accuracies(NamedTuple):
    """Fractions of the same samples that a network classifies correctly.

    Attributes:
        evaluation: with running statistics.
        batch: with the statistics of each batch, otherwise as in evaluation.
    """

    evaluation: float
    batch: float


@torch.no_grad()
def accuracies(model: SpikingNet, stream: Iterable[Batch], compute: Compute) -> Accuracies | None:
    """Both accuracies of a network on the first batches of ``stream``, until they contain ``SAMPLES`` samples; None without running statistics.

    Args:
        model: not modified.
        stream: batches as in training; small batches have different statistics.
        compute: device and precision.
    """
    net = copy.deepcopy(model, {id(p): p for p in model.parameters()}).to(compute.device).eval()
    net.synchronise(None)
    norms = _norms(net)
    if not norms:
        return None
    right = torch.zeros(2, dtype=torch.int64)
    n = 0
    for norm in norms:
        norm.momentum, norm.warm = 0.0, True  # type: ignore[assignment]
    for batch in stream:
        x = compute.move(batch.x)
        y = compute.move(batch.y)
        for row, of_batch in enumerate((False, True)):
            for norm in norms:
                norm.train(of_batch)
            with compute.context():
                logits = full_precision(net(x))
            right[row] += (logits.mean(0).argmax(1) == y).sum().cpu()
        n += len(y)
        if n >= SAMPLES:
            break
    return Accuracies(*(right.double() / max(1, n)).tolist())


@torch.no_grad()
def refresh(model: SpikingNet, stream: Iterable[Batch], compute: Compute) -> int:
    """Re-estimate all running statistics as averages over batches, in place; weights and widths stay.

    Each batch has the same weight, as in :func:`torch.optim.swa_utils.update_bn`.

    Args:
        model: in evaluation mode, on the device.
        stream: batches of training data, without augmentation.
        compute: device and precision.

    Returns:
        The number of batches.

    Raises:
        ConfigError: the network has no normalisation with running statistics.
    """
    norms = _norms(model)
    n = 0
    if not norms:
        raise ConfigError("--refresh-norm: found a network without normalisation, expected one with running statistics")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        # With momentum 0, tdBN weights batch n by 1/n; torch's normalisation with None.
        norm.momentum, norm.warm = 0.0 if hasattr(norm, "warm") else None, False  # type: ignore[assignment]
    for n, batch in enumerate(stream, start=1):  # noqa: B007 (returned below)
        with compute.context():
            model(compute.move(batch.x))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    return n


def _norms(net: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


@torch.no_grad()
def batch_invariant(network: Callable[[Tensor], Any], x: Tensor, axis: int, reset: Callable[[], object] = lambda: None) -> bool:
    """Whether samples have the same outputs alone and in a batch.

    Rounding may flip a spike in some of the samples, so that half of them may differ.

    Args:
        network: from inputs (T, B, ...) or, for images, (B, ...) to outputs (T, B, classes) or (B, classes), in evaluation mode.
        x: inputs; the first eight samples are compared.
        axis: of the batch in ``x``.
        reset: resets neurons that keep their state between calls; called before each call.
    """

    def run(some: Tensor) -> Tensor:
        reset()
        outputs = network(some)
        outputs = full_precision(outputs[0] if isinstance(outputs, tuple | list) else outputs)
        return outputs.mean(0) if outputs.dim() == 3 else outputs

    together = run(x)
    n = min(ALONE, len(together))
    alone = torch.cat([run(x.narrow(axis, k, 1)) for k in range(n)])
    difference = (alone - together[:n]).abs().amax(1)
    return bool((difference <= TOLERANCE * together.std().clamp_min(1e-12)).double().mean() >= 0.5)


def check(model: SpikingNet, bundle: DataBundle, compute: Compute, batch_size: int, accuracy: float) -> None:
    """Warn as :func:`warn_of_gap` on samples of the test part.

    Args:
        accuracy: on the whole test part; if it is too high for a large gap, nothing is computed.
    """
    test = spread(bundle.parts["test"], SAMPLES)
    if accuracy < 1 - LARGEST_GAP and min(batch_size, len(test)) >= SMALLEST:
        warn_of_gap(accuracies(model, batches(bundle, test, batch_size, drop_last=True), compute), "test samples")


def warn_of_gap(measured: Accuracies | None, what: str) -> None:
    """Warn if accuracy in evaluation is more than 20 points below that with batch statistics; ``what`` describes the samples."""
    if measured is None or measured.batch - measured.evaluation <= LARGEST_GAP:
        return
    log.warning(
        "evaluation classifies %.0f %% of %s correctly, but %.0f %% with batch statistics: the running statistics of the normalisation are "
        "not those of the data; train for more steps, or with a larger batch",
        100 * measured.evaluation,
        what,
        100 * measured.batch,
    )
