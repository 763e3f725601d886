"""Losses over a sequence of logits.

Labels are (B,) of int64, or (B, classes) of probabilities if samples are mixed.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli.config.training import TrainingConfig
from lsgcli.errors import ConfigError
from lsgcli.models.base import SpikingNet
from lsgcli.neurons.draws import Draws
from lsgcli.registry import get, register
from lsgcli.system.device import full_precision

Loss = Callable[[Tensor, Tensor], Tensor]  # of logits (T, B, classes) and labels


def balanced(y: np.ndarray, classes: int) -> Tensor:
    """Weights of classes, (classes,): n/(K n_k) for class k with n_k of the n labels ``y``; 0 for a class without samples.

    Their mean over the samples is 1 if all K classes have some.
    """
    counts = np.bincount(y, minlength=classes)
    return torch.from_numpy(np.where(counts, len(y) / (classes * np.maximum(counts, 1)), 0.0)).float()


def of_run(config: TrainingConfig, y: np.ndarray | None = None, classes: int = 0) -> Loss:
    """The loss ``config.loss`` of a run.

    Args:
        y: labels of the training part, for the weights of its classes; None: without.
        classes: their number.
    """
    loss, observes = get("loss", config.loss), _observes(config)
    weights = None if y is None or config.class_weights == "none" else balanced(y, classes)

    def of_batch(logits: Tensor, labels: Tensor) -> Tensor:
        nonlocal weights
        options: dict[str, Any] = {"backbone": BACKBONE.get()} if observes else {}
        if weights is not None:
            options["weights"] = weights = weights.to(logits, non_blocking=True)  # copied once
        return loss(logits, labels, config, **options)  # type: ignore[no-any-return]

    return of_batch


def checked(loss: Tensor, config: TrainingConfig) -> Tensor:
    """The value of the loss ``config.loss`` in training, checked.

    Raises:
        ConfigError: it is not a scalar tensor with a gradient.
    """
    if not isinstance(loss, Tensor) or loss.dim() > 0:
        found = f"{loss.dtype} of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ConfigError(f"loss {config.loss}: found {found.removeprefix('torch.')}, expected a scalar tensor")
    if not loss.requires_grad:
        raise ConfigError(f"loss {config.loss}: found a value without gradient, expected one computed from the logits")
    return loss


@register("loss", "ce")
def ce(logits: Tensor, labels: Tensor, config: TrainingConfig, weights: Tensor | None = None) -> Tensor:
    """CE(mean over t of y[t], label), averaged over the batch.

    Args:
        logits: y, (T, B, classes).
        labels: (B,), or (B, classes).
        config: provides the label smoothing.
        weights: of classes, (classes,).
    """
    return _cross_entropy(logits.mean(0), labels, config, weights)


@register("loss", "tet")
def tet(logits: Tensor, labels: Tensor, config: TrainingConfig, weights: Tensor | None = None) -> Tensor:
    """(1 - l) * mean over t of CE(y[t], label) + l * mean of (y - phi)^2, with l = ``config.tet_lambda``.

    phi is 1, or the one-hot label if ``config.tet_target`` is ``one-hot``.

    Source: Deng et al., "Temporal Efficient Training", ICLR 2022, equations 10 to 12, with phi = 1; the one-hot label in the code of
    Huang et al., "CLIF", ICML 2024.

    Args:
        logits: y, (T, B, classes).
        labels: (B,), or (B, classes).
        config: provides l, phi and the label smoothing.
        weights: of classes, (classes,), in the cross-entropy.
    """
    repeated = labels.repeat(len(logits), *[1] * (labels.dim() - 1))
    every_step = _cross_entropy(logits.flatten(0, 1), repeated, config, weights)
    phi = _one_hot(labels, logits) if config.tet_target == "one-hot" else 1
    regular = (logits - phi).square().mean()
    return (1 - config.tet_lambda) * every_step + config.tet_lambda * regular


@register("loss", "mse")
def mse(logits: Tensor, labels: Tensor, config: TrainingConfig) -> Tensor:
    """Mean squared difference of mean over t of y[t] and the one-hot label, over batch and classes.

    Source: Fang et al., "Incorporating Learnable Membrane Time Constant", ICCV 2021, for firing rates.

    Args:
        logits: y, (T, B, classes).
        labels: (B,), or (B, classes).
        config: unused.
    """
    return F.mse_loss(logits.mean(0), _one_hot(labels, logits))


class Noise(Draws):
    """Draws the random numbers of a loss."""

    @property
    def draws(self) -> bool:
        """True."""
        return True


class Backbone(NamedTuple):
    """A network in a training step, as losses with a parameter ``backbone`` receive it.

    Attributes:
        net: the network, with a module ``noise``, a :class:`Noise`.
        features: input of its classifier, before dropout, (T, B, features).
    """

    net: SpikingNet
    features: Tensor


BACKBONE: ContextVar[Backbone | None] = ContextVar("BACKBONE", default=None)


def _observes(config: TrainingConfig) -> bool:
    """Whether the loss has a parameter ``backbone``."""
    return "backbone" in signature(get("loss", config.loss)).parameters


@contextmanager
def observed_backbone(net: nn.Module, config: TrainingConfig) -> Iterator[None]:
    """Context in which a network, or a copy made in it, passes its :class:`Backbone` to a loss that has this parameter, see :func:`of_run`."""
    if not _observes(config):
        yield
        return
    (own,) = (module for module in net.modules() if isinstance(module, SpikingNet))
    last: list[Tensor] = []

    def arrives(module: nn.Module, arguments: tuple[Tensor]) -> None:
        last[:] = arguments

    def ends(module: SpikingNet, arguments: Any, output: Tensor) -> None:
        BACKBONE.set(Backbone(module, *last) if last else None)

    own.noise, token = Noise(), BACKBONE.set(None)
    try:
        with own.dropout.register_forward_pre_hook(arrives), own.register_forward_hook(ends):
            yield
    finally:
        BACKBONE.reset(token)
        del own.noise


STABLE_WEIGHT, STABLE_TEMPERATURE = 4.0, 2.0


@register("loss", "stable-spike")
def stable_spike(
    logits: Tensor, labels: Tensor, config: TrainingConfig, weights: Tensor | None = None, backbone: Backbone | None = None
) -> Tensor:
    """CE + mean of (q - p)^2 + 4 KL(softmax(y/2), softmax(z/2)), with rates p and stable rates q of the features, and logits z of q with noise.

    For the features s[t], the input of the classifier, p is the mean of s[t] over t, and q that of the T - 1 products s[t] s[t+1], which are
    1 where a neuron fires at both timesteps; of averages over neurons, they are products of averages. y is the mean of the logits over t. z is
    the output of the classifier for q plus a spike with probability q, with the dropout of the features. The source does not state whether
    gradients flow through q; in the classifier they do, for the features ``config.stable_gradient`` decides.

    Source: Ding et al., "Stable Spike: Dual Consistency Optimization via Bitwise AND Operations for Spiking Neural Networks", CVPR 2026, at
    second hand.

    Args:
        logits: (T, B, classes).
        labels: (B,), or (B, classes).
        config: provides the label smoothing, and whether q has a gradient.
        weights: of classes, (classes,), in the cross-entropy.
        backbone: from :func:`observed_backbone`.

    Raises:
        ConfigError: there is no backbone, or less than two timesteps.
    """
    if backbone is None:
        raise ConfigError(
            "loss stable-spike: found logits only, expected the input of the classifier, too",
            hint="Run the network and losses.of_run(config) in a block `with losses.observed_backbone(network, config):`, of "
            "lsgcli.training. A network of your own passes this input to self.logits().",
        )
    net, s = backbone.net, full_precision(backbone.features)
    if len(s) < 2:
        raise ConfigError(f"loss stable-spike: found {len(s)} timestep, expected at least 2", hint="Increase -T.")
    p, q = s.mean(0), (s[:-1] * s[1:]).mean(0)
    if config.stable_gradient == "detached":
        q = q.detach()
    noise = (net.noise.uniforms(q) < q).to(q.dtype)  # type: ignore[operator,union-attr]
    y = logits.mean(0)
    of_y, of_z = ((one / STABLE_TEMPERATURE).log_softmax(-1) for one in (y, net.logits((q + noise)[None])[0]))
    divergence = F.kl_div(of_z, of_y, reduction="batchmean", log_target=True)
    return _cross_entropy(y, labels, config, weights) + F.mse_loss(q, p) + STABLE_WEIGHT * divergence


def _cross_entropy(logits: Tensor, labels: Tensor, config: TrainingConfig, weights: Tensor | None) -> Tensor:
    """Cross-entropy of (N, classes), averaged over N. Weighted losses, too, are divided by N, so that parts of a batch add up."""
    if weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=config.label_smoothing)
    smoothing = config.label_smoothing
    return F.cross_entropy(logits, labels, weights, reduction="none", label_smoothing=smoothing).mean()


def _one_hot(labels: Tensor, logits: Tensor) -> Tensor:
    """The labels as (B, classes) of the logits' type."""
    return F.one_hot(labels, logits.shape[-1]).to(logits.dtype) if labels.dim() == 1 else labels


