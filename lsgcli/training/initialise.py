"""A new network, its frozen parts (``--freeze``), and its initialisation from checkpoints of other runs: weights (``--init-from``) and
surrogate widths (``--width-from``).

A run reads these files once, at its start. Its own checkpoints contain the values, so a resumed run does not need the files.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli import models, registry
from lsgcli.config.run import RunConfig
from lsgcli.errors import CheckpointError, ConfigError, some
from lsgcli.models.base import NetworkSpec, Sizes, SpikingNet
from lsgcli.neurons import LIF
from lsgcli.neurons.norms import TemporalBatchNorm2d
from lsgcli.store import checkpoint, hub
from lsgcli.system.schema import Record

Sources = dict[str, Record]  # setting -> record of what was copied from its checkpoint


def new_model(config: RunConfig, classes: int, channels: int, height: int | None = None) -> SpikingNet:
    """The network described by ``config`` for the given data; its weights depend only on the seed."""
    torch.manual_seed(config.seed)
    sizes = Sizes(
        T=config.T,
        num_classes=classes,
        in_channels=channels,
        input_size=config.size,
        input_height=None if height == config.size else height,
    )
    model = models.create(NetworkSpec.of(config, config, sizes))
    model.save_memory(config.memory == "bits")
    if config.freeze is not None:
        freeze(model, config.freeze)
    return model


def freeze(model: SpikingNet, patterns: str) -> None:
    """Freeze parts of a network: their parameters require no gradient, and their modules stay in evaluation mode.

    Args:
        patterns: comma-separated patterns, such as ``conv1,features.[12],*.lif``, of names of layers, which are frozen with their
            normalisation and their neurons; of modules, with all that they contain; and of parameters.

    Raises:
        ConfigError: a pattern matches nothing, or no parameter is left to train.
    """
    layers = model.spiking_layers()
    parameters = list(model.named_parameters())
    named: list[tuple[str, list[Any]]] = [(layer.name, [layer.synapse, layer.norm, layer.lif]) for layer in layers]
    named += [(name, [module]) for name, module in model.named_modules() if name]
    named += [(name, [parameter]) for name, parameter in parameters]
    for pattern in patterns.split(","):
        parts = [part for name, own in named if fnmatchcase(name, pattern) for part in own if part is not None]
        if not parts:
            known = some([name for name, _ in named])
            raise ConfigError(
                f"freeze: found {pattern!r}, which matches nothing, expected patterns of names of layers, modules or parameters: {known}",
                hint="`lsg show --arch NAME` lists the layers.",
            )
        for part in parts:
            part.requires_grad_(False)
            if isinstance(part, nn.Module):
                model.frozen += part.modules()
    model.frozen += [module for module in model.modules() if _is_frozen(module)]
    if not any(parameter.requires_grad for _, parameter in parameters):
        raise ConfigError(f"freeze: found {patterns!r}, which freezes every parameter, expected some to train")


def _is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters, all of which are frozen."""
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)


@torch.no_grad()
def initialise(model: SpikingNet, config: RunConfig, classes: Sequence[str] | None = None) -> Sources:
    """Initialise a new network from ``--init-from`` and ``--width-from``.

    Args:
        classes: names of the classes; None if the data have not been read, in which case they are not compared.

    Returns:
        For each of the two settings that applies, the ``sha256`` of its checkpoint; for ``init_from`` also ``taken``: names of the
        copied tensors; ``new``: name -> ``shape`` in the network and ``found`` in the checkpoint (None if absent) of tensors that keep
        their initial values; ``unused``: name -> shape of tensors of the checkpoint that are not used.

    Raises:
        ConfigError: the method requires ``--width-from``, or the layers of the widths do not match.
        CheckpointError: not a checkpoint, an export without tdBN, or weights that do not match the network.
    """
    sources: Sources = {}
    if config.init_from is not None:
        sources["init_from"] = _take_weights(model, hub.local(config.init_from), config, classes)
    if registry.get("method", config.method).stores_width:
        if config.width_from is None:
            raise ConfigError(f"--method {config.method}: found no --width-from, expected the checkpoint whose widths to keep")
        sources["width_from"] = _take_widths(model, hub.local(config.width_from))
    return sources


