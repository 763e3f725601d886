"""Layers of a network: shapes, weights, multiplications, and the values of their neurons."""

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli.analysis.energy import synapses
from lsgcli.models.base import SpikingLayer, SpikingNet
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels.base import NormParameters, one_by_one
from lsgcli.system.schema import Record

COUNTED = (nn.Conv2d, nn.Linear)


@torch.no_grad()
def structure(model: SpikingNet, static: bool) -> Record:
    """Layers of a network, from the shapes of one pass of a sample; nothing is computed, whatever size and T are.

    Args:
        static: whether a sample is an image presented at every timestep, to which the first layers are applied once.

    Returns:
        JSON types: ``parameters``; ``input``, the shape of a sample; ``multiplications``, of a sample in all timesteps, if every input
        were nonzero; ``layers`` in the order of execution, with their ``name``, ``kind``, ``shape`` of the output without time and
        batch, ``weights`` (with biases), ``multiplications`` (additions of a product of spikes), and of the neurons that follow, None
        without: ``neuron``, ``decay`` (the mean over channels), ``width``, ``threshold``.
    """
    spiking = {id(layer.synapse.weight): layer for layer in reversed(model.spiking_layers())}
    layers: dict[str, Record] = {}

    def passed(path: str, module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        """Hook on a module of the network without values."""
        own = model.get_submodule(path)
        layer = spiking.get(id(getattr(own, "weight", None)))
        name = layer.name if layer else path
        if name not in layers:
            layers[name] = _described(name, own, output, layer)
        each, passes = synapses(module, *arguments)
        layers[name]["multiplications"] += each * passes

    empty = copy.deepcopy(model).eval().to("meta")
    for path, module in empty.named_modules():
        if isinstance(module, LIF):
            module.__class__ = Shaped
        elif isinstance(module, COUNTED) or hasattr(module, "additions"):
            module.register_forward_hook(partial(passed, path))
        if isinstance(module, nn.Linear):
            module.register_parameter("bias", None)  # to add it, torch would import its compiler
    sample = (model.spec.in_channels, model.spec.height, model.spec.input_size)
    empty(torch.zeros((1, *sample) if static else (model.T, 1, *sample), device="meta"))
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "multiplications": sum(layer["multiplications"] for layer in layers.values()),
        "input": list(sample if static else (model.T, *sample)),
        "layers": list(layers.values()),
    }


class Shaped(LIF):
    """Neurons whose outputs are their currents, for tensors without values."""

    def forward(self, current: Tensor, *, overwrite: bool = False) -> Tensor:
        return current

    def normalise_and_fire(self, norm: NormParameters | None, z: Tensor, **behind: Any) -> Tensor:
        return one_by_one(self.forward, z, None, **behind)  # likewise; no shape changes


def _described(name: str, module: nn.Module, output: Tensor, layer: SpikingLayer | None) -> Record:
    """The record of a layer, without multiplications."""
    described: Record = {"name": name, "kind": "product of spikes", "shape": None, "weights": 0, "multiplications": 0}
    if isinstance(module, COUNTED):
        described |= {
            "kind": "linear",
            "shape": list(output.shape[-1:]),
            "weights": sum(p.numel() for p in module.parameters()),
        }
    if isinstance(module, nn.Conv2d):
        described |= {"kind": f"conv{module.kernel_size[0]}x{module.kernel_size[1]}", "shape": list(output.shape[-3:])}
    return described | _neurons(layer)


def _neurons(layer: SpikingLayer | None) -> Record:
    """Model of the neurons of a layer, and the means of their values."""
    if layer is None:
        return dict.fromkeys(("neuron", "decay", "width", "threshold"))
    lif = layer.lif
    values = {"decay": lif.beta, "width": lif.alpha, "threshold": torch.as_tensor(lif.thresholds)}
    means = {name: round(float(value.float().mean()), 6) for name, value in values.items()}
    return {"neuron": lif.config.neuron, **means, **({} if lif.neuron.has_decay else {"decay": None})}