@contextmanager
def observed_rates(net: nn.Module, config: TrainingConfig) -> Iterator[list[Tensor]]:
    """Context that collects the firing rate of each layer of a network, (), with its gradient; nothing without ``rate_target``."""
    rates: list[Tensor] = []
    networks = [] if config.rate_target is None else [module for module in net.modules() if isinstance(module, SpikingNet)]
    with ExitStack() as hooks:
        for layer in (layer for network in networks for layer in network.spiking_layers()):

            def observe(module: nn.Module, arguments: Any, output: Tensor, unit: float | Tensor = layer.lif.unit) -> None:
                rates.append(output.mean(dtype=torch.float32) / unit)

            hooks.enter_context((layer.block or layer.lif).register_forward_hook(observe))
        yield rates


def rate_penalty(rates: list[Tensor], config: TrainingConfig) -> Tensor | float:
    """w * sum over layers of max(0, r - R)^2, with w = ``config.rate_weight``, R = ``config.rate_target`` and the firing rates r.

    Source: the upper bound on the activity of a population in Rossbroich et al., "Fluctuation-driven initialization for spiking neural
    network training", Neuromorphic Computing and Engineering 2022.

    Args:
        rates: from :func:`observed_rates`; of the samples of this process.
        config: provides w and R.
    """
    if config.rate_target is None:
        return 0.0
    return config.rate_weight * (torch.stack(rates) - config.rate_target).clamp(min=0).square().sum()
