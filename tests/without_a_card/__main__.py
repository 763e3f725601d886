"""Training, gradient flow and evaluation on a CUDA device that does nothing, in fake tensors, which have shapes, types and devices but no values.

``LD_PRELOAD=device.so python -m tests.without_a_card``, with the library that ``device.cpp`` compiles to, prints a line of JSON per case:
its settings, where its steps and its evaluation would wait for the device, and its error, if any. Networks have few blocks. Triton's kernels
are not launched, but what surrounds their launches runs. Collectives, streams and the values of tensors are not seen.
"""

import itertools
import json
import linecache
import multiprocessing
import os
import random
import sys
import tempfile
import traceback
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import lsgcli
from lsgcli import registry
from lsgcli.analysis import gradflow
from lsgcli.config.neuron import NeuronConfig
from lsgcli.config.run import RunConfig, without_effect
from lsgcli.data import random as numbers
from lsgcli.data.bundle import DataBundle, Split
from lsgcli.errors import ConfigError
from lsgcli.models import vggsnn
from lsgcli.models.maxformer import Maxformer
from lsgcli.models.qkformer import QKFormer
from lsgcli.models.resnet19 import ResNet
from lsgcli.models.sew import SewDVS, SewDVSWide
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels import auto, base
from lsgcli.store.rundir import RunFiles
from lsgcli.system.device import Compute
from lsgcli.training import loop
from lsgcli.training.evaluate import evaluate
from lsgcli.training.losses import observed_backbone
from lsgcli.training.signals import StopRequest

CARD = torch.device("cuda:0")
PACKAGE = str(Path(lsgcli.__file__).parent)
aten = torch.ops.aten
# Values of settings, each pair of which is in a case.
NAMED = {
    "arch": [name for name in registry.names("arch") if name != "nir" and not name.endswith(registry.NAME)],  # nir needs a file
    **{kind: registry.names(kind) for kind in ("method", "neuron", "norm", "loss", "surrogate")},
    "backend": ["auto", "reference", "autograd"],
    "optimizer": ["sgd", "adamw"],
    "precision": ["fp32", "bf16", "fp16"],
    "reset": ["hard", "soft", "none"],
    "residual": ["add", "sew", "none"],
    "T": [1, 2],
}
MORE = [
    {},
    {"ema": 0.9, "clip_grad": 1.0, "weight_decay_on": "all"},
    {"accumulate": 2, "rate_target": 0.1, "class_weights": "balanced"},
    {"dropout": 0.2, "dropout_at": "neurons", "mixup": 0.5},
    {"dropout": 0.2, "weight_bits": 8, "label_smoothing": 0.1},
    {"threshold_learned": True, "rate_target": 0.1, "tet_target": "one-hot"},
    {"init_potential": "measured", "decay_per": "channel", "input_gain": "1-beta"},
    {"threshold_learned": True, "detach_reset": True, "hidden_norm": True, "momentum": 0.0},
    {"checkpoint_activations": "layers", "freeze": "*0*"},
]


@cache
def exists(neuron: NeuronConfig) -> bool:
    """Whether neurons have these settings."""
    try:
        LIF(neuron, channels=2, steps=3)
    except ConfigError:
        return False
    return True


def configured(case: dict[str, Any], **more: Any) -> RunConfig:
    """The settings of a case, in which ``more`` is an index."""
    config = RunConfig(**more | {name: value for name, value in case.items() if name != "more"} | MORE[case.get("more", 0)])
    return config.replace(T=config.size, dataset="digits") if registry.get("arch", config.arch).images_only else config


def effective(case: dict[str, Any]) -> dict[str, Any]:
    """The settings of a case that have an effect in it; empty if its neurons do not exist."""
    config = configured(case)
    if not exists(config.part(NeuronConfig)) or (config.loss == "stable-spike" and config.T < 2):
        return {}
    given = {name: MORE[value] if name == "more" else {name: value} for name, value in case.items()}
    return {name: value for name, value in case.items() if not without_effect(given[name], [config])}


