"""Is what was exported the same network? Compared spike for spike, logit for logit, on real samples."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from lsgcli.data.batches import Batch
from lsgcli.errors import GateError
from lsgcli.models.base import SpikingNet

LOGIT_TOLERANCE = 1e-5


@torch.no_grad()
def compare(expected: SpikingNet, exported: SpikingNet, batches: Iterable[Batch]) -> dict[str, Any]:
    """Run both networks on the same batches.

    Returns:
        ``samples``, ``spikes_compared``, ``spikes_different`` (in all), ``per_layer`` (different, by layer), ``max_logit_error``,
        ``predictions_different``.
    """
    per_layer = {layer.name: 0 for layer in expected.spiking_layers()}
    result = {"samples": 0, "spikes_compared": 0, "max_logit_error": 0.0, "predictions_different": 0}
    for batch in batches:
        (y, spikes), (y_exported, spikes_exported) = _run(expected, batch.x), _run(exported, batch.x)
        for name, layer_spikes in spikes.items():
            per_layer[name] += int((layer_spikes != spikes_exported[name]).sum())
            result["spikes_compared"] += layer_spikes.numel()
        result["samples"] += len(batch.y)
        result["max_logit_error"] = max(result["max_logit_error"], float((y - y_exported).abs().max()))
        result["predictions_different"] += int((y.mean(0).argmax(1) != y_exported.mean(0).argmax(1)).sum())
    return {**result, "spikes_different": sum(per_layer.values()), "per_layer": per_layer}


def check(result: dict[str, Any], what: str) -> None:
    """Refuse a comparison that found a difference beyond rounding.

    Raises:
        GateError: spikes or predictions differ, or a logit by more than 1e-5.
    """
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
