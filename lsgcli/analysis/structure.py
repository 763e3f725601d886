"""Layers of a network: shapes, weights, multiplications, and the values of their neurons."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli.analysis.energy import SynapticOperations
from lsgcli.models.base import SpikingLayer, SpikingNet


@torch.no_grad()
def structure(model: SpikingNet, static: bool) -> dict[str, Any]:
    """Layers of a network, from one pass of an empty sample; the network is in evaluation mode afterwards.

    Args:
        static: whether a sample is an image presented at every timestep, to which the first layers are applied once.

    Returns:
        JSON types: ``parameters``; ``input``, the shape of a sample; ``multiplications``, of a sample in all timesteps, if every input
        were nonzero; ``layers`` in the order of execution, with their ``name``, ``kind``, ``shape`` of the output without time and
        batch, ``weights`` (with biases), ``multiplications`` (additions of a product of spikes), and of the neurons that follow, None
        without: ``neuron``, ``decay`` (the mean over channels), ``width``, ``threshold``.
    """
    spiking = {id(layer.synapse.weight): layer for layer in reversed(model.spiking_layers())}
    shapes: dict[str, list[int]] = {}

    def keep(name: str, module: nn.Module, arguments: Any, output: Tensor) -> None:
        shapes[name] = list(output.shape[-3 if isinstance(module, nn.Conv2d) else -1 :])

    def name_of(path: str, module: nn.Module) -> str:
        layer = spiking.get(id(getattr(module, "weight", None)))
        return layer.name if layer else path

    modules = {
        name_of(path, module): module for path, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))
    }
    handles = [module.register_forward_hook(partial(keep, name)) for name, module in modules.items()]
    operations = SynapticOperations(model.eval(), events=False)
    sample = (model.spec.in_channels, model.spec.height, model.spec.input_size)
    try:
        model(torch.zeros(1, *sample) if static else torch.zeros(model.T, 1, *sample))
    finally:
        record = operations.close(1, {})
        for handle in handles:
            handle.remove()
    layers = [
        {
            "name": layer["name"],
            "kind": _kind(module := modules.get(layer["name"])),
            "shape": shapes.get(layer["name"]),
            "weights": 0 if module is None else sum(p.numel() for p in module.parameters()),
            "multiplications": round(layer["ann_mac"] * layer["passes"]),
            **_neurons(spiking.get(id(getattr(module, "weight", None)))),
        }
        for layer in record["layers"]
    ]
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "multiplications": sum(layer["multiplications"] for layer in layers),
        "input": list(sample if static else (model.T, *sample)),
        "layers": layers,
    }


def _kind(module: nn.Module | None) -> str:
    if isinstance(module, nn.Conv2d):
        return f"conv{module.kernel_size[0]}x{module.kernel_size[1]}"
    return "product of spikes" if module is None else "linear"


def _neurons(layer: SpikingLayer | None) -> dict[str, Any]:
    """Model of the neurons of a layer, and the means of their values."""
    if layer is None:
        return dict.fromkeys(("neuron", "decay", "width", "threshold"))
    lif = layer.lif
    values = {"decay": lif.beta, "width": lif.alpha, "threshold": torch.as_tensor(lif.thresholds)}
    means = {name: round(float(value.float().mean()), 6) for name, value in values.items()}
    return {"neuron": lif.config.neuron, **means, **({} if lif.neuron.has_decay else {"decay": None})}
