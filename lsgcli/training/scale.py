"""Initial weights of networks without normalisation (``--init``), and the ratios of ``--method adaptive``."""

import math
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli.config.run import RunConfig
from lsgcli.errors import ConfigError
from lsgcli.models.base import SpikingLayer, SpikingNet
from lsgcli.models.layers import ConvNorm
from lsgcli.neurons import LIF, initial
from lsgcli.neurons.initial import Neurons, root
from lsgcli.neurons.widths import RARE, Adaptive

SAMPLES = 32  # of the batch on which layers are measured
LEAST, MOST = 1e-3, 1e3  # factors on weights
WIDTHS = 0.02, 20.0  # ratios to the standard deviation of u
ROUNDS, EXPONENT = 8, 0.5  # of the widths; the gain is between 1/width and its square


@torch.no_grad()
def draw_weights(model: SpikingNet, config: RunConfig, x: Tensor) -> None:
    """Draw the initial weights of a new network as ``--init`` says, and set what ``--method adaptive`` starts from.

    Weights of spikes are N(0, s^2 / fan_in), with s of :mod:`lsgcli.neurons.initial`, times the factor of :func:`_scale` for the mean square of
    what reaches the layer. Branches of residual blocks end with weights of 0, or where spikes are added, with weights that make neurons
    fire rarely; the classifier is then 0.

    Args:
        x: inputs, (T, B, C, H, W) or static (B, C, H, W).

    Raises:
        ConfigError: the scale depends on the decay, and the neurons have none.
    """
    if config.init != "measured" and not config.model.has_decay:
        raise ConfigError(f"--init {config.init}: found neurons without a decay, expected --init measured, or --neuron lif")
    layers = model.spiking_layers()
    if x.dim() == 4 and not model.images_only:
        x = x.expand(config.T, *x.shape)
    gain = 1 - config.decay if config.input_gain == "1-beta" else 1.0
    T = len(x) if x.dim() == 5 else config.T
    surrogate = layers[0].lif.surrogate
    rate = initial.standard_rate(config.threshold) if config.init == "micheli" else config.init_rate
    neurons = Neurons(config.decay, config.threshold, gain, config.reset, surrogate, T, rate)
    s, bias = initial.SCALES[config.init](neurons)
    kept: set[nn.Module] = set()
    for module in model.modules():
        if isinstance(module, ConvNorm):
            _draw(module.conv, s if module.levels else 1.0, bias)
            if config.init == "ding" and not module.levels:
                kept.add(module.conv)
    for layer in layers:
        if isinstance(layer.synapse, nn.Linear):
            _draw(layer.synapse, s, bias)
    blocks: list[Any] = [block for block in model.modules() if hasattr(block, "shortcut") and hasattr(block, "second")]
    rare = config.threshold * (1 - config.decay) / (RARE * gain * math.sqrt(0.5))
    shortcuts: dict[nn.Module, nn.Conv2d] = {}
    for block in blocks:
        end = block.second
        if isinstance(end, ConvNorm):
            _draw(end.conv, 0.0, 0.0)
            if isinstance(block.shortcut, ConvNorm):
                shortcuts[end.conv] = block.shortcut.conv
        else:
            _draw(end.current.conv, rare, bias)
            kept.add(end.current.conv)
    _scale(model, config.init, neurons, s, bias, x, kept, shortcuts)
    if isinstance(layers[0].lif.method.width, Adaptive):
        ratio = initial.width_ratio(neurons, s)
        for layer in layers:
            layer.lif.ratio.fill_(ratio)
        if config.init == "measured":
            _pass(model, layers, x, config.init_rate)
    if blocks:
        nn.init.zeros_(model.classifier.weight)


def _draw(synapse: nn.Conv2d | nn.Linear, s: float, bias: float) -> None:
    synapse.weight.normal_(0, s / math.sqrt(synapse.weight[0].numel()))
    if synapse.bias is not None:
        synapse.bias.fill_(bias)


