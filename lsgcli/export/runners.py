"""Runners: networks that map frames to logits and spikes, starting at rest, regardless of file format and runtime."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lsgcli import registry
from lsgcli.data.bundle import DataBundle, Split
from lsgcli.errors import ConfigError
from lsgcli.export.graphs import Stepping, TraceableLIF, other_than_lif
from lsgcli.models.base import SpikingNet
from lsgcli.models.convolution import prepack
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels.base import NormParameters
from lsgcli.neurons.kernels.cpu.job import image_layout, sequence_layout
from lsgcli.neurons.kernels.fused import Fused
from lsgcli.neurons.step import over_channels
from lsgcli.system.schema import Record
from lsgcli.training.evaluate import Evaluation, measure

Step = Callable[[Tensor, Tensor | None, Tensor | None], tuple[Tensor, Tensor]]  # as :meth:`Timestep.__call__`


def quick(network: SpikingNet) -> Stepping:
    """The network as a module of one timestep, to be called rather than traced."""
    stepping = Stepping(network, QuickLIF)
    prepack(stepping)
    return stepping


class QuickLIF(TraceableLIF):
    """A layer of neurons that runs in the fused kernel if its options, backend and device allow it."""

    def __init__(self, lif: LIF):
        super().__init__(lif)
        backend = registry.get("backend", "fused") if lif.backend == "auto" else lif.implementation
        self.fused = backend if isinstance(backend, Fused) and not self.scaled and self.sign is None else None
        self.surrogate = lif.surrogate
        self.prepared: dict[object, Step | None] = {}  # by types and shapes of a call

    def forward(self, current: Tensor, *, overwrite: bool = False) -> Tensor:
        """Spikes (1, ...) of a current (1, ...)."""
        spikes = self._fire(current)
        return super().forward(current) if spikes is None else spikes

    def normalise_and_fire(self, norm: NormParameters | None, z: Tensor, **behind: Any) -> Tensor:
        """As :meth:`~lsgcli.neurons.LIF.normalise_and_fire`."""
        spikes = self._fire(z, **behind) if norm is None else None
        return super().normalise_and_fire(norm, z, **behind) if spikes is None else spikes

    def _fire(self, z: Tensor, residual: Tensor | None = None, pool: int = 1) -> Tensor | None:
        """Spikes by the kernel, which also advances the state; None if it does not support the layer."""
        if residual is not None and residual.dtype != torch.uint8:
            residual = residual.to(z.dtype)
        key = (z.shape, z.dtype, None if residual is None else residual.dtype, pool)
        if key not in self.prepared:
            self.prepared[key] = self._prepare(z, residual, pool)
        step = self.prepared[key]
        if step is None:
            return None
        spikes, self.state.u = step(z, residual, self.state.u)
        return spikes

    def _prepare(self, z: Tensor, residual: Tensor | None, pool: int) -> Step | None:
        fused = self.fused
        beta = over_channels(self.beta, z.dim() - 3)
        if fused is None or not fused.available(z.device) or not fused.supports(z, self.surrogate, self.reset):
            return None
        layout = image_layout(z, beta) if z.dim() == 5 else sequence_layout(z, beta)
        if layout is None or any(size % pool for size in z.shape[3:]) or (residual is not None and residual.shape != z.shape):
            return None
        from lsgcli.neurons.kernels.cpu.timestep import Timestep

        return Timestep(
            z, residual, layout, beta=self.beta, v_th=self.v_th, reset=self.reset, pool=pool, as_bytes=fused.as_bytes
        )


@dataclass(frozen=True)
class Output:
    """Output of an exported network.

    Attributes:
        logits: (T, B, classes).
        spikes: (T, B, ...) by layer, named as in :meth:`~lsgcli.models.base.SpikingNet.spiking_layers`, if the format exposes them.
    """

    logits: Tensor
    spikes: Mapping[str, Tensor] = field(default_factory=dict)


class Runner(ABC):
    """An exported network, loaded from its file alone.

    Attributes:
        config: ``content.config`` as passed to :meth:`lsgcli.export.base.Format.write`.
    """

    def __init__(self, config: Record):
        self.config = config

    @property
    def T(self) -> int:
        """Timesteps."""
        return int(self.config["model"]["T"])

    @property
    def static(self) -> bool:
        """Whether the input is images, each presented T times, rather than frames of recordings."""
        return bool(self.config["data"]["static"])

    @abstractmethod
    def run(self, x: Tensor) -> Output:
        """Run float32 frames (T, B, C, H, W), or images (B, C, H, W) if ``static``, from the resting state."""


class AtOnce(Runner):
    """A network that runs all timesteps at once.

    Args:
        function: the input of :meth:`run` -> logits (T, B, classes), then the spikes (T, B, ...) of each layer.
    """

    def __init__(self, config: Record, function: Callable[[Tensor], Iterable[Tensor]]):
        super().__init__(config)
        self.function = function

    def run(self, x: Tensor) -> Output:
        logits, *spikes = self.function(x)
        return Output(logits, dict(zip(self.config["export"]["layers"], spikes, strict=True)))


class Stepwise(Runner):
    """A network that runs one timestep at a time. Its state is u (B, ...) of each layer before the reset.

    Args:
        function: one timestep: a frame or image (B, C, H, W), then the state -> logits (B, classes), then the next state.
        example: a state of any batch size.
        macs: multiply-accumulates of the layers before neurons, in a timestep of one sample; 0 if unknown.
    """

    def __init__(self, config: Record, function: Callable[..., Iterable[Tensor]], example: Iterable[Tensor], macs: int = 0):
        super().__init__(config)
        self.function, self.example, self.macs = function, tuple(example), macs

    def rest(self, batch: int) -> tuple[Tensor, ...]:
        """The initial state of ``batch`` samples: zeros."""
        return tuple(torch.zeros_like(u[:1].expand(batch, *u.shape[1:])) for u in self.example)  # in the memory order of u

    def step(self, frame: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One timestep: logits (B, classes) and the next state."""
        logits, *after = self.function(frame, *state)
        return logits, tuple(after)

    def run(self, x: Tensor) -> Output:
        """Run all timesteps from rest; spikes are computed from the states."""
        state = self.rest(x.shape[0 if self.static else 1])
        logits = []
        states = []
        for frame in x.expand(self.T, *x.shape) if self.static else x:
            now, state = self.step(frame, state)
            logits.append(now)
            states.append(state)
        return Output(torch.stack(logits), self.spikes(states))

    def spikes(self, states: Sequence[tuple[Tensor, ...]]) -> dict[str, Tensor]:
        """The spikes (T, B, ...) of each layer, from the states after each timestep."""
        spikes = {}
        for (name, layer), us in zip(self.config["export"]["layers"].items(), zip(*states, strict=True), strict=True):
            u = torch.stack(us)
            threshold = over_channels(torch.tensor(layer["threshold"], dtype=u.dtype), u.dim() - 3)
            spikes[name] = (u >= threshold).to(u.dtype)
        return spikes