def cases() -> Iterator[dict[str, Any]]:
    """Settings that together contain each pair of values that can have an effect together at least once, by a greedy search."""
    factors = {**NAMED, "more": range(len(MORE))}
    rng = random.Random(0)
    left = dict.fromkeys(pair for a, b in itertools.combinations(factors, 2) for pair in pairs_of(a, factors[a], b, factors[b]))
    while left:
        first = next(iter(left))
        left.pop(first)
        case = dict(first)
        names = [name for name in factors if name not in case]
        for name in rng.sample(names, len(names)):
            values = rng.sample(list(factors[name]), len(factors[name]))
            case[name] = max(values, key=partial(use, case, dict(first), left, name))
        case = effective(case)
        if not case.items() >= dict(first).items():
            continue
        for pair in itertools.combinations(sorted(case.items()), 2):
            left.pop(pair, None)
        yield case


def use(case: dict[str, Any], first: dict[str, Any], left: Any, name: str, value: Any) -> tuple[bool, bool, int]:
    """How much a further setting contributes to a case that is to contain the pair ``first``."""
    found = effective(case | {name: value})
    return (
        bool(found),
        found.items() >= first.items(),
        sum(tuple(sorted([(name, value), item])) in left for item in case.items()),
    )


def pairs_of(name: str, values: Any, other: str, others: Any) -> Iterator[Any]:
    """All pairs of a value of one setting and a value of another, as settings."""
    return (tuple(sorted(pair)) for pair in itertools.product(((name, v) for v in values), ((other, v) for v in others)))


class Card(FakeTensorMode):
    """Tensors without values. Records where the host would wait for the device, and makes up the values that it would read."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)
        self.waits: list[str] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # which would wrap each call

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:
            return args[0].fake_device
        kwargs = kwargs or {}
        if func in MADE_UP:
            self.note(func, args[0])
            return MADE_UP[func](*args, **kwargs)
        if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
            self.note(func, args[0], by(args))
            if func is aten.index.Tensor and by(args).dtype == torch.bool:
                return args[0].new_empty((1, *args[0].shape[by(args).dim() :]))
        if func is aten._fused_sgd_.default:
            return on_the_card("fused SGD", args, kwargs)
        out = self.dispatch(func, types, args, kwargs)
        if func is aten.lift_fresh.default:
            out.constant = None  # of torch.tensor(...), with which the mode would compute
        if func in (aten._to_copy.default, aten.copy_.default) and not (kwargs.get("non_blocking") or True in args[2:]):
            source = args[1] if func is aten.copy_.default else args[0]
            if {source.device.type, out.device.type} == {"cpu", "cuda"}:
                self.note(func, source if source.is_cuda else out)
        return out

    def note(self, func: Any, x: Any, index: Any = None) -> None:
        """Record the innermost line of lsg's code, if x is on the device."""
        if x.is_cuda and (index is None or index.dtype == torch.bool or index.device != x.device):
            frame: Any = sys._getframe()
            while frame.f_back and not frame.f_code.co_filename.startswith(PACKAGE):
                frame = frame.f_back
            self.waits.append(f"{func} at {line(frame.f_code.co_filename, frame.f_lineno)}")


def by(args: Any) -> Any:
    """The first index of an indexing operation."""
    return next(index for index in args[1] if index is not None)


# Operations whose results or shapes depend on values, and what they return.
MADE_UP = {
    aten._local_scalar_dense.default: lambda x: 0.0 if x.is_floating_point() else True if x.dtype == torch.bool else 1,
    aten.equal.default: lambda x, y: True,
    aten.bincount.default: lambda x, weights=None, minlength=1: x.new_empty(minlength),
    aten.nonzero.default: lambda x: x.new_empty((1, x.dim()), dtype=torch.int64),
    aten.masked_select.default: lambda x, mask: x.new_empty(1),
    aten._unique2.default: lambda x, *options: (x.new_empty(1), x.new_empty(0), x.new_empty(0)),
}
MADE_UP[aten.item.default] = MADE_UP[aten._local_scalar_dense.default]  # in inference mode


