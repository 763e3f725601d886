"""What a new network takes from the checkpoints of other runs: its weights (``--init-from``), its surrogate widths (``--width-from``).

A run reads these files once, at its beginning: its own checkpoints hold what it took, so a resumed run does not need them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lsgcli import checkpoint, registry
from lsgcli.config import RunConfig
from lsgcli.errors import CheckpointError, ConfigError
from lsgcli.models.base import SpikingNet
from lsgcli.neurons import LIF

Sources = dict[str, dict[str, Any]]  # setting -> what was taken from the checkpoint that it names


def check(config: RunConfig) -> None:
    """See that a method that needs ``--width-from`` has it; the file is not looked at. (Others pay no heed to it, as to --width.)

    Raises:
        ConfigError: it is missing.
    """
    if registry.get("method", config.method).stores_width and config.width_from is None:
        raise ConfigError(f"--method {config.method}: found no --width-from, expected the checkpoint whose widths to keep")


@torch.no_grad()
def start(model: SpikingNet, config: RunConfig, classes: Sequence[str] | None = None) -> Sources:
    """Give a new network, on any device, what ``--init-from`` and ``--width-from`` say.

    Args:
        classes: names of the outputs; None where the data have not been read, so that the last layer is not compared.

    Returns:
        For each of the two settings that applies, the ``sha256`` of its checkpoint; for ``init_from`` also the names ``taken``; ``new``:
        name -> ``shape`` here and ``found`` there (None if absent) of what keeps its own start; ``unused``: name -> shape there.

    Raises:
        ConfigError: the widths are of other layers.
        CheckpointError: no checkpoint, an export without tdBN, or weights of another network.
    """
    sources: Sources = {}
    if config.init_from is not None:
        sources["init_from"] = _take_weights(model, Path(config.init_from), config, classes)
    if config.width_from is not None and registry.get("method", config.method).stores_width:
        sources["width_from"] = _take_widths(model, Path(config.width_from))
    return sources


def _take_weights(model: SpikingNet, path: Path, config: RunConfig, classes: Sequence[str] | None) -> dict[str, Any]:
    """Copy parameters and buffers by name. All must be there and fit, except those that :func:`_own_start` lists."""
    content = checkpoint.read(path)
    checkpoint.check_unfolded(
        path, content.config, "A network in training normalises by tdBN; give --init-from the run's own checkpoint."
    )
    if content.config["arch"] != config.arch:
        raise CheckpointError(
            f"--init-from {path}: found weights of {content.config['arch']}, expected {config.arch}",
            hint=f"Choose a checkpoint of {config.arch}, or --arch {content.config['arch']}.",
        )
    last, others = _own_start(model)
    other_classes = classes is not None and list(classes) != content.config["classes"]
    taken, new = [], {}
    for name, own in model.state_dict().items():
        value = content.weights.get(name)
        if value is not None and _fits(name, value, own) and not (other_classes and name in last):
            own.copy_(value)
            taken.append(name)
        elif name in last | others:
            new[name] = {"shape": list(own.shape), "found": None if value is None else list(value.shape)}
        else:
            found = "no such tensor" if value is None else f"shape {tuple(value.shape)}"
            raise CheckpointError(
                f"--init-from {path}: {name}: found {found}, expected shape {tuple(own.shape)}",
                hint="Choose a checkpoint of the same --arch, --width-multiplier, --residual and --decay-per, or change these.",
            )
    unused = {name: list(value.shape) for name, value in content.weights.items() if name not in {*taken, *new}}
    return {"sha256": content.sha256, "taken": taken, "new": new, "unused": unused}


def _own_start(model: SpikingNet) -> tuple[set[str], set[str]]:
    """Names of what may differ between the networks: the last layer; the weights of the first, whose input may have other channels or
    another size, and what a method keeps with the neurons besides their decay."""
    first = model.spiking_layers()[0].synapse
    last, others = set(), set()
    for prefix, module in model.named_modules():
        names = {f"{prefix}.{name}" for name in module.state_dict()}
        if module is model.classifier:
            last |= names
        elif module is first:
            others |= names
        elif isinstance(module, LIF):
            others |= names - {f"{prefix}.b"}
    return last, others


def _fits(name: str, value: Tensor, own: Tensor) -> bool:
    """Whether a tensor can be copied: of the same shape, or the one decay of a layer that now has one for each channel."""
    return value.shape == own.shape or (name.endswith(".b") and value.dim() == 0)


def _take_widths(model: SpikingNet, path: Path) -> dict[str, Any]:
    """Store the surrogate widths of the checkpoint's layers with the layers of the same names."""
    content = checkpoint.read(path)
    widths = {layer.name: layer.lif.alpha for layer in checkpoint.restored(content, path).spiking_layers()}
    layers = {layer.name: layer.lif for layer in model.spiking_layers()}
    if widths.keys() != layers.keys():
        raise ConfigError(
            f"--width-from {path}: found the layers {', '.join(widths)}, expected {', '.join(layers)}",
            hint="Take the widths from a checkpoint of the same --arch and --residual.",
        )
    for name, lif in layers.items():
        own, width = lif.width, widths[name]
        assert isinstance(own, torch.Tensor)
        if width.dim() > 0 and width.shape != own.shape:
            raise ConfigError(
                f"--width-from {path}: found a width for each of {len(width)} channels in {name}, "
                f"expected {f'{len(own)} or ' if own.dim() else ''}one",
                hint="Take the widths from a checkpoint of the same --decay-per and --width-multiplier.",
            )
        own.copy_(width)
    return {"sha256": content.sha256}
