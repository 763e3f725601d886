"""Gradient flow: what each layer of neurons does to the signal and to the gradient, as plain records.

Definitions are in ``docs/gradient-flow.md``. Arrays are time-first; u and its moments are in units of v_th.
"""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lsgcli.analysis.observe import LayerSums, observing
from lsgcli.compute import Compute, full_precision
from lsgcli.data.batches import Batch
from lsgcli.files import finite
from lsgcli.models.base import SpikingLayer, SpikingNet
from lsgcli.neurons import TdBatchNorm2d

SCHEMA = "lsg.gradient-flow/1"


@dataclass(frozen=True)
class Thresholds:
    """Where a verdict begins. A layer gets the first that applies, in this order.

    Attributes:
        silent: firing rate below which a layer is silent.
        saturated: firing rate above which a layer is saturated.
        blocked: share of exactly zero entries of dL/du above which no gradient gets through.
        vanishing: gradient norm over that of the last layer of neurons, below which it vanishes.
        exploding: the same ratio, above which it explodes.
    """

    silent: float = 0.001
    saturated: float = 0.9
    blocked: float = 0.999
    vanishing: float = 1e-3
    exploding: float = 1e3


def light_record(layers: list[SpikingLayer], sums: dict[str, LayerSums]) -> list[dict[str, Any]]:
    """beta, alpha, coverage, firing rate and gradient norm of each layer, after a backward pass."""
    return [
        {
            "name": layer.name,
            "beta": _number(layer.lif.beta),
            "alpha": _number(layer.lif.alpha),
            "coverage": sums[layer.name].mean("inside"),
            "firing_rate": sums[layer.name].mean("spikes"),
            "grad_norm": _norm(layer.synapse.weight.grad),
        }
        for layer in layers
    ]


def measure(
    model: SpikingNet,
    batches: Iterable[Batch],
    loss: Callable[[Tensor, Tensor], Tensor],
    compute: Compute,
    thresholds: Thresholds | None = None,
) -> dict[str, Any]:
    """Gradient flow of ``model`` over some mini-batches, forward and backward as in training, on a copy of it.

    Args:
        model: stays as it is, running statistics included.
        batches: of training data.
        loss: (logits (T, B, classes), labels (B,)) -> scalar.
        compute: device and precision.
        thresholds: of the verdicts.

    Returns:
        ``{"schema", "threshold", "T", "batches", "loss", "layers": [{"name", "beta", ...}, ...]}``, JSON types throughout.
        Gradient norms are means over the batches; a value that is NaN or infinite, or undefined, is None.
    """
    net = copy.deepcopy(model).to(compute.device).train()
    net.checkpoint_activations = False  # hooks would see everything twice
    layers = net.spiking_layers()
    norms: dict[str, list[float]] = {layer.name: [] for layer in layers}
    zeros: dict[str, list[float]] = {layer.name: [] for layer in layers}
    losses = []
    with observing({layer.name: layer.lif for layer in layers}, full=True) as sums:
        for batch in batches:
            net.zero_grad(set_to_none=True)
            with compute.autocast():
                logits = net(batch.x.to(compute.device))
            value = loss(full_precision(logits), batch.y.to(compute.device))
            value.backward()
            losses.append(value.item())
            for layer in layers:
                grad = layer.synapse.weight.grad
                norms[layer.name].append(_norm(grad))
                zeros[layer.name].append(float((grad == 0).float().mean()) if grad is not None else 1.0)
    reference = _mean(norms[layers[-1].name])
    limits = thresholds or Thresholds()
    records = []
    for layer in layers:
        record = {"name": layer.name, **_state(layer), **_moments(sums[layer.name], layer)}
        record |= _gradients(layer, _mean(norms[layer.name]), reference, _mean(zeros[layer.name]), sums[layer.name])
        record["verdict"], record["reason"] = verdict(record, limits)
        records.append(finite(record))
    return {
        "schema": SCHEMA,
        "threshold": layers[0].lif.threshold,
        "T": len(sums[layers[0].name].n),
        "batches": len(losses),
        "loss": finite(_mean(losses)),
        "layers": records,
    }


