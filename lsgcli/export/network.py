"""A network in torch as a :class:`~lsgcli.export.Runner`: the reference for other runners, and the runner of weight-only formats."""

from typing import Any

import torch
from torch import Tensor, nn

from lsgcli.export import Output, Runner, Stepwise
from lsgcli.export.graphs import Stepping
from lsgcli.models.base import SpikingNet
from lsgcli.neurons import LIF
from lsgcli.neurons.neuron import over_channels


class NetworkRunner(Runner):
    """Runs a network in evaluation mode, in its own precision."""

    def __init__(self, network: SpikingNet, config: dict[str, Any]):
        super().__init__(config)
        self.network = network.eval()

    def run(self, x: Tensor) -> Output:
        logits, layers = self._run(x)
        return Output(logits, {name: spikes for name, (_, spikes) in layers.items()})

    def membranes(self, x: Tensor) -> dict[str, Tensor]:
        """u (T, B, ...) of each layer before reset, computed from its currents and spikes."""
        layers = {layer.name: layer.lif for layer in self.network.spiking_layers()}
        return {name: _membrane(layers[name], *both) for name, both in self._run(x)[1].items()}

    @torch.no_grad()
    def _run(self, x: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Logits, and currents and spikes of each layer."""
        currents: dict[str, Tensor] = {}
        spikes: dict[str, Tensor] = {}

        def before(name: str) -> Any:
            # A copy, since a backend may overwrite the current.
            return lambda module, arguments: currents.__setitem__(name, arguments[0].clone())

        def after(name: str) -> Any:
            return lambda module, arguments, output: spikes.__setitem__(name, output)

        handles = []
        for layer in self.network.spiking_layers():
            lif: nn.Module = layer.lif
            handles += [lif.register_forward_pre_hook(before(layer.name)), lif.register_forward_hook(after(layer.name))]
        try:
            logits = self.network(x)
        finally:
            for handle in handles:
                handle.remove()
        return logits, {name: (currents[name], spikes[name]) for name in spikes}


class SteppingRunner(Stepwise):
    """Runs a network in torch one timestep at a time."""

    def __init__(self, network: SpikingNet, config: dict[str, Any]):
        super().__init__(config)
        self.spec, self.stepping = network.spec, Stepping(network)

    def rest(self, batch: int) -> tuple[Tensor, ...]:
        weight = next(self.stepping.parameters())
        return self.stepping.rest(weight.new_zeros(batch, self.spec.in_channels, self.spec.height, self.spec.input_size))

    def step(self, frame: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        logits, *after = self.stepping(frame, *state)
        return logits, tuple(after)


def _membrane(lif: LIF, current: Tensor, spikes: Tensor) -> Tensor:
    u, beta = [current[0]], over_channels(lif.beta.detach(), current.dim() - 3)
    for now, fired in zip(current[1:], spikes[:-1], strict=True):
        u.append(beta * u[-1] * (1 - fired) + now)
    return torch.stack(u)
