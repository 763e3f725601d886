"""Is what was exported the same network? Compared spike for spike, logit for logit, on real samples.

Two questions, since folding tdBN rounds in single precision, and one spike at the threshold that flips changes others after it:

1. Is the folded network the trained one? Asked in double precision, where rounding does not flip spikes.
2. Is the exported file the folded network? Asked in the precision that it is used in.
"""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lsgcli.data.batches import Batch
from lsgcli.errors import GateError
from lsgcli.models.base import SpikingNet
from lsgcli.models.fold import fold

LOGIT_TOLERANCE = 1e-5


def verify(
    trained: SpikingNet, written: SpikingNet, exported: SpikingNet, batches: Iterable[Batch], what: str
) -> dict[str, Any]:
    """Ask both questions.

    Args:
        trained: the network of the checkpoint.
        written: what was written: ``trained``, folded or as it is.
        exported: read back from what was written.
        batches: real samples.
        what: name of the exported file.

    Returns:
        The comparison of ``written`` with ``exported``, see :func:`compare`, and under ``folding`` that of ``trained`` with its
        folded form, both in double precision.

    Raises:
        GateError: spikes or predictions differ, or a logit by more than 1e-5.
    """
    seen = list(batches)
    double = copy.deepcopy(trained).double()
    folding = compare(double, fold(double), [Batch(batch.x.double(), batch.y, batch.index) for batch in seen])
    _check(folding, f"{what}: folding tdBN in double precision")
    result = compare(written, exported, seen)
    _check(result, what)
    return {**result, "folding": folding}


@torch.no_grad()
def compare(expected: SpikingNet, found: SpikingNet, batches: Iterable[Batch]) -> dict[str, Any]:
    """Run both networks, in evaluation mode, on the same batches.

    Returns:
        ``samples``, ``spikes_compared``, ``spikes_different`` (in all), ``per_layer`` (different, by layer), ``max_logit_error``,
        ``predictions_different``.
    """
    per_layer = {layer.name: 0 for layer in expected.spiking_layers()}
    samples = compared = predictions = 0
    error = 0.0
    for batch in batches:
        (y, spikes), (y_found, spikes_found) = _run(expected, batch.x), _run(found, batch.x)
        for name, layer_spikes in spikes.items():
            per_layer[name] += int((layer_spikes != spikes_found[name]).sum())
            compared += layer_spikes.numel()
        samples += len(batch.y)
        error = max(error, float((y - y_found).abs().max()))
        predictions += int((y.mean(0).argmax(1) != y_found.mean(0).argmax(1)).sum())
    return {
        "samples": samples,
        "spikes_compared": compared,
        "spikes_different": sum(per_layer.values()),
        "per_layer": per_layer,
        "max_logit_error": error,
        "predictions_different": predictions,
    }


def _check(result: dict[str, Any], what: str) -> None:
    error = result["max_logit_error"]
    if result["spikes_different"] or result["predictions_different"] or not error <= LOGIT_TOLERANCE:
        raise GateError(
            f"{what}: not the same network: {result['spikes_different']} of {result['spikes_compared']} spikes and "
            f"{result['predictions_different']} of {result['samples']} predictions differ, largest logit error {error:.3g} "
            f"(at most {LOGIT_TOLERANCE:g} is rounding)",
            hint="The file was not kept. Please report this.",
        )


def _run(model: SpikingNet, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    spikes: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, arguments, output: spikes.__setitem__(name, output)

    handles = [layer.lif.register_forward_hook(keep(layer.name)) for layer in model.spiking_layers()]
    try:
        return model.eval()(x), spikes
    finally:
        for handle in handles:
            handle.remove()