def verdict(record: dict[str, Any], limits: Thresholds) -> tuple[str, str]:
    """The verdict on a layer, and the measurement that decided it."""
    rate, ratio, zero = record["firing_rate"], record["grad_ratio"], record["grad_zero"]
    if rate < limits.silent:
        return "silent", f"firing_rate {rate:.2g} < {limits.silent:g}"
    if rate > limits.saturated:
        return "saturated", f"firing_rate {rate:.2g} > {limits.saturated:g}"
    if zero > limits.blocked:
        return "blocked", f"grad_zero {zero:.4g} > {limits.blocked:g}"
    if ratio < limits.vanishing:
        return "vanishing", f"grad_ratio {ratio:.2g} < {limits.vanishing:g}"
    if not ratio <= limits.exploding:  # NaN counts as exploded
        return "exploding", f"grad_ratio {ratio:.2g} > {limits.exploding:g}"
    return "ok", ""


def _state(layer: SpikingLayer) -> dict[str, Any]:
    beta, alpha, threshold = _number(layer.lif.beta), _number(layer.lif.alpha), layer.lif.threshold
    return {"beta": beta, "alpha": alpha, "interval": [threshold - alpha / 2, threshold + alpha / 2]}


def _moments(sums: LayerSums, layer: SpikingLayer) -> dict[str, Any]:
    """Everything that is measured in the forward pass."""
    mean, square, cube = (sums.mean(name) for name in ("u", "u_squared", "u_cubed"))
    variance = max(0.0, square - mean**2)
    std = math.sqrt(variance)
    skew = (cube - 3 * mean * square + 2 * mean**3) / std**3 if std > 0 else math.nan
    steps = range(len(sums.n))
    return {
        "coverage": sums.mean("inside"),
        "sg_mean": sums.mean("h"),
        "sg_sq_mean": sums.mean("h_squared"),
        "firing_rate": sums.mean("spikes"),
        "silent": float((~sums.ever).float().mean()) if sums.ever is not None else math.nan,
        "saturated": float(sums.always.float().mean()) if sums.always is not None else math.nan,
        "u_mean": mean,
        "u_std": std,
        "u_skew": skew,
        "u_std_predicted": _predictions(layer, len(sums.n)),
        "rho": _rho(sums),
        "per_step": {
            "coverage": [sums.mean("inside", t) for t in steps],
            "firing_rate": [sums.mean("spikes", t) for t in steps],
            "u_mean": [sums.mean("u", t) for t in steps],
            "u_std": [math.sqrt(max(0.0, sums.mean("u_squared", t) - sums.mean("u", t) ** 2)) for t in steps],
        },
    }


def _predictions(layer: SpikingLayer, T: int) -> dict[str, float | None]:
    """Standard deviations of u / v_th that theory gives: the paper's, the same with the tdBN's gamma, and without reset at t = T."""
    beta = _number(layer.lif.beta)
    paper = math.sqrt(1 + beta**2)
    gamma = _number(layer.norm.weight) if isinstance(layer.norm, TdBatchNorm2d) else None
    return {
        "paper": paper,
        "with_gamma": None if gamma is None else abs(gamma) * paper,
        "without_reset": math.sqrt(sum(beta ** (2 * k) for k in range(T))),  # = (1 - beta^2T) / (1 - beta^2), also at beta = 1
    }


def _rho(sums: LayerSums) -> float:
    """corr(I[t], I[t+1]), from sums pooled over t = 1 .. T-1."""
    if len(sums.n) < 2:
        return math.nan
    n = sum(sums.n[:-1])
    first, second = slice(None, -1), slice(1, None)
    moment = {name: sums.values[name] for name in ("current", "current_squared")}
    means = [sum(moment["current"][part]) / n for part in (first, second)]
    variances = [sum(moment["current_squared"][part]) / n - m**2 for part, m in zip((first, second), means, strict=True)]
    covariance = sum(sums.values["product"][: len(sums.n) - 1]) / n - means[0] * means[1]
    return covariance / math.sqrt(variances[0] * variances[1]) if min(variances) > 0 else math.nan


def _gradients(layer: SpikingLayer, norm: float, reference: float, weight_zero: float, sums: LayerSums) -> dict[str, Any]:
    steps = range(len(sums.values.get("du_zero", [])))
    return {
        "grad_norm": norm,
        "grad_ratio": norm / reference if reference > 0 else math.nan,
        "grad_relative": norm / _norm(layer.synapse.weight.detach()),
        "grad_zero": sums.mean("du_zero") if steps else 1.0,
        "grad_zero_weight": weight_zero,
        "grad_zero_per_step": [sums.mean("du_zero", t) for t in steps],
    }


def _number(tensor: Tensor) -> float:
    return float(tensor.detach().mean())


def _norm(tensor: Tensor | None) -> float:
    return 0.0 if tensor is None else float(torch.linalg.vector_norm(tensor, dtype=torch.float64))


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
