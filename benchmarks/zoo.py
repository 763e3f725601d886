"""Lists of docs/zoo.md: what neurons, methods, normalisations and networks compute, read from the registry."""

from collections import Counter
from collections.abc import Iterable

import torch
from torch import nn

from lsgcli import models, registry
from lsgcli.config.neuron import NeuronConfig
from lsgcli.config.run import RULES, RunConfig, option_name
from lsgcli.models.base import NetworkSpec
from lsgcli.models.layers import SpikingConv
from lsgcli.neurons import LIF

OPTIONS = {
    "neuron": ("reset", "detach_reset", "init_potential", "threshold_learned", "carry_m", "order"),
    "method": ("width", "decay_per", "smooth", "width_from", "input_correlation"),
}
STEPS, CHANNELS = 3, 7  # of the layer whose parameters are counted
# What a parameter counts as: a factor, and a size.
SIZES = {
    (): (1, ""),
    (CHANNELS,): (1, "C"),
    (STEPS,): (1, "T"),
    (STEPS, CHANNELS): (1, "T C"),
    (STEPS, STEPS): (1, "T^2"),
    (2,): (1, "k"),
}
SIZES |= {(CHANNELS, 4): (4, "C"), (CHANNELS, 4, 2): (8, "C")}


def neurons() -> str:
    """Equation, options and parameters of each neuron."""
    layers = {name: LIF(neuron=name, method="fixed", channels=CHANNELS, steps=STEPS) for name in registry.names("neuron")}
    return _things("neuron", {name: layer.parameters() for name, layer in layers.items()})


def methods() -> str:
    """Rule, options and parameters of each method."""
    layers = {name: LIF(method=name, width=1.0, channels=CHANNELS, steps=STEPS) for name in registry.names("method")}
    return _things("method", {name: layer.parameters() for name, layer in layers.items()})


def norms() -> str:
    """Description and parameters of each normalisation."""
    parameters = {}
    for name in registry.names("norm"):
        spec = NetworkSpec(T=STEPS, num_classes=2, in_channels=1, input_size=4, norm=name, neuron=NeuronConfig(method="fixed"))
        layer = SpikingConv(spec, 1, CHANNELS)
        parameters[name] = [p for p in layer.parameters() if p.dim() < 4]
    return _things("norm", parameters)


def networks() -> str:
    """Default input and number of parameters of each network."""
    lines = []
    for name in registry.names("arch"):
        with torch.device("meta"):
            net = models.build(name, method="fixed")
        count = sum(p.numel() for p in net.parameters())
        shape = "x".join(map(str, (net.T, net.spec.in_channels, net.spec.height, net.spec.input_size)))
        lines.append(f"- `{name}` ({shape}, {net.spec.num_classes} classes, {count:,}): {first_line('arch', name)}")
    return "\n".join(lines)


def first_line(kind: str, name: str) -> str:
    """The first line of the docstring of an entry, as Markdown."""
    return registry.summary(kind, name).replace("``", "`")


def _things(kind: str, parameters: dict[str, Iterable[nn.Parameter]]) -> str:
    lines = []
    for name, own in parameters.items():
        config = RunConfig(**{kind: name})
        given = [f"`{option_name(one)}`" for one in OPTIONS.get(kind, ()) if RULES[one].to(config)]
        lines.append(f"- `{name}` ({'; '.join([_counted(own), *given])}): {first_line(kind, name)}")
    return "\n".join(lines)


def _counted(parameters: Iterable[nn.Parameter]) -> str:
    """The number of parameters of a layer with C channels in T timesteps, such as ``6 C + T C``."""
    shapes: Counter[str] = Counter()
    for factor, size in (SIZES[tuple(p.shape)] for p in parameters):
        shapes[size] += factor
    return " + ".join(f"{'' if count == 1 and size else count} {size}".strip() for size, count in shapes.items()) or "0"
