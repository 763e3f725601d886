"""Networks: one file each; :func:`build` creates one by name."""

from typing import TYPE_CHECKING, Any

from lsgcli import registry
from lsgcli.config import check
from lsgcli.errors import ConfigError

if TYPE_CHECKING:
    from lsgcli.models.base import SpikingNet

NEURON = ("decay", "threshold", "method", "width", "surrogate", "backend", "decay_per")


def build(
    name: str,
    *,
    method: str = "lsg",
    T: int | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    input_size: int | None = None,
    input_height: int | None = None,
    width_multiplier: float = 1.0,
    residual: str = "add",
    **neuron: Any,
) -> "SpikingNet":
    """Create a network, with weights from torch's global generator.

    Args:
        name: ``vggsnn``, ``resnet19``, or another registered network.
        method: how decay and surrogate width are set.
        T: timesteps for which a static image is presented.
        num_classes: number of classes.
        in_channels: C of the input.
        input_size: W of the input, and H unless ``input_height`` is given.
        input_height: H of a non-square input.
        width_multiplier: scales all channel counts.
        residual: ``add`` or ``sew``.
        neuron: other arguments of :class:`~lsgcli.neurons.LIF`: decay, threshold, width, surrogate, backend, decay_per.

    None selects the network's default (vggsnn: 2 x 48 x 48, T=10; resnet19: 3 x 32 x 32, T=2; 10 classes;
    mlp: 1 x 1 x 140, T=100; 20 classes).

    Returns:
        A module that maps (T, B, C, H, W), or (B, C, H, W) for a static image presented at every step, to logits (T, B, classes).

    Raises:
        ConfigError: a name or argument is unknown, or a size does not fit the network.
    """
    from lsgcli.models.base import NetworkSpec

    kind = registry.get("arch", name)
    given = {"T": T, "num_classes": num_classes, "in_channels": in_channels, "input_size": input_size}
    sizes = {**kind.defaults, **{key: value for key, value in given.items() if value is not None}}
    if input_size is not None or input_height is not None:  # the default height belongs to the default width
        sizes["input_height"] = input_height
    problems = [registry.unknown("argument", key, list(NEURON)) for key in sorted(set(neuron) - set(NEURON))]
    problems += check(
        {"T": sizes["T"], "size": sizes["input_size"], "width_multiplier": width_multiplier, "residual": residual}
    )
    for key in ("num_classes", "in_channels", "input_height"):
        if key == "input_height" and sizes.get(key) is None:
            continue
        if type(sizes[key]) is not int or sizes[key] < 1:
            problems.append(f"{key}: found {sizes[key]!r}, expected an integer, at least 1")
    if problems:
        raise ConfigError("\n".join(problems))
    spec = NetworkSpec(**sizes, width_multiplier=width_multiplier, residual=residual, neuron={"method": method, **neuron})
    model: SpikingNet = kind(spec)
    return model
