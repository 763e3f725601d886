"""The network as traceable modules: all timesteps in one graph, or one timestep with the state as an argument.

Both consist of plain torch operations, without gradients, for formats that store a graph of operations.
"""

import copy

import torch
from torch import Tensor, nn

from lsgcli.errors import ConfigError
from lsgcli.models.base import SpikingNet
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels import Backend, NormParameters
from lsgcli.neurons.neuron import over_channels
from lsgcli.neurons.step import LIFParameters


class Unrolled(nn.Module):
    """All T steps: frames (T, B, C, H, W), or images (B, C, H, W), -> logits (T, B, classes), then the spikes of each layer.

    Attributes:
        names: of the layers, in the order of the outputs after the first.
    """

    def __init__(self, network: SpikingNet):
        super().__init__()
        self.network, self._histories = _traceable(network)
        self.names = list(self._histories)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(logits, spikes of the first layer (T, B, ...), ...)."""
        for history in self._histories.values():
            history.u = None
        logits = self.network(x)
        return logits, *(history.spikes for history in self._histories.values())


class Logits(Unrolled):
    """As :class:`Unrolled`, with only the logits (T, B, classes) as output."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Logits."""
        return super().forward(x)[0]


class Stepping(nn.Module):
    """One step: a frame x[t] (B, C, H, W) and each layer's u[t-1] -> logits (B, classes), then each layer's u[t].

    u is the membrane potential before the reset, zero before the first step; the spikes of a layer are u[t] >= v_th.

    Attributes:
        names: of the layers, in the order of the arguments and outputs after the first.
        thresholds: v_th of each layer, likewise.
    """

    def __init__(self, network: SpikingNet):
        super().__init__()
        self.thresholds = [layer.lif.threshold for layer in network.spiking_layers()]
        self.network, self._histories = _traceable(network)
        self.names = list(self._histories)

    def forward(self, x: Tensor, *u: Tensor) -> tuple[Tensor, ...]:
        """(logits, u[t] of the first layer (B, ...), ...)."""
        for history, before in zip(self._histories.values(), u, strict=True):
            history.u = before
        logits = self.network(x.unsqueeze(0))[0]
        return logits, *(history.u for history in self._histories.values() if history.u is not None)

    @torch.no_grad()
    def rest(self, x: Tensor) -> tuple[Tensor, ...]:
        """u of each layer before the first step, zeros, for frames shaped like ``x`` (B, C, H, W)."""
        for history in self._histories.values():
            history.u = None
        self.network(x.unsqueeze(0))
        return tuple(torch.zeros_like(history.u) for history in self._histories.values() if history.u is not None)


class _History(Backend):
    """Runs a layer by the equations in :mod:`lsgcli.neurons.neuron`, from ``u`` (None is the resting state), and stores the last u and
    all spikes.

    Not a module, because tracers treat tensors stored in a module as weights.
    """

    def __init__(self) -> None:
        self.u: Tensor | None = None
        self.spikes: Tensor | None = None

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        u, spikes = self.u, []
        wide = torch.promote_types(current.dtype, torch.float32)  # of u between steps, also where layers compute in bfloat16
        for now in current:
            now = now if current.dtype == wide else now.to(wide)
            u = now if u is None else p.beta * u * (u < p.threshold).to(u.dtype) + now
            spikes.append((u >= p.threshold).to(current.dtype))
        self.u, self.spikes = u, torch.stack(spikes)
        return self.spikes


class _TraceableLIF(nn.Module):
    """Replaces a layer of neurons in the network; its decay is a constant."""

    beta: Tensor

    def __init__(self, lif: LIF, history: _History):
        super().__init__()
        self.register_buffer("beta", lif.beta.detach().clone())
        self.threshold, self.surrogate, self.history = lif.threshold, lif.surrogate, history

    def forward(self, current: Tensor, *, overwrite: bool = False) -> Tensor:
        """Spikes (T, ...) of currents (T, ...), as :meth:`~lsgcli.neurons.LIF.forward`."""
        return self.history(current, self._lif_parameters(current))

    def normalise_and_fire(
        self, norm: NormParameters | None, z: Tensor, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        """As :meth:`~lsgcli.neurons.LIF.normalise_and_fire`."""
        return self.history.normalise_and_fire(z, norm, self._lif_parameters(z), residual=residual, pool=pool)

    def _lif_parameters(self, current: Tensor) -> LIFParameters:
        beta = over_channels(self.beta, current.dim() - 3)
        # alpha affects gradients only, so any tensor will do.
        return LIFParameters(beta, beta, self.threshold, self.surrogate)


def _traceable(network: SpikingNet) -> tuple[SpikingNet, dict[str, _History]]:
    """A copy of the network without gradients, with the history of each layer.

    Raises:
        ConfigError: the network has neurons other than LIF.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for layer in network.spiking_layers():
        if type(layer.lif) is not LIF:
            raise ConfigError(
                f"{layer.name}: found neurons of class {type(layer.lif).__name__}, expected LIF: the graph "
                "implements no other reset",
                hint="Use --format safetensors or hf, which store weights only.",
            )
    histories = {}
    for layer in network.spiking_layers():
        histories[layer.name] = _History()
        path = next(name for name, module in network.named_modules() if module is layer.lif)
        network.set_submodule(path, _TraceableLIF(layer.lif, histories[layer.name]))
    return network, histories
