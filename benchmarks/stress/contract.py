"""Rows of networks and their training: what every registered neuron, method, norm and network must do."""

import functools
import gc
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.stress.rows import Case, row
from lsgcli import models, registry
from lsgcli.config.fields import check, fields_of
from lsgcli.config.neuron import NeuronConfig
from lsgcli.errors import ConfigError
from lsgcli.models.base import NetworkSpec
from lsgcli.neurons import LIF
from lsgcli.store import checkpoint
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.training.optim import Optimizers
from tests import tiny
from tests.unit.models.helpers import sequence
from tests.unit.neurons.cases import against_reference, random_case
from tests.unit.neurons.oracle import SURROGATES

SIZES: dict[str, dict[str, Any]] = {  # such that a few channels remain, which spike
    "mlp": {"input_size": 9, "input_height": 1},
    "qkformer": {"input_size": 12},
    "qkformer-dvs": {"input_size": 24, "width_multiplier": 1 / 8},
}
SMALL = {"T": 3, "num_classes": 3, "in_channels": 2, "width_multiplier": 1 / 32, "input_size": 16}
NEURONS, METHODS, NORMS = (registry.names(kind) for kind in ("neuron", "method", "norm"))
VARIANTS: list[dict[str, Any]] = [
    *({"neuron": neuron, "norm": norm} for neuron, norm in itertools.product(NEURONS, NORMS)),
    *({"method": method} for method in METHODS),
    *({"reset": "soft"}, {"reset": "none"}, {"init_potential": "measured"}, {"input_gain": "1-beta"}),
    *({"threshold_learned": True}, {"decay_per": "channel"}, {"weight_bits": 8}, {"dropout": 0.3}),
    *({"dropout": 0.3, "dropout_at": "neurons"}, {"hidden_norm": True}, {"method": "asgl", "width_as": "slope"}),
]


def network(arch: str, seed: int = 0, *, dtype: torch.dtype = torch.float64, **settings: Any) -> Any:
    """A small network that spikes, each of whose parameters and buffers differs from what its constructor gave it."""
    torch.manual_seed(seed)
    net = models.build(arch, **{**SMALL, **SIZES.get(arch, {}), **settings}).to(dtype)
    norms = [module for module in net.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * (p.abs().mean() + 0.1) * torch.rand_like(p))
        for norm in norms:
            norm.weight.uniform_(0.8, 2.5)
            norm.bias.uniform_(-0.1, 0.5)
            norm.momentum = 1.0
        for batch in range(2):  # statistics of its own activations
            net(sequence(net, 4, seed=batch))
            net.end_step()
        for norm in norms:
            norm.momentum = 0.1
        for name, buffer in net.named_buffers():
            if name in net.state_dict() and buffer.is_floating_point():
                buffer.add_(0.01 * (buffer.abs().mean() + 0.1) * torch.rand_like(buffer))
    return net


def described(net: Any) -> dict[str, Any]:
    """The configuration of a checkpoint of a network."""
    return {**checkpoint.describe(net), "classes": [str(i) for i in range(net.spec.num_classes)], "settings": {}, "data": {}}


def drawn(chance: random.Random, cases: list[Any], count: int) -> list[Any]:
    return chance.sample(cases, min(count, len(cases)))


def valid(kind: str, build: Callable[[], Any], cases: Callable[[Any], Iterator[Case]]) -> Iterator[Case]:
    """The cases of what ``build`` returns; a combination that it refuses is a case of its own."""
    try:
        made = build()
    except ConfigError:
        yield Case(f"{kind}, refused")
        return
    yield from cases(made)


# Row 31


