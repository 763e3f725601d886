"""The step of a contender."""

import dataclasses
import itertools
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.bench.cases import Case, Contender
from lsgcli.system.device import CONVOLUTIONS, Convolutions
from lsgcli.system.memory import keep_large_buffers, release_unused

# As in ``lsgcli.sweeps.bench``: nothing drifts, and no gradient vanishes; the time of a step depends on neither.
RATE, MOMENTUM, SMOOTHING = 1e-12, 0.9, 0.1

Single = Callable[[Tensor, bool], Tensor]  # (frame (B, C, H, W), whether it is the first of a window) -> logits (B, classes)


class Built(NamedTuple):
    """A network, what drops its state after a sequence, what makes it ready for inference, the class of its neurons,
    SGD with momentum over its parameters: what takes a step and then forgets the gradients; the function of single timesteps of a
    network that is ready for inference; the context of a forward pass in training; and whether unused memory is returned after the first
    step, as ``lsg train`` does."""

    network: nn.Module
    forget: Callable[[nn.Module], object]
    deploy: Callable[[Any], nn.Module]
    neurons: type[nn.Module] | None
    optimizer: Callable[[Any], Callable[[], object]]
    single: Callable[[Any], Single]
    training: Callable[[], AbstractContextManager[Any]] = nullcontext
    releases: bool = True


class Prepared(NamedTuple):
    """A contender ready to go: what it was built from, and one step of it."""

    built: Built
    case: Case
    precision: str
    x: Tensor
    labels: Tensor
    step: Callable[[], Any]

    def forward(self) -> Tensor:
        """Logits (T, B, classes) in float32, in the case's precision; the network keeps its state."""
        with autocast(self.precision, self.case.device):
            return self.built.network(self.x).float()

    def wait(self) -> None:
        """Wait for the device."""
        if self.case.device == "cuda":
            torch.cuda.synchronize()


def prepare(contender: Contender, case: Case, precision: str, threads: int) -> Prepared:
    """Build the network and its input.

    Raises:
        ImportError: the contender's library is not installed.
    """
    torch.set_num_threads(threads)
    CONVOLUTIONS.set(Convolutions(contender.convolution))
    if contender.settings:  # all have the compiler and the kernels of plain LIF in memory, used or not
        tiny = dataclasses.replace(case, width=1 / 64, T=1, batch=2, size=16)
        train(build(Contender("lsg"), tiny), *inputs(tiny), lambda: autocast(precision, case.device))()
    torch.manual_seed(0)
    if contender.keep:
        keep_large_buffers()
    x, labels = (tensor.to(case.device) for tensor in inputs(case))
    built = build(contender, case, precision)
    step = MODES[case.mode](built, x, labels, lambda: autocast(precision, case.device))
    return Prepared(built, case, precision, x, labels, step)


def build(contender: Contender, case: Case, precision: str = "fp32") -> Built:
    """The contender's network; of lsg, for inference in a precision."""
    return _of_lsg(contender, case, precision) if contender.kit in ("lsg", "Onnx") else _of_peer(contender, case)


def _of_lsg(contender: Contender, case: Case, precision: str) -> Built:
    from lsgcli import models, registry
    from lsgcli.models.integer import deployed
    from lsgcli.neurons import LIF
    from lsgcli.neurons.kernels.base import single_backward

    network: nn.Module = models.build(
        case.network,
        T=case.T,
        in_channels=case.channels,
        input_size=case.size,
        width_multiplier=case.width,
        backend=contender.backend,
        **contender.settings,
    ).to(case.device)

    for module in network.modules():
        if contender.compiled and isinstance(module, LIF):
            module.backend = registry.get("backend", contender.backend)  # looking it up by name would divide the graph

    def deploy(network: Any) -> nn.Module:
        network = deployed(network, precision)
        if contender.compiled:
            network.compile(fullgraph=True)
        return network

    if contender.compiled and case.mode == "train":
        network.compile(fullgraph=True)
    single = stepwise_of_export if contender.kit == "Onnx" else stepwise_of_lsg
    return Built(network, lambda network: None, deploy, LIF, lsg_sgd, single, single_backward)


def _of_peer(contender: Contender, case: Case) -> Built:
    os.environ["SJ_LIF_CUDA_IMPLEMENTATION"] = contender.backend  # spikingjelly reads it on import
    from benchmarks.bench import library, peers

    kit: peers.Kit = getattr(peers, contender.kit)(contender.best)
    network = {**peers.NETWORKS, **library.NETWORKS}[case.network](kit, case.T, case.size, case.width).to(case.device)
    fires = type(kit.neurons())
    if contender.compiled:
        network.compile(dynamic=False)

    def single(network: Any) -> Single:
        kit.step(network)

        def step(frame: Tensor, first: bool) -> Tensor:
            if first:
                kit.forget(network)
            return network.sequence(frame, None)  # type: ignore[no-any-return]

        return step

    kind = None if fires is nn.Identity else fires
    return Built(network, kit.forget, kit.deploy, kind, torch_sgd, single, releases=contender.keep)


