"""A network that runs timestep by timestep with low latency on a CPU: weights are reordered once, and each layer of neurons is one kernel."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lsgcli import registry
from lsgcli.export.graphs import Stepping, TraceableLIF
from lsgcli.models.base import SpikingNet
from lsgcli.models.convolution import prepack
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels.base import NormParameters
from lsgcli.neurons.kernels.cpu.job import Layout, image_layout, sequence_layout
from lsgcli.neurons.kernels.fused import Fused
from lsgcli.neurons.step import over_channels

Layouts = Callable[..., Layout | None]
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
        spikes = self._fire(current, sequence_layout)
        return super().forward(current) if spikes is None else spikes

    def normalise_and_fire(self, norm: NormParameters | None, z: Tensor, **behind: Any) -> Tensor:
        """As :meth:`~lsgcli.neurons.LIF.normalise_and_fire`."""
        spikes = self._fire(z, image_layout, **behind) if norm is None else None
        return super().normalise_and_fire(norm, z, **behind) if spikes is None else spikes

    def _fire(self, z: Tensor, layout_of: Layouts, residual: Tensor | None = None, pool: int = 1) -> Tensor | None:
        """Spikes by the kernel, which also advances the state; None if it does not support the layer."""
        if residual is not None and residual.dtype != torch.uint8:
            residual = residual.to(z.dtype)
        key = (z.shape, z.dtype, None if residual is None else residual.dtype, pool, layout_of)
        if key not in self.prepared:
            self.prepared[key] = self._prepare(z, residual, pool, layout_of)
        step = self.prepared[key]
        if step is None:
            return None
        spikes, self.state.u = step(z, residual, self.state.u)
        return spikes

    def _prepare(self, z: Tensor, residual: Tensor | None, pool: int, layout_of: Layouts) -> Step | None:
        fused, beta = self.fused, over_channels(self.beta, z.dim() - 3)
        if fused is None or not fused.available(z.device) or not fused.supports(z, self.surrogate, self.reset):
            return None
        layout = layout_of(z, beta)
        if layout is None or any(size % pool for size in z.shape[3:]) or (residual is not None and residual.shape != z.shape):
            return None
        from lsgcli.neurons.kernels.cpu.timestep import Timestep

        options = {"v_th": self.v_th, "reset": self.reset, "pool": pool, "as_bytes": fused.as_bytes}
        return Timestep(z, residual, layout, beta=self.beta, **options)  # type: ignore[arg-type]