@row(
    31,
    fault="state left in a network by its last input",
    promise="f(x) twice is bit-identical; a batch gives what its samples give one by one; no tensor of a step stays in memory",
    quick=10,
    full=10_000,
)
def state_left(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Each registered network with each neuron and norm, method, reset, and further options, in float64: evaluated twice, with another input
    between, and sample by sample; and twice in training, with the same seed. In float32, a second training step must leave as many tensors
    in memory as the first."""

    def judge(net: Any, name: str) -> Iterator[Case]:
        x, other = sequence(net, 4), sequence(net, 4, seed=2)
        with torch.no_grad():
            first = net.eval()(x)
            between = net(other)
            silent = ", silent network" if torch.equal(between, first) else ""
            yield Case(f"again{silent}", "" if torch.equal(net(x), first) else f"{name}: differs")
            ones = torch.cat([net(x[:, i : i + 1]) for i in range(x.shape[1])], 1)
            far = float((ones - first).abs().max())
            yield Case("samples", "" if far <= 1e-12 * float(first.abs().max()) else f"{name}: by {far:.1e}")
            trained = []
            for _ in range(2):
                torch.manual_seed(3)
                trained.append(net.train()(x))
            yield Case("training", "" if torch.equal(*trained) else f"{name}: differs")
        net, counts = net.float(), []
        for _ in range(2):
            net(x.float()).square().sum().backward()
            gc.collect()
            counts.append(sum(issubclass(type(one), Tensor) for one in gc.get_objects()))
        yield Case("memory", "" if counts[1] <= counts[0] else f"{name}: {counts[1] - counts[0]} tensors stay")

    every = list(itertools.product(registry.names("arch"), VARIANTS))
    for arch, settings in drawn(chance, every, count):
        build = functools.partial(network, arch, backend="reference", T=2, **settings)
        yield from valid("network", build, lambda net, name=f"{arch}, {settings}": judge(net, name))


# Row 32


def perturbed(name: str, field: Any) -> list[Any]:
    """Other valid values of a field of a network or of its neurons."""
    about = field.metadata
    if name == "backend":  # of the machine
        return []
    known = [*about["choices"]] or (registry.names(about["kind"]) if about["kind"] else None)
    if known is None:
        start = field.default if isinstance(field.default, int | float) else SMALL.get(name, 8)
        if isinstance(field.default, bool):
            known = [not start]
        else:
            known = [start + 1, start + 2, 4, 8] if float(start).is_integer() and name != "width" else [1.37 * start]
            known += [0.3] if "float" in str(field.type) else []
    fits = [value for value in known if value != SMALL.get(name, field.default) and not check({name: value}, {name: field})]
    return fits[:3] if not about["choices"] and not about["kind"] else fits


@row(
    32,
    fault="state or a setting missing from a checkpoint",
    promise="every setting of a network and its neurons survives saving; the loaded network has the same bits",
    quick=5,
    full=10_000,
)
def missing_state(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """In each registered network, each argument of the network and of its neurons has other values, and all parameters and buffers are
    changed. After saving and loading: the same arguments, the same logits in evaluation, and the same logits and gradients in training."""
    fields = {**fields_of(NetworkSpec), **fields_of(NeuronConfig)}
    del fields["arch"]
    every = [
        (arch, {name: value})
        for arch in registry.names("arch")
        for name, field in fields.items()
        if name != "neuron" or field is fields_of(NeuronConfig)["neuron"]
        for value in perturbed(name, field)
    ]
    path = folder / "net.safetensors"

    def judge(net: Any, arch: str, settings: dict[str, Any]) -> Iterator[Case]:
        checkpoint.save(path, Checkpoint(net.state_dict(), described(net)))
        loaded = checkpoint.load(path)[0]
        wrong = [] if loaded.spec == net.spec else [f"arguments: {loaded.spec}"]
        (name, value), results = *settings.items(), []
        if value not in (getattr(loaded.spec, name, None), getattr(loaded.spec.neuron, name, None)):
            wrong.append(f"{name}: lost")
        x = sequence(net, 4)
        for one in (net, loaded):
            with torch.no_grad():
                found = [one.eval()(x)]
            torch.manual_seed(5)
            found.append(logits := one.train()(x))
            logits.square().sum().backward()
            results.append([*found, *(p.grad for p in one.parameters())])
        wrong += [] if all(map(torch.equal, *results)) else ["logits or gradients differ"]
        yield Case(name, f"{arch}, {settings}: {wrong}" if wrong else "")

    for arch, settings in drawn(chance, every, count):
        build = functools.partial(network, arch, dtype=torch.float32, backend="reference", **settings)
        yield from valid("network", build, lambda net, a=arch, s=settings: judge(net, a, s))


# Row 33


@row(
    33,
    fault="a parameter that the optimiser misses, or without gradient",
    promise="the optimisers have each parameter once; after a backward pass all gradients are finite",
    quick=16,
    full=10_000,
)
def missed_parameters(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Each network with each neuron, method and norm. Parameters of neurons belong to the optimiser without weight decay, and matrices to
    the group with it."""

    def judge(net: Any, name: str) -> Iterator[Case]:
        optimizers = Optimizers(net, tiny.config())
        groups = [group["params"] for optimizer in optimizers.all for group in optimizer.param_groups]
        found, expected = [id(p) for group in groups for p in group], {id(p) for p in net.parameters()}
        wrong = [] if len(found) == len(set(found)) and set(found) == expected else ["the sets of parameters differ"]
        own = {
            id(p)
            for layer in (m for m in net.modules() if isinstance(m, LIF))
            for n, p in layer.named_parameters(recurse=False)
            if not (layer.neuron.with_weights and n in layer.of_neuron())
        }
        if {id(p) for optimizer in optimizers.all[1:] for group in optimizer.param_groups for p in group["params"]} != own:
            wrong.append("the parameters of neurons are elsewhere")
        net.train()(sequence(net, 2)).logsumexp(-1).sum().backward()
        wrong += [n for n, p in net.named_parameters() if p.grad is None or not bool(p.grad.isfinite().all())]
        yield Case("network", f"{name}: {wrong[:5]}" if wrong else "")

    every = list(itertools.product(registry.names("arch"), NEURONS, METHODS, NORMS))
    size = {**SMALL, "T": 2, "backend": "reference"}
    for arch, neuron, method, norm in drawn(chance, every, count):
        own = {**size, **SIZES.get(arch, {}), "neuron": neuron, "method": method, "norm": norm}
        yield from valid(
            "network",
            functools.partial(models.build, arch, **own),
            lambda net, name=f"{arch}, {neuron}, {method}, {norm}": judge(net, name),
        )


# Row 34


@row(
    34,
    fault="a wrong surrogate gradient",
    promise="that of its formula within 1e-6 in float64; every backend has the gradients of the reference",
    quick=20,
    full=1500,
)
def wrong_surrogates(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """The gradient that a layer of neurons gives for 200 random potentials, with each surrogate, eight widths and thresholds and each
    backend, against the independent formulas of the oracle. And random layers (sizes, memory layouts, types, norms, pools,
    resets), whose spikes, gradients and statistics ``fused`` must have as the reference does in float64; layers where rounding decides whether a neuron fires are skipped."""
    step = 1e-5
    every = {name: registry.get("backend", name) for name in registry.names("backend")}
    # Compiling takes seconds for each layer: tests/unit/neurons/test_compiled.py compares what torch compiles.
    backends = [name for name, backend in every.items() if not backend.compiles and backend.available(torch.device("cpu"))]
    for name, _, backend in itertools.product(registry.names("surrogate"), range(8 if count > 100 else 2), backends):
        width, v_th = chance.uniform(0.2, 3), chance.uniform(0.3, 1.5)
        x = np.array([chance.uniform(-3, 3) for _ in range(400)])
        corners = width * np.array([-1, -0.5, 0, 0.5, 1])
        x = x[(np.abs(x[:, None] - corners) > step).all(1)][:200]
        lif = LIF(surrogate=name, method="none", width=width, threshold=v_th, backend=backend).double()
        current = torch.from_numpy(x + v_th)[None, None].requires_grad_()
        (grad,) = torch.autograd.grad(lif(current).sum(), current)
        far = float(np.abs(grad[0, 0].numpy() - SURROGATES[name](x, width)).max())
        yield Case(name, "" if far <= 1e-6 and len(x) == 200 else f"{backend}, width {width}: by {far:.1e}")

    for _ in range(count if "fused" in backends else 0):
        seed = chance.getrandbits(32)
        case = random_case(seed)
        wrong = against_reference(case, "fused")
        kind = "fused, passed over" if wrong is None else "fused"
        yield Case(kind, f"{seed}: {case}: {'; '.join(wrong)}" if wrong else "")
