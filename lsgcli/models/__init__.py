"""Networks: one file each; :func:`build` creates one by name."""

import dataclasses
from typing import TYPE_CHECKING, Any

from lsgcli import registry
from lsgcli.config.fields import check, fields_of
from lsgcli.config.neuron import NeuronConfig
from lsgcli.errors import ConfigError

if TYPE_CHECKING:
    from lsgcli.models.base import NetworkSpec, SpikingNet


def build(name: str, neurons: NeuronConfig | None = None, **arguments: Any) -> "SpikingNet":
    """Create a network, with weights from torch's global generator.

    ``build("vggsnn", method="lsg", T=10, num_classes=10, in_channels=2, width_multiplier=0.25)``

    Args:
        name: ``vggsnn``, ``resnet19``, ``qkformer``, or another registered network.
        neurons: settings of the neurons.
        arguments: fields of :class:`~lsgcli.models.base.NetworkSpec`, and fields of :class:`~lsgcli.config.neuron.NeuronConfig`, which
            replace those of ``neurons``. None selects the network's default, in its attribute ``defaults``.

    Returns:
        A module that maps (T, B, C, H, W), or (B, C, H, W) for a static image presented at every step, to logits (T, B, classes).

    Raises:
        ConfigError: a name or argument is unknown, a size does not fit the network, or the method needs a ``width`` or computes it.
    """
    from lsgcli.models.base import NetworkSpec
    from lsgcli.neurons.methods import by_name

    known = {**fields_of(NetworkSpec), **fields_of(NeuronConfig)}
    of_neuron = fields_of(NeuronConfig)
    del known["arch"]
    given = {key: value for key, value in arguments.items() if value is not None}
    defaults = dict(registry.get("arch", name).defaults)
    if "input_size" in given:
        defaults.pop("input_height", None)  # the default height belongs to the default width
    if problems := check({**defaults, **given}, known):
        raise ConfigError("\n".join(problems))
    own = {key: given.pop(key) for key in of_neuron if key in given}
    if neurons is None:
        own = by_name(own)
    neurons = dataclasses.replace(neurons or NeuronConfig(), **own)
    return create(NetworkSpec(**{**defaults, **given, "arch": name, "neuron": neurons}))


def create(spec: "NetworkSpec") -> "SpikingNet":
    """Create the network of a specification; result and errors as for :func:`build`."""
    from lsgcli.models.quantise import train_rounded

    model: SpikingNet = registry.get("arch", spec.arch)(spec)
    if spec.weight_bits is not None:
        train_rounded(model, spec.weight_bits)
    return model