def stepwise(network: SpikingNet, config: Record) -> Stepwise:
    """A network in torch that runs one timestep at a time."""
    spec = network.spec
    stepping = quick(network)
    weight = next(stepping.parameters())
    rest = stepping.rest(weight.new_zeros(1, spec.in_channels, spec.height, spec.input_size))
    macs = sum(u.numel() * layer.synapse.weight[0].numel() for u, layer in zip(rest, network.spiking_layers(), strict=True))
    return Stepwise(config, stepping, rest, macs)


class NetworkRunner(Runner):
    """Runs a network in evaluation mode, in its own precision: the reference, and the runner of formats that store only weights."""

    def __init__(self, network: SpikingNet, config: Record):
        super().__init__(config)
        self.network = network.eval()

    def run(self, x: Tensor) -> Output:
        logits, recorded = self.recorded(x)
        return Output(logits, {name: spikes for name, (_, spikes) in recorded.items()})

    @torch.no_grad()
    def recorded(self, x: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Logits, and current and spikes of each layer. Networks do not let a layer with a hook overwrite its current."""
        recorded: dict[str, tuple[Tensor, Tensor]] = {}

        def record(name: str, module: nn.Module, arguments: Any, output: Tensor) -> None:
            recorded[name] = arguments[0], output

        layers = self.network.spiking_layers()
        handles = [layer.lif.register_forward_hook(partial(record, layer.name)) for layer in layers]
        try:
            return self.network(x), recorded
        finally:
            for handle in handles:
                handle.remove()


def membrane(lif: LIF, current: Tensor, spikes: Tensor) -> Tensor:
    """u (T, B, ...) of LIF before its reset; NaN for other neurons, so that their spikes never count as ties."""
    if other_than_lif(lif) is not None:
        return torch.full_like(current, math.nan)
    neurons = TraceableLIF(lif)
    u = list[Tensor]()
    for t, now in enumerate(current):
        u.append(neurons.advance(now, u[-1], spikes[t - 1]) if t else neurons.advance(now))
    return torch.stack(u)


def evaluate(runner: Runner, split: Split, bundle: DataBundle, **options: Any) -> Evaluation:
    """Accuracy, loss and confusion matrix on ``split``, and firing rates of the layers whose spikes the format exposes.

    Args:
        options: of :func:`~lsgcli.training.evaluate.measure`.

    Raises:
        ConfigError: the samples are of another shape than those that the network was trained on.
    """
    fired = defaultdict[str, float](float)
    compared = defaultdict[str, int](int)

    model = runner.config["model"]
    expected = model["in_channels"], model.get("input_height") or model["input_size"], model["input_size"]

    def logits(x: Tensor) -> Tensor:
        if x.shape[-3:] != expected:
            raise ConfigError(
                f"found samples of shape {tuple(x.shape[-3:])}, expected C, H, W = {expected}",
                "Use data of the shape it was trained on.",
            )
        outcome = runner.run(x)
        for name, spikes in outcome.spikes.items():
            fired[name] += float(spikes.sum(dtype=torch.float64))
            compared[name] += spikes.numel()
        return outcome.logits

    result = measure(logits, split, bundle, **options)
    return dataclasses.replace(result, firing_rate={name: fired[name] / n for name, n in compared.items()})