def stepwise_of_lsg(network: Any) -> Single:
    """As ``lsg predict --stream`` has it."""
    from lsgcli.export.runners import stepwise

    return _with_state(stepwise(network, {}))


def stepwise_of_export(network: Any) -> Single:
    """The network exported to ONNX, in onnxruntime with torch's number of threads."""
    from lsgcli import registry
    from lsgcli.config.run import RunConfig
    from lsgcli.export.base import ExportOptions
    from lsgcli.export.source import read
    from lsgcli.store import checkpoint

    options, form = ExportOptions(mode="step"), registry.get("format", "onnx")()
    config = {
        **checkpoint.describe(network, folded=True),
        "classes": [str(number) for number in range(network.spec.num_classes)],
        "settings": RunConfig(T=network.T).to_dict(),
        "data": {"static": False, "mean": None, "std": None},
    }
    with tempfile.TemporaryDirectory() as folder:
        weights, path = Path(folder) / "network.safetensors", Path(folder) / "network.onnx"
        checkpoint.save(weights, checkpoint.Checkpoint(network.state_dict(), config, {}))
        source = read(weights, "onnx", options)
        form.write(source.written, source.content, path, options)
        return _with_state(form.open(path))


def _with_state(steps: Any) -> Single:
    """Single timesteps of a :class:`~lsgcli.export.runners.Stepwise`."""
    state: tuple[Tensor, ...] = ()

    def step(frame: Tensor, first: bool) -> Tensor:
        nonlocal state
        logits, state = steps.step(frame, steps.rest(len(frame)) if first else state)
        return logits  # type: ignore[no-any-return]

    return step


def torch_sgd(network: nn.Module) -> Callable[[], object]:
    """torch's, as users of the peers have it."""
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)

    def step() -> None:
        optimizer.step()
        optimizer.zero_grad()

    return step


def lsg_sgd(network: nn.Module) -> Callable[[], object]:
    """As ``lsg train`` has it; the decays' Adam and the update of what methods measure with it."""
    from lsgcli.config.run import RunConfig
    from lsgcli.training.optim import Optimizers

    optimizers = Optimizers(network, RunConfig(lr=RATE, momentum=MOMENTUM, weight_decay=0.0, decay_lr=RATE))

    def step() -> None:
        optimizers.step(1.0)
        network.end_step()  # type: ignore[operator]
        optimizers.zero_grad()

    return step


def inputs(case: Case) -> tuple[Tensor, Tensor]:
    """Frames of events (T, B, 2, H, W), mostly zero, or static images (B, 3, H, W); and labels (B,)."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 10, (case.batch,), generator=generator)
    if case.channels == 3:
        return torch.randn(case.batch, 3, case.size, case.size, generator=generator), labels
    return torch.poisson(torch.full((case.T, case.batch, 2, case.size, case.size), 0.3), generator=generator), labels


def autocast(precision: str, device: str = "cpu") -> AbstractContextManager[Any]:
    """Context of the forward pass."""
    return torch.autocast(device, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


Context = Callable[[], AbstractContextManager[Any]]


def train(built: Built, x: Tensor, labels: Tensor, context: Context) -> Callable[[], Any]:
    """Forward, cross-entropy of the mean logits, backward, SGD with momentum: the same for everybody."""
    network = built.network.train()
    update, release = built.optimizer(network), built.releases

    def step() -> None:
        nonlocal release
        with context(), built.training():
            logits = network(x)
        F.cross_entropy(logits.float().mean(0), labels, label_smoothing=SMOOTHING).backward()
        update()
        if release:
            release_unused()
            release = False
        built.forget(network)

    return step


def inference(built: Built, x: Tensor, labels: Tensor, context: Context) -> Callable[[], Any]:
    """Forward, in evaluation mode; lsg, and peers at their best, with tdBN folded into the convolutions."""
    calibrate(built, x)
    network = built.deploy(built.network)

    def step() -> None:
        with torch.inference_mode(), context():
            network(x).float().mean(0)
        built.forget(network)

    return step


def calibrate(built: Built, x: Tensor) -> None:
    """Running statistics of a sample, so that the deep layers' neurons fire; a small one, to leave the peak alone."""
    norms = [module for module in built.network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        built.network.train()(x[:1] if x.dim() == 4 else x[:1, :1])
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    built.forget(built.network)


def stream(built: Built, x: Tensor, labels: Tensor, context: Context) -> Callable[[], Any]:
    """One timestep of a window, forward, in evaluation mode; the first of a window starts from rest."""
    calibrate(built, x)
    single: Single = built.single(built.deploy(built.network))
    T: Any = built.network.T
    frames: Any = x if x.dim() == 5 else x.expand(T, *x.shape)
    window = itertools.cycle(enumerate(frames))

    def step() -> None:
        t, frame = next(window)
        with torch.inference_mode(), context():
            single(frame, t == 0)

    return step


MODES = {"train": train, "inference": inference, "stream": stream}