def line(file: str, number: int) -> str:
    """A line of a file, with its place."""
    return f"{Path(file).name}:{number}: {linecache.getline(file, number).strip()}"


def listed(x: Any) -> Any:
    """``Tensor.tolist`` of a fake tensor: one read."""
    value = aten._local_scalar_dense(x.flatten()[0]) if x.numel() else None
    return np.full(tuple(x.shape), value).tolist()


def on_the_card(what: str, *arguments: Any) -> None:
    """Check that all tensors in the arguments are on the device."""
    for tensor in torch.utils._pytree.tree_leaves(arguments):
        if isinstance(tensor, torch.Tensor) and tensor.device != CARD:
            raise RuntimeError(f"{what}: found a tensor {tuple(tensor.shape)} on {tensor.device}, expected {CARD}")


def launched(kernel: Any, *args: Any, grid: Any, **kwargs: Any) -> None:
    """In place of a launch by Triton."""
    on_the_card(f"the kernel {kernel.__name__}", args)


class Pretence:
    """In place of a stream or an event."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def record(self, stream: Any = None) -> None: ...
    def synchronize(self) -> None: ...


def pretend() -> None:
    """Replace what FakeTensorMode does not reach: torch's functions for CUDA, launches by Triton, and the test for tracing."""
    torch.autograd.set_multithreading_enabled(False)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") is then a copy that the modes see
    cuda = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "get_device_capability": lambda device=None: (9, 0),
        "_lazy_init": lambda: None,
        "is_bf16_supported": lambda including_emulation=True: True,
        "_exchange_device": lambda index: 0,
        "_maybe_exchange_device": lambda index: 0,
        "current_device": lambda: 0,
        "is_current_stream_capturing": lambda: False,
        "current_stream": Pretence,
        "Event": Pretence,
        "get_device_properties": lambda device=None: None,
        "get_rng_state": lambda device=None: None,
        "set_rng_state": lambda state, device=None: None,
    }
    for name, function in cuda.items():
        setattr(torch.cuda, name, function)
    torch.nn.Module._apply = applied  # type: ignore[method-assign,assignment]
    torch.Tensor.pin_memory = lambda x, device=None: x  # type: ignore[method-assign,assignment]
    FakeTensor.data_ptr = lambda x: x.untyped_storage()._cdata + x.storage_offset() * x.itemsize  # type: ignore[method-assign,assignment]
    torch.nn.init.trunc_normal_ = lambda x, **bounds: x  # it draws until all values are within the bounds
    loop.initialise = lambda model, config, classes: {}  # from other checkpoints, of which there are none
    FakeTensor.tolist = listed  # type: ignore[method-assign]
    FakeTensor.__deepcopy__ = copied  # type: ignore[method-assign,assignment]
    tracing = base.is_tracing
    for module in list(sys.modules.values()):
        if getattr(module, "is_tracing", None) is tracing:
            module.is_tracing = lambda x: False  # type: ignore[attr-defined]
    auto.trusted = lambda name, device: True  # type: ignore[assignment]
    if registry.get("backend", "triton").available(CARD):
        from triton.runtime.jit import JITFunction

        JITFunction.run = launched


def shallow() -> None:
    """Leave out the blocks and timesteps of networks that repeat others."""
    whole = ResNet.__init__

    def fewer(net: ResNet, spec: Any, block: Any, stages: Any, **stem: Any) -> None:
        whole(
            net, spec, block, [(full, count, stride) for (full, _, stride), count in zip(stages, (1, 2), strict=False)], **stem
        )

    ResNet.__init__ = fewer  # type: ignore[method-assign,assignment]
    for network in (QKFormer, Maxformer):  # those for DVS have the mixer of the second stage
        network.STAGES = [stage._replace(mixers=stage.mixers[:1]) for stage in network.STAGES[::2]]
    SewDVS.widths, SewDVSWide.widths = (32, 32, 32), (64, 64, 128)
    vggsnn.STAGES = (vggsnn.STAGES[0], *vggsnn.STAGES[1::2])  # type: ignore[assignment]


