"""Gradient flow: signal and gradient measures of each layer of neurons, as plain records.

Definitions are in ``docs/gradient-flow.md``. Arrays are time-first; u and its moments are in units of v_th.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map_only

from lsgcli.analysis import lif_watchers
from lsgcli.analysis.advice import judge
from lsgcli.analysis.gradients import InputGradients, Sample, WeightGradients, mean, mismatch, size
from lsgcli.analysis.measures import LAYER
from lsgcli.analysis.rules.base import Evidence
from lsgcli.analysis.running import batch_invariant
from lsgcli.analysis.sums import light, signal
from lsgcli.analysis.watchers import Adapter, Layer, Watcher, watching
from lsgcli.data.batches import Batch
from lsgcli.errors import ConfigError
from lsgcli.models.base import SpikingNet
from lsgcli.neurons.layer import drawing
from lsgcli.system.device import Compute, full_precision
from lsgcli.system.files import finite
from lsgcli.system.schema import Record

SCHEMA = "lsg.gradient-flow/1"
Loss = Callable[[Tensor, Tensor], Tensor]
Reset = Callable[[Any], object]  # of a network whose neurons keep their state
MiniBatch = Batch | tuple[Tensor, Tensor]  # inputs and labels


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of outputs averaged over time, (T, B, classes), or of outputs without a time axis, (B, classes). Of a tuple, the first element is used."""
    outputs = outputs[0] if isinstance(outputs, tuple | list) else outputs
    return F.cross_entropy(outputs.mean(0) if outputs.dim() == 3 else outputs, labels)


def inspect(
    model: nn.Module,
    batches: Iterable[MiniBatch],
    *,
    loss: Loss = cross_entropy,
    adapter: Adapter | None = None,
    reset: Reset | None = None,
    compute: Compute | None = None,
    sample: Sample | None = None,
    detailed: bool = False,
    limits: Mapping[str, float] | None = None,
) -> Record:
    """Measure the gradient flow of ``model`` on mini-batches, with forward and backward passes as in training, on a copy.

    Args:
        model: not modified, including its running statistics.
        batches: inputs and labels of training data.
        loss: (outputs, labels) -> scalar.
        adapter: returns the network's layers of neurons; not required for :class:`~lsgcli.neurons.LIF`.
        reset: resets neurons that keep their state between batches; called with the copy before each batch, and once with the model,
            because states that require gradients cannot be copied.
        limits: of rules, by name.
        compute: device and precision. Default: those of the model.
        sample: weights for ``mismatch``, with two forward passes each. Default: ``mismatch`` is not measured.
        detailed: also measure ``sgv``, ``sgv_relative`` and ``tgc``, for which the compiled kernels are not used.

    Returns:
        ``{"schema", "threshold", "T", "batches", "loss", "thresholds", "layers": [{"name", "beta", ...}, ...]}`` of JSON types, as
        described in ``docs/gradient-flow.md``. Undefined, NaN and infinite values are None.

    Raises:
        ConfigError: no layers of neurons were found, for example in a network of another library without an adapter; the adapter
            does not match the network; or there are no batches.
    """
    compute = compute or Compute(next(model.parameters()).device)
    if compute.precision == "fp16":  # the loss is not scaled here, so small gradients would vanish
        compute = dataclasses.replace(compute, precision="fp32")
    with_weights = sample is not None or not isinstance(model, SpikingNet)
    net = copied(model, reset, weights=with_weights).to(compute.device).train()
    layers = layers_of(net, adapter)
    for layer in layers:
        if layer.weight.is_leaf:
            layer.weight.requires_grad_()  # also for frozen weights, so that their gradients are measured
    gradients = {layer.name: WeightGradients(layer.weight) for layer in layers}
    losses = list[float]()
    ends = Record()
    first: tuple[Tensor, Tensor, Tensor | None] | None = None

    def forward(x: Tensor, y: Tensor, samples: Tensor | None) -> Tensor:
        if reset is not None:
            reset(net)
        with drawing(net, samples):
            with compute.context():
                outputs = net(x)
            if not ends:
                ends.update(_ends(x, outputs))
            return loss(tree_map_only(Tensor, full_precision, outputs), y)

    synapses = {id(module.weight): module for module in net.modules() if isinstance(getattr(module, "weight", None), Tensor)}
    with watching(layers, full=True) as watchers:
        inputs = {layer.name: InputGradients(synapses.get(id(layer.weight)), watchers[layer.name]) for layer in layers}
        for watcher in watchers.values():
            watcher.sums.detailed = detailed
        for batch in batches:
            x, y, samples = parts(batch)
            moved = compute.move(x), compute.move(y), None if samples is None else compute.move(samples)
            first = first or moved
            net.zero_grad(set_to_none=True)
            losses.append(_backward(forward(*moved), layers, watchers, gradients))
        for observed in inputs.values():
            observed.close()
    if first is None:
        raise ConfigError("inspect: found no mini-batches, expected at least one")
    cosines: dict[str, float | None] = {}
    if sample is not None:
        net.zero_grad(set_to_none=True)
        forward(*first).backward()
        grads = {layer.name: layer.weight.grad for layer in layers}
        cosines = {layer.name: mismatch(layer.weight, grads[layer.name], lambda: forward(*first), sample) for layer in layers}
    reference = mean(gradients[layers[-1].name].norms)
    records = []
    before = math.nan
    for layer in layers:
        record = {"name": layer.name, **signal(watchers[layer.name].sums, layer.gamma)}
        record |= inputs[layer.name].record(record["sg_sq_mean"])
        arriving = watchers[layer.name].sums.mean("grad_squared")
        record["gain_between"] = before / arriving if arriving > 0 else math.nan
        before = arriving
        record |= {**gradients[layer.name].record(reference), "mismatch": cosines.get(layer.name)}
        records.append(finite({key: record[key] for key in LAYER if key in record}))
    sums = watchers[layers[0].name].sums
    flow = {
        "schema": SCHEMA,
        "threshold": sums.threshold,
        "T": len(sums.values["n"]),
        "batches": len(losses),
        "loss": finite(mean(losses)),
        **ends,
        "layers": records,
    }
    judge(Evidence(flow), limits)
    return flow


