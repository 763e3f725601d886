"""The network as a graph of plain torch operations, without gradients: of all timesteps, or of one timestep with the state as an argument."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from lsgcli.errors import ConfigError, refuse
from lsgcli.models.base import SpikingNet
from lsgcli.models.quantise import settle
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels.base import NormParameters, one_by_one
from lsgcli.neurons.parallel import at_once
from lsgcli.neurons.step import integrate, number, over_channels
from lsgcli.system.schema import Record


def trace(network: SpikingNet, mode: str, static: bool) -> ExportedProgram:
    """The program of a network with a dynamic batch size, as :class:`Unrolled` or as :class:`Stepping`.

    Args:
        mode: ``unroll`` or ``step``.
        static: whether the input is images rather than frames of recordings.

    Raises:
        ConfigError: the network has neurons other than LIF.
        RuntimeError: torch cannot trace it.
    """
    spec = network.spec
    batch = Dim("batch")
    # The example becomes part of the program: zeros, with a batch of 2, because tracers specialise on a batch of 1.
    frame = torch.zeros(2, spec.in_channels, spec.height, spec.input_size)
    if mode == "step":
        stepping = Stepping(network)
        rest = stepping.rest(frame)
        return _program(stepping, (frame, *rest), {"x": {0: batch}, "u": tuple({0: batch} for _ in rest)})
    example = frame if static else frame.expand(network.T, *frame.shape).clone()
    return _program(Unrolled(network), (example,), {"x": {0 if static else 1: batch}})


def _program(graph: nn.Module, example: tuple[Tensor, ...], shapes: Record) -> ExportedProgram:
    # Contiguous weights: torch.export does not store channels-last weights completely.
    graph.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return torch.export.export(graph, example, dynamic_shapes=shapes)


@contextmanager
def explained(network: SpikingNet) -> Iterator[None]:
    """Context that converts a RuntimeError of torch's exporters to a ConfigError with its reason."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise ConfigError(
            f"ONNX: cannot trace {type(network).__name__}: {reason}",
            "Use --format safetensors, which supports any network.",
        ) from error


