"""Failures that experiment E6 of benchmarks/plans.md plants in networks, and the rules that name their cause.

A failure is a setting, or a change of the network that an error in somebody's own code would make.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli import models
from lsgcli.models.base import SpikingNet
from lsgcli.registry import register

Change = Callable[[SpikingNet], None]


@dataclass(frozen=True)
class Failure:
    """A planted failure.

    Attributes:
        causes: rules that name it.
        settings: settings that differ from the unbroken run.
        base: settings of both runs.
        change: change of the network, where it is built.
        by_hand: whether the remedy is in words, about the code that ``change`` stands for; it is then applied by leaving ``change`` out.
        measured: settings with which the trained network is measured and evaluated.
    """

    causes: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    change: Change | None = None
    by_hand: bool = False
    measured: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def planted(self) -> Iterator[None]:
        """While the block runs, networks are built with the change."""
        create = models.create
        if self.settings.get("loss") == "shifted":
            _register_loss()

        def changed(*arguments: Any, **options: Any) -> SpikingNet:
            net = create(*arguments, **options)
            if self.change is not None:
                self.change(net)
            return net

        with mock.patch.object(models, "create", changed):
            yield


def norms(net: SpikingNet) -> list[nn.Module]:
    """Its normalisations."""
    return [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def frozen(net: SpikingNet) -> None:
    """Normalisation in evaluation mode during training: its statistics stay 0 and 1, and it only multiplies by v_th."""
    for norm in norms(net):
        norm.eval()
        norm.train = lambda mode=True, norm=norm: norm  # type: ignore[method-assign]


def scaled(factor: float) -> Change:
    """Initial weights times a factor."""

    def change(net: SpikingNet) -> None:
        with torch.no_grad():
            for layer in net.spiking_layers():
                layer.synapse.weight *= factor

    return change


def weights(factor: float) -> Change:
    """Initial weights times a factor, without normalisation."""

    def change(net: SpikingNet) -> None:
        frozen(net)
        scaled(factor)(net)

    return change


def inputs(factor: float) -> Change:
    """Inputs times a factor, without normalisation."""

    def change(net: SpikingNet) -> None:
        frozen(net)
        net.register_forward_pre_hook(lambda module, arguments: (arguments[0] * factor, *arguments[1:]))

    return change


def shift(potential: float) -> Change:
    """A bias of the layer in the middle, which training does not change."""

    def change(net: SpikingNet) -> None:
        layers = net.spiking_layers()
        norm = layers[len(layers) // 2].norm
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
        norm.bias.data.fill_(potential)
        norm.weight.data.fill_(0.1)
        norm.bias.requires_grad_(False)
        norm.weight.requires_grad_(False)

    return change


def leaky(net: SpikingNet) -> None:
    """Logits that depend on the batch: those of each sample contain the mean of the batch, as a state that is not reset does."""
    net.register_forward_hook(
        lambda module, arguments, logits: logits + 3 * logits.mean(1, keepdim=True).roll(1, -1) + 0.5 * logits.roll(1, 1)
    )


def shifted(logits: Tensor, labels: Tensor, config: Any) -> Tensor:
    """Cross-entropy with labels that are wrong by one."""
    return F.cross_entropy(logits.mean(0), (labels + 1) % logits.shape[-1])


@functools.cache
def _register_loss() -> None:
    register("loss", "shifted")(shifted)


PLAIN = {"method": "fixed", "norm": "bn"}
FIXED = {"method": "fixed"}
FAILURES = {
    "threshold 8": Failure(("potential-scale", "silent", "narrow-window"), {"threshold": 8.0}, PLAIN),
    "threshold 0.05": Failure(("potential-scale", "saturated"), {"threshold": 0.05}, PLAIN),
    "width 0.02": Failure(("narrow-window",), {"width": 0.02}, FIXED),
    "width 20": Failure(("wide-window",), {"width": 20.0}, FIXED),
    "decay 0.99": Failure(("decay-at-bound", "saturated", "drift"), {"decay": 0.99}),
    "decay 0.01": Failure(("decay-at-bound",), {"decay": 0.01}),
    "lr x 30": Failure(("learning-rate", "not-finite"), {"lr": 1.5}),
    "lr / 300": Failure(("learning-rate",), {"lr": 1.7e-4}),
    "lr x 1000": Failure(("learning-rate", "not-finite"), {"lr": 50.0}),
    "decay lr x 100": Failure(("decay-fast", "decay-at-bound"), {"decay_lr": 0.5}),
    "decay lr x 1000": Failure(("decay-fast", "decay-at-bound"), {"decay_lr": 5.0}),
    # Of records of before, small-batch: a rule that was merged into running-statistics.
    "batch 2": Failure(("small-batch", "running-statistics"), {"batch_size": 2}),
    "batch in parts of 2": Failure(("small-batch", "running-statistics"), {"accumulate": 16}),
    "clip at 1e-5": Failure(("unusual-settings",), {"clip_grad": 1e-5}),
    "weight decay 1": Failure(("unusual-settings",), {"weight_decay": 1.0}),
    "average of 0.9999": Failure(("averaging",), {"ema": 0.9999}),
    "dropout 0.98": Failure(("unusual-settings",), {"dropout": 0.98, "dropout_at": "neurons"}),
    "plain, 20 layers": Failure(
        ("vanishing", "exploding", "too-deep"),
        {"residual": "none", "depth": 21},
        {"arch": "resnet19", "depth": 9, "width_multiplier": 0.125},
    ),
    **{
        f"plain, {layers} layers, no norm, weights x {factor:g}": Failure(
            ("initial-scale", "potential-scale", "silent", "saturated"),
            {"norm": "none"},
            {"arch": "resnet19", "residual": "none", "depth": layers + 1, "width_multiplier": 0.125},
            scaled(factor),
        )
        for layers in (8, 20)
        for factor in (0.1, 10)
    },
    "norm in evaluation mode": Failure(
        ("potential-scale", "silent", "saturated", "narrow-window"), change=frozen, by_hand=True
    ),
    "weights x 0.1": Failure(("potential-scale", "silent"), change=weights(0.1), by_hand=True),
    "weights x 10": Failure(("potential-scale", "saturated"), change=weights(10), by_hand=True),
    "input x 255": Failure(("input-scale", "potential-scale", "saturated"), change=inputs(255), by_hand=True),
    "input / 255": Failure(("input-scale", "potential-scale", "silent"), change=inputs(1 / 255), by_hand=True),
    "dead layer": Failure(("silent",), change=shift(-2.0), by_hand=True),
    "saturated layer": Failure(("saturated",), change=shift(3.0), by_hand=True),
    "labels wrong by one": Failure(("labels",), {"loss": "shifted"}, by_hand=True),
    "batch-dependent": Failure(("batch-dependent",), change=leaky, by_hand=True),
    "statistics of another T": Failure(("running-statistics",), measured={"T": 1}, by_hand=True),
}
