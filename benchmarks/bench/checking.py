"""Size, operations, firing rates and gradients of contenders' networks, to check that a race compares equal networks."""

import functools
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from benchmarks.bench.steps import Prepared
from lsgcli.models import crossings
from lsgcli.models.convolution import Conv2d, spikes_read
from lsgcli.system.device import CONVOLUTIONS

SILENT, ALWAYS = 1e-4, 0.999  # firing rates beyond which a layer is degenerate


def facts(prepared: Prepared) -> dict[str, Any]:
    """Sizes, work, firing and gradients of one forward pass, and where the case trains, one backward pass.

    Returns:
        ``weights``: number of weights of convolutions and linear layers; ``parameters``: number of trained parameters;
        ``parameters_without_decays``: without membrane decays, equal for all networks with neurons, None for the floor.
        ``macs_per_frame``: multiply-accumulates per layer and frame; ``macs_per_sample``: per sample, fewer if a static image is
        convolved once. ``firing_rates`` of the layers of neurons, ``gradient_norms`` of the layers with weights, both in order.
        ``degenerate``: description of degenerate layers. ``convolutions``: see :func:`choices`, if the contender chooses between dense
        convolutions and those by spikes.
    """
    network, case = prepared.built.network, prepared.case
    network.train(case.mode == "train")
    weighted = [module for module in network.modules() if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)]
    neurons = [module for module in network.modules() if prepared.built.neurons and isinstance(module, prepared.built.neurons)]
    work: dict[nn.Module, tuple[int, int]] = {}
    rates: dict[nn.Module, float] = {}

    def multiplied(module: nn.Module, args: Any, out: Tensor) -> None:
        work[module] = macs(module, out)

    def fired(module: nn.Module, args: Any, out: Tensor) -> None:
        rates[module] = out.detach().float().mean().item()

    # A compiled network would not call hooks that were added later.
    eager = torch.compiler.set_stance("force_eager") if getattr(network, "_compiled_call_impl", None) else nullcontext()
    chosen, choosing = choices(prepared)
    handles = [
        *(module.register_forward_hook(multiplied) for module in weighted),
        *(module.register_forward_hook(fired) for module in neurons),
        *choosing,
    ]
    with eager, torch.set_grad_enabled(case.mode == "train"):
        logits = prepared.forward()
    for handle in handles:
        handle.remove()
    norms = []
    if case.mode == "train":
        F.cross_entropy(logits.mean(0), prepared.labels).backward()
        norms = [module.weight.grad.norm().item() for module in weighted]  # type: ignore[union-attr]
        network.zero_grad()
    prepared.built.forget(network)

    count = sum(p.numel() for p in network.parameters())
    decays = sum(p.numel() for module in neurons for p in module.parameters())
    firing = [rates[module] for module in neurons]
    return {
        "weights": sum(p.numel() for module in weighted for p in module.parameters()),
        "parameters": count,
        "parameters_without_decays": count - decays if neurons else None,
        "macs_per_frame": sum(work[module][0] for module in weighted),
        "macs_per_sample": sum(work[module][0] * work[module][1] for module in weighted) // len(prepared.labels),
        "firing_rates": firing,
        "gradient_norms": norms,
        "degenerate": degenerate(firing, norms),
        **({"convolutions": chosen} if chosen else {}),
    }


def choices(prepared: Prepared) -> tuple[list[dict[str, Any]], list[RemovableHandle]]:
    """A record of each convolution, filled by hooks in the next forward pass, if the contender chooses between dense and by spikes.

    Returns:
        Records, and handles of the hooks. A record has the ``name`` of the layer, its ``shape``, the ``density`` of spikes in its input, per element, the
        ``crossings`` of the output and of the gradient of the weight, and the choice for both, ``dense`` or ``spikes``: ``forward``, and
        ``weight`` where the case trains. ``density`` and ``crossings`` are None where the input is not known to consist of spikes.
    """
    records: list[dict[str, Any]] = []
    case, how = prepared.case, CONVOLUTIONS.get()
    made = ("forward", "weight") if case.mode == "train" else ("forward",)

    def look(record: dict[str, Any], conv: Any, args: tuple[Tensor, ...]) -> None:
        if (read := spikes_read(conv, args[0])) is None:
            return
        kept, geometry = read
        packed = kept.packed(args[0])
        if case.mode == "stream":  # the pass has all timesteps at once, the stream has them singly
            geometry = geometry._replace(N=case.batch)
        both = crossings.of(geometry, args[0].dtype, how.crossings)
        which = ["spikes" if packed.density < crossing else "dense" for crossing in both]
        record |= {"density": packed.density, "crossings": both, **dict(zip(made, which, strict=False))}

    handles = []
    for name, module in prepared.built.network.named_modules() if how.choice == "auto" else ():
        if isinstance(module, Conv2d):
            shape = f"{module.in_channels} to {module.out_channels}, {module.kernel_size[0]}x{module.kernel_size[1]}"
            records.append({"name": name, "shape": shape, "density": None, "crossings": None, **dict.fromkeys(made, "dense")})
            handles.append(module.register_forward_pre_hook(functools.partial(look, records[-1])))
    return records, handles


def macs(module: nn.Module, out: Tensor) -> tuple[int, int]:
    """Multiply-accumulates of a convolution or linear layer per frame, and number of frames."""
    if isinstance(module, nn.Linear):
        return module.weight.numel(), out.shape[:-1].numel()
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    axes = len(module.kernel_size)
    return module.weight.numel() * out.shape[-axes:].numel(), out.shape[: -axes - 1].numel()


def degenerate(firing: list[float], norms: list[float]) -> str:
    """Description of layers that never or always fire, or without gradient; empty if there are none."""
    rates = (f"layer {i} of neurons fires at {rate:.2g}" for i, rate in enumerate(firing) if not SILENT < rate < ALWAYS)
    gradients = (f"gradient of weights {i} is {norm:g}" for i, norm in enumerate(norms) if not 0 < norm < float("inf"))
    return "; ".join([*rates, *gradients])
