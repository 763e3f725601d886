"""Tables of docs/zoo.md: what neurons, methods, normalisations and networks compute, and what they cost.

What they are is read from the registry; what they cost from the record of ``benchmarks.cost``.
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks import cost
from benchmarks.contenders import PLAIN
from benchmarks.plot import load
from benchmarks.tables import Table
from lsgcli import models, registry
from lsgcli.config.neuron import NeuronConfig
from lsgcli.config.run import RULES, RunConfig, option_name
from lsgcli.models.base import NetworkSpec
from lsgcli.models.layers import SpikingConv
from lsgcli.neurons import LIF

COSTS = ("time", "memory")
OPTIONS = {
    "neuron": ("reset", "detach_reset", "init_potential", "threshold_learned"),
    "method": ("width", "decay_per", "smooth", "width_from"),
}
STEPS, CHANNELS = 3, 7  # of the layer whose parameters are counted
SIZES = {(): "1", (CHANNELS,): "C", (STEPS,): "T", (STEPS, CHANNELS): "T C"}
WHOLE, MISSING = "1.00", ""


class Costs:
    """Cells of the columns ``COSTS``: time and peak memory of a training step, relative to plain LIF."""

    def __init__(self, folder: Path):
        records = load(folder, "cost-*-fp32.json")
        self.found = cost.relative(records[0]) if records else {}

    def of(self, kind: str, name: str) -> tuple[str, str]:
        """Those of a setting; the default of ``benchmarks.cost`` is what the others are compared with."""
        if name == PLAIN[kind]:
            return WHOLE, WHOLE
        one = self.found.get(f"{kind}={name}")
        if one is None:
            return MISSING, MISSING
        return f"{one['ratio']:.2f}", f"{one['peak']:.2f}"


def neurons(folder: Path) -> str:
    """Equation, options, parameters and cost of each neuron."""
    layers = {name: LIF(neuron=name, method="none", channels=CHANNELS, steps=STEPS) for name in registry.names("neuron")}
    return _things(folder, "neuron", {name: layer.parameters() for name, layer in layers.items()}).markdown()


def methods(folder: Path) -> str:
    """Rule, options, parameters and cost of each method."""
    layers = {name: LIF(method=name, width=1.0, channels=CHANNELS, steps=STEPS) for name in registry.names("method")}
    return _things(folder, "method", {name: layer.parameters() for name, layer in layers.items()}).markdown()


def norms(folder: Path) -> str:
    """Description, parameters and cost of each normalisation."""
    parameters = {}
    for name in registry.names("norm"):
        spec = NetworkSpec(T=STEPS, num_classes=2, in_channels=1, input_size=4, norm=name, neuron=NeuronConfig(method="none"))
        layer = SpikingConv(spec, 1, CHANNELS)
        parameters[name] = [p for p in layer.parameters() if p.dim() < 4]
    return _things(folder, "norm", parameters).markdown()


def networks() -> str:
    """Default input and number of parameters of each network."""
    table = Table("", ("`--arch`", "description", "T x C x H x W", "classes", "parameters"))
    for name in registry.names("arch"):
        if name == "nir":  # a file gives input and layers
            continue
        with torch.device("meta"):
            net = models.build(name, method="none")
        count = sum(p.numel() for p in net.parameters())
        shape = " x ".join(map(str, (net.T, net.spec.in_channels, net.spec.height, net.spec.input_size)))
        table.rows.append((f"`{name}`", first_line(type(net)), shape, net.spec.num_classes, count))
    return table.markdown()


def first_line(thing: Any) -> str:
    """The first line of a docstring, as Markdown."""
    return (thing.__doc__ or "").strip().partition("\n")[0].replace("``", "`")


def _things(folder: Path, kind: str, parameters: dict[str, Iterable[nn.Parameter]]) -> Table:
    costs, options = Costs(folder), OPTIONS.get(kind, ())
    table = Table("", (f"`--{kind}`", "computes", *(("options",) if options else ()), "parameters", *COSTS))
    for name, own in parameters.items():
        config = RunConfig(**{kind: name})
        given = [f"`{option_name(one)}`" for one in options if RULES[one].to(config)]
        middle = (", ".join(given),) if options else ()
        row = (f"`{name}`", first_line(registry.get(kind, name)), *middle, _counted(own), *costs.of(kind, name))
        table.rows.append(row)
    return table


def _counted(parameters: Iterable[nn.Parameter]) -> str:
    """The number of parameters of a layer with C channels in T timesteps, such as ``6 C + T C``."""
    shapes = Counter(SIZES[tuple(p.shape)] for p in parameters)
    terms = [size if count == 1 else f"{count} {size}" for size, count in shapes.items()]
    return re.sub(r"(\d) 1\b", r"\1", " + ".join(terms)) or "0"
