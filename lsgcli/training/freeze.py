"""Frozen parts of a network (``--freeze``): their parameters and running statistics stay as they are."""

from fnmatch import fnmatchcase

from torch import nn

from lsgcli.errors import ConfigError
from lsgcli.models.base import SpikingNet

SHOWN = 40  # names in an error


def freeze(model: SpikingNet, patterns: str) -> None:
    """Freeze parts of a network: their parameters require no gradient, and their modules stay in evaluation mode.

    Args:
        patterns: comma-separated patterns, such as ``conv1,features.[12],*.lif``, of names of layers, which are frozen with their
            normalisation and their neurons; of modules, with all that they contain; and of parameters.

    Raises:
        ConfigError: a pattern matches nothing, or no parameter is left to train.
    """
    modules = {name: [module] for name, module in model.named_modules() if name}
    layers = {
        layer.name: [part for part in (layer.synapse, layer.norm, layer.lif) if part is not None]
        for layer in model.spiking_layers()
    }
    parameters = dict(model.named_parameters())
    for pattern in patterns.split(","):
        parts = [part for own in (modules, layers) for name, some in own.items() if fnmatchcase(name, pattern) for part in some]
        single = [parameter for name, parameter in parameters.items() if fnmatchcase(name, pattern)]
        if not parts and not single:
            children = [name for name, child in model.named_children() if list(child.parameters())]
            names = list(dict.fromkeys([*layers, *children, *parameters]))
            known = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
            raise ConfigError(
                f"freeze: found {pattern!r}, which matches nothing, expected patterns of names of layers, modules or parameters: {known}"
            )
        model.frozen += [module for part in parts for module in part.modules()]
        for parameter in [*single, *(parameter for part in parts for parameter in part.parameters())]:
            parameter.requires_grad_(False)
    model.frozen += [module for module in model.modules() if _is_frozen(module)]
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ConfigError(f"freeze: found {patterns!r}, which freezes every parameter, expected some to train")


def _is_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters, all of which are frozen."""
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)