class Unrolled(nn.Module):
    """All T steps: frames (T, B, C, H, W), or images (B, C, H, W), -> logits (T, B, classes), then each layer's spikes (T, B, ...)."""

    def __init__(self, network: SpikingNet):
        super().__init__()
        self.network, self.layers = _traceable(network, TraceableLIF, whole=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        for lif in self.layers:
            lif.state.u = None
        logits = self.network(x)
        return logits, *(lif.state.spikes for lif in self.layers)


class Stepping(nn.Module):
    """One step: a frame x[t] (B, C, H, W) and each layer's u[t-1] -> logits (B, classes), then each layer's u[t].

    u is the membrane potential before the reset, zero before the first step; the spikes of a layer are u[t] >= v_th.

    Args:
        network: in evaluation mode, copied.
        neurons: class of its layers of neurons.

    Raises:
        ConfigError: the network has neurons other than LIF, or an initial potential other than 0.
    """

    def __init__(self, network: SpikingNet, neurons: "type[TraceableLIF] | None" = None):
        super().__init__()
        spec = network.spec
        refused = {
            f"--arch {spec.arch}": network.images_only,
            "--init-potential measured": spec.neuron.init_potential != "zero",
            "--norm tebn": spec.norm == "tebn",
            # A threshold of MPBN may lie below the initial u = 0, from which a soft reset would subtract it.
            "--norm mpbn with --reset soft": spec.norm == "mpbn" and spec.neuron.reset == "soft",
        }
        problems = [
            f"one timestep at a time: found {options}, expected others" for options, applies in refused.items() if applies
        ]
        refuse(problems, "Export all timesteps (--mode unroll), or predict without --stream.")
        self.network, self.layers = _traceable(network, neurons or TraceableLIF)

    def forward(self, x: Tensor, *u: Tensor) -> tuple[Tensor, ...]:
        """(logits, u[t] of the first layer (B, ...), ...)."""
        for lif, before in zip(self.layers, u, strict=True):
            lif.state.u = before
        logits = self.network(x.unsqueeze(0))[0]
        return logits, *(lif.state.u for lif in self.layers)

    @torch.no_grad()
    def rest(self, x: Tensor) -> tuple[Tensor, ...]:
        """u of each layer before the first step, zeros, for frames shaped like ``x`` (B, C, H, W)."""
        for lif in self.layers:
            lif.state.u = None
        self.network(x.unsqueeze(0))
        return tuple(torch.zeros_like(lif.state.u) for lif in self.layers)


class _State:
    """u and all spikes of a layer: opaque to tracers, which treat a module's tensors as weights."""

    u: Any = None
    spikes: Any = None


class TraceableLIF(nn.Module):
    """A layer of LIF neurons with a constant decay. It starts from ``state.u``, and stores the last u and all spikes in ``state``.

    MPBN is folded into a threshold per channel; where its weight is negative, the layer computes -u.
    """

    beta: Tensor
    initial: Tensor | None
    sign: Tensor | None
    thresholds: Tensor | None

    def __init__(self, lif: LIF):
        super().__init__()
        self.register_buffer("beta", lif.beta.detach().clone())
        self.register_buffer("initial", lif.initial.clone() if lif.config.init_potential == "measured" else None)
        threshold, sign = lif.firing()
        self.register_buffer("sign", sign)
        self.register_buffer("thresholds", threshold if isinstance(threshold, Tensor) else None)
        self.v_th = number(lif.threshold)
        self.reset = lif.config.reset
        self.scaled = lif.config.input_gain != "1"
        self.state = _State()

    def advance(self, current: Tensor, u: Tensor | None = None, spikes: Tensor | None = None) -> Tensor:
        """u[t] (B, ...) from I[t], u[t-1] and o[t-1]; without the last two at the first step."""
        trailing = current.dim() - 2
        v_th: float | Tensor = self.v_th
        beta = over_channels(self.beta, trailing)
        now = current * (1 - beta) if self.scaled else current
        if u is None and self.initial is not None:
            now = now + beta * self.initial
        if self.sign is not None:
            sign = over_channels(self.sign, trailing)
            now = sign * now
            v_th = sign * v_th
        if u is None or spikes is None:
            return now
        return integrate(now, u, spikes, SimpleNamespace(beta=beta, threshold=v_th, reset=self.reset, detach=False))

    def threshold(self, trailing: int) -> float | Tensor:
        """Threshold of u, () or (C, ...) with ``trailing`` axes after C."""
        return self.v_th if self.thresholds is None else over_channels(self.thresholds, trailing)

    def forward(self, current: Tensor, *, overwrite: bool = False) -> Tensor:
        """Spikes (T, ...) of currents (T, ...), as :meth:`~lsgcli.neurons.LIF.forward`."""
        u = self.state.u
        spikes = []
        threshold = self.threshold(current.dim() - 3)
        wide = torch.promote_types(current.dtype, torch.float32)  # of u between steps, also where layers compute in bfloat16
        for now in current:
            now = now if current.dtype == wide else now.to(wide)
            u = self.advance(now, u, None if u is None else (u >= threshold).to(u.dtype))
            spikes.append((u >= threshold).to(current.dtype))
        fired = torch.stack(spikes)
        self.state.u = u
        self.state.spikes = fired
        return fired

    def normalise_and_fire(self, norm: NormParameters | None, z: Tensor, **behind: Any) -> Tensor:
        """As :meth:`~lsgcli.neurons.LIF.normalise_and_fire`."""
        return one_by_one(self, z, norm, **behind)


class TraceableParallel(TraceableLIF):
    """A layer of neurons that are computed at all timesteps at once, with constant parameters."""

    def __init__(self, lif: LIF):
        super().__init__(lif)
        self.neuron: Any = lif.neuron
        self.own = tuple(lif.of_neuron())
        for name, tensor in lif.of_neuron().items():
            self.register_buffer(name, tensor.detach().clone())

    def forward(self, current: Tensor, *, overwrite: bool = False) -> Tensor:
        """Spikes (T, ...) of currents (T, ...)."""
        values = SimpleNamespace(beta=self.beta, threshold=self.v_th, **{name: getattr(self, name) for name in self.own})
        u, threshold = at_once(self.neuron, current, values)
        self.state.spikes = fired = (u >= threshold).to(current.dtype)
        return fired


def other_than_lif(lif: LIF) -> str | None:
    """Description of neurons other than LIF with spikes of 0 and 1; None for these."""
    if type(lif) is not LIF:
        return f"neurons of class {type(lif).__name__}"
    if not lif.neuron.fused or lif.neuron.graded:
        return f"neurons of --neuron {lif.config.neuron} and --method {lif.config.method}"
    return None


def _traceable(network: SpikingNet, neurons: type[TraceableLIF], whole: bool = False) -> tuple[SpikingNet, list[TraceableLIF]]:
    """A copy of the network without gradients, and its layers of neurons, with ``whole`` also of those that need all timesteps.

    Raises:
        ConfigError: the network has neurons that the graph does not implement.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    settle(network)
    paths = {module: path for path, module in network.named_modules()}
    layers = []
    for layer in network.spiking_layers():
        parallel = whole and layer.lif.neuron.parallel and layer.lif.membrane is None
        if (description := other_than_lif(layer.lif)) is not None and not parallel:
            raise ConfigError(
                f"{layer.name}: found {description}, expected LIF with spikes of 0 and 1: the graph implements no other neurons",
                "Use --format safetensors or hf, which store weights only."
                if not layer.lif.neuron.parallel
                else "They need all timesteps: export with --mode unroll, or predict without --stream.",
            )
        layers.append((TraceableParallel if parallel else neurons)(layer.lif))
        network.set_submodule(paths[layer.lif], layers[-1])
    return network, layers