def applied(module: torch.nn.Module, change: Any, recurse: bool = True) -> torch.nn.Module:
    """``nn.Module._apply``, which cannot replace a fake tensor that something refers to."""
    for child in module.children() if recurse else ():
        child._apply(change)
    for tensors in (module._parameters, module._buffers):
        for name, x in tensors.items():
            if x is not None and (new := change(x.detach())) is not x:
                tensors[name] = torch.nn.Parameter(new, x.requires_grad) if isinstance(x, torch.nn.Parameter) else new
    return module


def copied(x: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
    """``copy.deepcopy`` of a fake tensor, which has no memory to copy."""
    copy = x.detach().clone()
    memo[id(x)] = torch.nn.Parameter(copy, x.requires_grad) if isinstance(x, torch.nn.Parameter) else copy
    return memo[id(x)]


def data(config: RunConfig, channels: int, shape: tuple[int, int], n: int = 8) -> DataBundle:
    """Two batches of samples, the values of which do not matter."""
    x = np.zeros((n, channels, *shape) if config.dataset == "digits" else (n, config.T, channels, *shape), np.uint8)
    part = Split(x, np.arange(n) % 3, numbers.ids([str(i) for i in range(n)]), [str(i) for i in range(n)])
    return DataBundle(
        ("a", "b", "c"), part, part, None, channels=channels, static=config.dataset == "digits", mean=None, std=None, info={}
    )


def run(case: dict[str, Any]) -> dict[str, Any]:
    """Two steps, the second with the light gradient flow of an epoch's end, then gradient flow and evaluation."""
    defaults = registry.get("arch", case.get("arch", "vggsnn")).defaults
    size = defaults["input_size"]
    config = configured(case, width_multiplier=1 / 64, batch_size=4, epochs=2, size=size, workers=0)
    bundle = data(config, 2, (defaults.get("input_height") or size, size))
    compute, card = Compute(CARD, config.precision), Card()
    found: dict[str, Any] = {"case": case}
    with card, tempfile.TemporaryDirectory() as folder:
        try:
            trainer = loop.Trainer(config, bundle, compute, RunFiles(Path(folder)), lambda record: None, StopRequest())
            card.waits.clear()
            for batch in trainer._batches():
                trainer._step(batch, 1.0, observe=batch.index > 0)
            found["waits"] = list(card.waits)
            trainer._settle()
            if not hasattr(trainer.model, "stages"):  # others take longer, and differ only in their blocks
                with observed_backbone(trainer.model, config):
                    gradflow.inspect(trainer.model, [batch], compute=compute, loss=trainer.loss)
            card.waits.clear()
            evaluate(trainer.network, bundle.val, bundle, compute, batch_size=8)
            found["evaluation"] = list(card.waits)
        except Exception as error:
            own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(PACKAGE)][-1]
            message = str(error).strip().partition("\n")[0][:200]
            found["error"] = f"{type(error).__name__}: {message} at {line(own.filename, own.lineno)}"
    return found


def plant(what: str) -> None:
    """Register the loss ``planted``, with a mistake."""

    @registry.register("loss", "planted")
    def planted(logits: torch.Tensor, labels: torch.Tensor, config: Any) -> torch.Tensor:
        value = torch.nn.functional.cross_entropy(logits.mean(0), labels)
        return value * value.item() if what == "item" else value + torch.zeros(3).sum(0, keepdim=True)


def main(words: list[str]) -> None:
    """Run all cases, on all cores, or one with a planted mistake: ``item`` or ``cpu``."""
    pretend()
    shallow()
    if words:
        plant(words[0])
        print(json.dumps(run({"arch": "mlp", "loss": "planted"})))
        return
    with multiprocessing.get_context("fork").Pool(len(os.sched_getaffinity(0))) as pool:
        for record in pool.imap(run, cases()):
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
