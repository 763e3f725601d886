"""Surrogate widths taken from another checkpoint, for methods that store one with each layer."""

import torch

from lsgcli import checkpoint, registry
from lsgcli.config import RunConfig
from lsgcli.errors import ConfigError
from lsgcli.models.base import SpikingNet


def check(config: RunConfig) -> None:
    """See that a method that needs ``--width-from`` has it; the file is not looked at. (Others pay no heed to it, as to --width.)

    Raises:
        ConfigError: it is missing.
    """
    if registry.get("method", config.method).stores_width and config.width_from is None:
        raise ConfigError(f"--method {config.method}: found no --width-from, expected the checkpoint whose widths to keep")


@torch.no_grad()
def start(model: SpikingNet, config: RunConfig) -> None:
    """Give the layers of a new network, on any device, the widths of ``--width-from``, if their method stores widths.

    Raises:
        ConfigError: a checkpoint of other layers.
        CheckpointError: no checkpoint.
    """
    if config.width_from is None or not registry.get("method", config.method).stores_width:
        return
    source, _ = checkpoint.load(config.width_from)
    widths = {layer.name: layer.lif.alpha for layer in source.spiking_layers()}
    layers = {layer.name: layer.lif for layer in model.spiking_layers()}
    if widths.keys() != layers.keys():
        raise ConfigError(
            f"--width-from {config.width_from}: found the layers {', '.join(widths)}, expected {', '.join(layers)}",
            hint="Take the widths from a checkpoint of the same --arch and --residual.",
        )
    for name, lif in layers.items():
        own, width = lif.width, widths[name]
        assert isinstance(own, torch.Tensor)
        if width.dim() > 0 and width.shape != own.shape:
            raise ConfigError(
                f"--width-from {config.width_from}: found a width for each of {len(width)} channels in {name}, "
                f"expected {f'{len(own)} or ' if own.dim() else ''}one",
                hint="Take the widths from a checkpoint of the same --decay-per and --width-multiplier.",
            )
        own.copy_(width)