def _take_weights(model: SpikingNet, path: Path, config: RunConfig, classes: Sequence[str] | None) -> Record:
    """Copy parameters and buffers by name. All must exist and match, except those returned by :func:`_may_differ`."""
    content = checkpoint.read(path)
    checkpoint.check_unfolded(path, content.config, "Training requires tdBN; pass the run's own checkpoint to --init-from.")
    if content.config["arch"] != config.arch:
        raise CheckpointError(
            f"--init-from {path}: found weights of {content.config['arch']}, expected {config.arch}",
            hint=f"Use a checkpoint of {config.arch}, or --arch {content.config['arch']}.",
        )
    checkpoint.check_finite(content.weights, model, f"--init-from {path}")
    last, others = _may_differ(model)
    other_classes = classes is not None and list(classes) != content.config["classes"]
    taken = []
    new = {}
    for name, own in model.state_dict().items():
        value = content.weights.get(name)
        found = None if value is None else list(value.shape)
        expected = list(own.shape)
        one_decay = name.endswith(".b") and found == []  # per layer; copied to each channel
        if value is not None and (found == expected or one_decay) and not (other_classes and name in last):
            own.copy_(value)
            taken.append(name)
        elif name in last | others:
            new[name] = {"shape": expected, "found": found}
        else:
            raise CheckpointError(
                f"--init-from {path}: {name}: found {'no such tensor' if found is None else f'shape {found}'}, expected shape {expected}",
                hint="Use a checkpoint with the same --arch, --width-multiplier, --residual and --decay-per, or change these.",
            )
    # Modules learn of what was copied, such as the number of batches that a norm has seen.
    model.load_state_dict(model.state_dict())
    unused = {name: list(value.shape) for name, value in content.weights.items() if name not in {*taken, *new}}
    return {"sha256": content.sha256, "taken": taken, "new": new, "unused": unused}


def _may_differ(model: SpikingNet) -> tuple[set[str], set[str]]:
    """Names of tensors that may differ between the networks: those of the last layer; and the weights of the first layer, whose input may
    have a different number of channels or size, with the state of neurons other than their decay, and the factors of TEBN, one per
    timestep."""
    first = model.spiking_layers()[0].synapse
    last = set()
    others = set()
    for prefix, module in model.named_modules():
        names = {f"{prefix}.{name}" for name in module.state_dict()}
        if module is model.classifier:
            last |= names
        elif module is first:
            others |= names
        elif isinstance(module, LIF):
            others |= names - {f"{prefix}.b"}
        elif isinstance(module, TemporalBatchNorm2d):
            others.add(f"{prefix}.p")
    return last, others


def _take_widths(model: SpikingNet, path: Path) -> Record:
    """Copy the surrogate widths of the checkpoint's layers to the layers of the same names."""
    content = checkpoint.read(path)
    checkpoint.check_unfolded(path, content.config, "Pass the checkpoint of the run: widths may depend on tdBN.")
    found = checkpoint.restored(content, path).spiking_layers()
    if any(layer.lif.alpha_varies for layer in found):
        raise ConfigError(
            f"--width-from {path}: found the method {found[0].lif.config.method}, whose widths differ between timesteps, "
            "expected one width per layer",
            hint="Use a checkpoint of another method.",
        )
    widths = {layer.name: layer.lif.alpha for layer in found}
    layers = {layer.name: layer.lif for layer in model.spiking_layers()}
    if widths.keys() != layers.keys():
        raise ConfigError(
            f"--width-from {path}: found the layers {', '.join(widths)}, expected {', '.join(layers)}",
            hint="Use a checkpoint with the same --arch and --residual.",
        )
    for name, lif in layers.items():
        own = lif.width
        width = widths[name]
        assert isinstance(own, Tensor)
        if width.dim() > 0 and width.shape != own.shape:
            raise ConfigError(
                f"--width-from {path}: found a width for each of {len(width)} channels in {name}, "
                f"expected {f'{len(own)} or ' if own.dim() else ''}one",
                hint="Use a checkpoint with the same --decay-per and --width-multiplier.",
            )
        own.copy_(width)
    return {"sha256": content.sha256}
