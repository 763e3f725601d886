"""Initial weights of networks without normalisation (``--init``), and the ratios of ``--method adaptive``."""

import math
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli.config.network import RATED
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

    Weights of spikes are N(0, s^2 / fan_in), with s of :mod:`lsgcli.neurons.initial`; weights of real-valued inputs have s = 1, which preserves the
    variance. In the first layer, the mean square of the input takes the place of the rate, and static inputs make constant currents. Branches
    of residual blocks end with weights of 0, or where spikes are added, with weights that make neurons fire rarely; the classifier is then 0.

    Args:
        x: inputs, (T, B, C, H, W) or static (B, C, H, W).

    Raises:
        ConfigError: the scale depends on the decay, and the neurons have none.
    """
    if config.init != "measured" and not config.model.has_decay:
        raise ConfigError(f"--init {config.init}: found neurons without a decay, expected --init measured, or --neuron lif")
    layers = model.spiking_layers()
    static = x.dim() == 4
    p = config.init_rate
    gain = 1 - config.decay if config.input_gain == "1-beta" else 1.0
    T = config.T if static else len(x)
    surrogate = layers[0].lif.surrogate
    neurons = Neurons(config.decay, config.threshold, gain, config.reset, surrogate, T, p)
    s, bias = initial.SCALES[config.init](neurons)
    for module in model.modules():
        if isinstance(module, ConvNorm):
            _draw(module.conv, s if module.levels else 1.0, bias)
    for layer in layers:
        if isinstance(layer.synapse, nn.Linear):
            _draw(layer.synapse, s, bias)
    if config.init in RATED:
        constant = static and config.init != "fluctuation"
        std = initial.balanced_constant(neurons) / gain if constant else s * math.sqrt(p)
        _draw(layers[0].synapse, std / max(float(x.float().square().mean().sqrt()), 1e-6), bias)
    ends: list[Any] = [block.second for block in model.modules() if hasattr(block, "shortcut") and hasattr(block, "second")]
    rare = config.threshold * (1 - config.decay) / (RARE * gain * math.sqrt(0.5))
    adding_spikes: set[nn.Module] = set()
    for end in ends:
        if isinstance(end, ConvNorm):
            _draw(end.conv, 0.0, bias)
        else:
            _draw(end.current.conv, rare, bias)
            adding_spikes.add(end.current.conv)
    if isinstance(layers[0].lif.method.width, Adaptive):
        ratio, sigma = initial.width_ratio(neurons, s)
        for layer in layers:
            layer.lif.ratio.fill_(ratio)
            layer.lif.sigma.fill_(sigma)
    if config.init == "measured":
        if static and not model.images_only:
            x = x.expand(T, *x.shape)
        _fire(model, layers, x, p, adding_spikes)
        if isinstance(layers[0].lif.method.width, Adaptive):
            _pass(model, layers, x, p)
    if ends:
        nn.init.zeros_(model.classifier.weight)


def _draw(synapse: nn.Conv2d | nn.Linear, s: float, bias: float) -> None:
    synapse.weight.normal_(0, s / math.sqrt(synapse.weight[0].numel()))
    if synapse.bias is not None:
        synapse.bias.fill_(bias)


def _fire(model: SpikingNet, layers: list[SpikingLayer], x: Tensor, rate: float, kept: set[nn.Module]) -> None:
    """Scale the weights of each layer, except those in ``kept``, until it fires at a rate, in one forward pass.

    Each layer is scaled when its current arrives, and passes on the spikes of its new weights.
    """
    outputs: dict[nn.Module, Tensor] = {}

    def scaled(layer: SpikingLayer, current: Tensor) -> tuple[Tensor]:
        own = outputs[layer.synapse]
        own = own if own.shape == current.shape else own.unflatten(0, (-1, current.shape[1]))
        if own.shape != current.shape:  # currents are pooled
            own = current
        if own.any() and layer.synapse not in kept:
            others = current - own
            factor = root(lambda c: _firing_rate(layer.lif, others + c * own) - rate, LEAST, MOST)
            layer.synapse.weight.mul_(factor)
            current = others + factor * own
        layer.lif.train().forward(current)
        layer.lif.eval().momentum = 1.0
        layer.lif.end_step()
        del layer.lif.momentum
        return (current,)

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.synapse.register_forward_hook(lambda module, x, out: outputs.update({module: out})))
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