def diagnose(
    model: nn.Module,
    batches: Iterable[MiniBatch],
    *,
    reset: Reset | None = None,
    limits: Mapping[str, float] | None = None,
    **options: Any,
) -> Record:
    """:func:`inspect` in detail, with ``batch_invariant`` and ``findings`` of rules, for a network without a run.

    Args:
        model, batches, reset, options: as for :func:`inspect`.
        limits: thresholds of rules, by name.
    """
    batches = list(batches)
    flow = inspect(model, batches, reset=reset, detailed=True, **options)
    x, y, _ = parts(batches[0])
    net = copied(model, reset, weights=True).eval()
    axis = 1 if x.dim() > 2 and x.shape[1] == len(y) else 0
    flow["batch_invariant"] = batch_invariant(net, x, axis, lambda: reset(net) if reset is not None else None)
    judge(Evidence(flow, classes=int(y.max()) + 1 if y.dim() == 1 else 0), limits)
    return flow


@torch.no_grad()
def _ends(x: Tensor, outputs: Any) -> Record:
    """Statistics of the network's input and output; of a tuple, of the first element."""
    out = outputs[0] if isinstance(outputs, tuple | list) else outputs
    x = x.float()
    out = out.float()
    return {
        "input": finite({"mean": float(x.mean()), "std": float(x.std())}),
        "output_values": len((out.mean(0) if out.dim() == 3 else out).unique()),
    }


def parts(batch: MiniBatch) -> tuple[Tensor, Tensor, Tensor | None]:
    """Inputs, labels, and the random numbers of the samples of a mini-batch."""
    if isinstance(batch, Batch):
        return batch.x, batch.y, batch.samples
    if isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch):
        return *batch, None
    description = f"a tensor of shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else type(batch).__name__
    raise ConfigError(
        f"inspect: found {description} as mini-batch, expected pairs of tensors (inputs, labels)",
        hint="Put a single mini-batch into a list: inspect(net, [(x, y)]).",
    )


def light_record(layers: Sequence[Layer], watchers: Mapping[str, Watcher]) -> Callable[[], list[Record]]:
    """beta, alpha, coverage, firing rate and gradient norm of each layer, after a backward pass, from a function that reads them.

    Only that function waits for the device; it may be called after the gradients are cleared.
    """
    found = [
        (layer.name, watchers[layer.name].sums, 0.0 if layer.weight.grad is None else size(layer.weight.grad))
        for layer in layers
    ]
    return lambda: [{"name": name, **light(sums), "grad_norm": float(norm)} for name, sums, norm in found]


def copied(model: nn.Module, reset: Reset | None, *, weights: bool = False) -> nn.Module:
    """A copy of a network after its ``reset``, with its own gradients and buffers.

    Args:
        weights: whether it has its own weights, which may then be modified.
    """
    if reset is not None:
        reset(model)
    shared = [] if weights else list(model.parameters())
    net = copy.deepcopy(model, {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in shared})
    if isinstance(net, SpikingNet):
        net.synchronise(None)
    return net


def layers_of(net: nn.Module, adapter: Adapter | None) -> Sequence[Layer]:
    """The layers of neurons of a network, by an adapter or of lsg's own neurons.

    Raises:
        ConfigError: there are none, or their names are not unique.
    """
    if isinstance(net, SpikingNet):
        net.save_memory(False)  # recomputation would be counted twice
    layers = (adapter or lif_watchers.layers)(net)
    names = [layer.name for layer in layers]
    if not names or len(set(names)) != len(names):
        raise ConfigError(
            f"inspect: found layers of neurons {names} in {type(net).__name__}, expected at least one, with unique names",
            hint=None if names else "Neurons of other libraries need an adapter, as docs/other-libraries.md shows.",
        )
    return layers


def _backward(
    value: Tensor, layers: Sequence[Layer], watchers: Mapping[str, Watcher], gradients: Mapping[str, WeightGradients]
) -> float:
    """The backward pass as in training, and a second one without the recurrence if there are several timesteps."""
    recurs = any(watcher.T > 1 for watcher in watchers.values())
    value.backward(retain_graph=recurs)
    whole = [layer.weight.grad for layer in layers]
    spatial = whole
    if recurs:
        for layer in layers:
            layer.weight.grad = None
            watchers[layer.name].spatial = True
        value.backward()
        spatial = [layer.weight.grad for layer in layers]
    for layer, grad, without in zip(layers, whole, spatial, strict=True):
        gradients[layer.name].add(grad, without)
        watchers[layer.name].spatial = False
        watchers[layer.name].finish()
    return value.item()