def _scale(
    model: SpikingNet,
    init: str,
    neurons: Neurons,
    s: float,
    bias: float,
    x: Tensor,
    kept: set[nn.Module],
    shortcuts: dict[nn.Module, nn.Conv2d],
) -> None:
    """Scale the weights of each layer for what reaches it, in one forward pass.

    Each layer is scaled when its current arrives, and passes on the spikes of its new weights: ``measured`` until it fires at the rate, others
    by :data:`~lsgcli.neurons.initial.FACTORS`, or so that currents have the mean square of those that spikes of the rate make with s, for
    ``ding`` of the rate of the spikes that reach the layer.

    Args:
        s: scale of the weights of spikes.
        bias: of all neurons.
        kept: synapses that keep their weights.
        shortcuts: the synapse of a shortcut, by the one of 0 whose currents its own are added to.
    """
    arrived: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def factor_of(lif: LIF, reached: Tensor, own: Tensor, others: Tensor) -> float:
        if init == "measured":
            return root(lambda c: _firing_rate(lif, others + c * own) - neurons.rate, LEAST, MOST)
        if init in initial.FACTORS:
            return initial.FACTORS[init](neurons, own)
        # The mean square of spikes is their mean, and that of their averages.
        square = float(reached.float().mean()) if init == "ding" else neurons.rate
        return s * math.sqrt(square / float(own.square().mean()))

    def scaled(layer: SpikingLayer, current: Tensor) -> tuple[Tensor]:
        synapse = shortcuts.get(layer.synapse, layer.synapse)
        if synapse in arrived and synapse not in kept:
            reached, out = arrived.pop(synapse)
            own = out if out.shape == current.shape else out.unflatten(0, (-1, current.shape[1]))
            if own.shape != current.shape:  # currents are pooled
                own = current
            own = own - bias
            if own.any():
                others = current - own
                factor = factor_of(layer.lif, reached, own, others)
                synapse.weight.mul_(factor)
                if current.stride(0) == 0:  # an image, expanded over time, which cannot be overwritten
                    current = current.clone()
                # In place, because a shortcut may pass the same tensor on.
                current.copy_(others + factor * own)
        layer.lif.train().forward(current)
        layer.lif.eval().momentum = 1.0
        layer.lif.end_step()
        del layer.lif.momentum
        return (current,)

    with ExitStack() as hooks:
        for layer in model.spiking_layers():
            synapse = shortcuts.get(layer.synapse, layer.synapse)
            hooks.enter_context(synapse.register_forward_hook(lambda module, x, out: arrived.update({module: (*x, out)})))
            hooks.enter_context(layer.lif.register_forward_pre_hook(lambda lif, found, layer=layer: scaled(layer, *found)))
        model.eval()(x)


def _firing_rate(lif: LIF, current: Tensor) -> float:
    return float((lif.forward(current) > 0).float().mean())


def _pass(model: SpikingNet, layers: list[SpikingLayer], x: Tensor, rate: float) -> None:
    """Change the width of each layer until it preserves the norm of the gradient, of random functions of the mean outputs.

    The norms are those behind the layer, with its pool, and of the input of its weights. Layers that no gradient reaches keep theirs. In the
    first layer, the mean square of the input takes the place of the rate.
    """
    squares: dict[tuple[str, str], float] = {}

    def watch(name: str, side: str, x: Tensor) -> Tensor:
        x = x.view_as(x)  # excludes gradients of other branches
        x.register_hook(lambda grad: squares.update({(name, side): float(grad.square().sum())}))
        return x

    handles: list[Any] = []
    for layer in layers:
        handles += [
            layer.synapse.register_forward_pre_hook(lambda module, x, name=layer.name: (watch(name, "input", *x),)),
            (layer.block or layer.lif).register_forward_hook(
                lambda module, x, out, name=layer.name: watch(name, "output", out)
            ),
        ]
    x = x.float().requires_grad_()
    for _ in range(ROUNDS):
        with torch.enable_grad():
            logits = model(x).mean(0)
            (logits * torch.randn_like(logits)).sum().backward()
        for layer in layers:
            if before := squares.get((layer.name, "output")):
                gain = squares[layer.name, "input"] / before
                if layer is layers[0]:
                    gain *= float(x.square().mean()) / rate
                layer.lif.ratio.mul_(gain**EXPONENT).clamp_(*WIDTHS)
    for handle in handles:
        handle.remove()
    model.zero_grad()
