"""Frozen parts of a network (``--freeze``): their parameters and running statistics stay as they are."""

from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from lsgcli.errors import ConfigError
from lsgcli.models.base import SpikingNet

SHOWN = 12  # names in an error


def freeze(model: SpikingNet, patterns: str) -> None:
    """Freeze parts of a network: their parameters require no gradient, and their modules stay in evaluation mode.

    Args:
        patterns: comma-separated patterns, such as ``conv1,features.[12],*.lif``, of names of layers, which are frozen with their
            normalisation and their neurons; of modules, with all that they contain; and of parameters.

    Raises:
        ConfigError: a pattern matches nothing, or no parameter is left to train.
    """
    layers, parameters = model.spiking_layers(), list(model.named_parameters())
    named: list[tuple[str, list[Any]]] = [(layer.name, [layer.synapse, layer.norm, layer.lif]) for layer in layers]
    named += [(name, [module]) for name, module in model.named_modules() if name]
    named += [(name, [parameter]) for name, parameter in parameters]
    for pattern in patterns.split(","):
        parts = [part for name, some in named if fnmatchcase(name, pattern) for part in some if part is not None]
        if not parts:
            known = ", ".join([name for name, _ in named][:SHOWN])
            raise ConfigError(
                f"freeze: found {pattern!r}, which matches nothing, expected patterns of names of layers, modules or parameters: {known}, ...",
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
