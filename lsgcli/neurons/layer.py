"""What a layer of neurons keeps and measures in training; :mod:`lsgcli.neurons.lif` computes with it.

Models of neurons receive the layer as this class, so that they do not depend on the layer that uses them.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from lsgcli.config.neuron import NeuronConfig
from lsgcli.errors import ConfigError
from lsgcli.neurons.draws import Draws
from lsgcli.neurons.kernels.base import Gather
from lsgcli.neurons.norms import MembraneNorm
from lsgcli.neurons.step import pair_products
from lsgcli.neurons.surrogates import Surrogate

MOMENTUM = 0.1  # of the running averages of measurements, as in tdBN
SUMS = ("measured", "remains", "products")  # buffers with sums of measurements since the last step


class NeuronLayer(Draws):
    """Base of :class:`~lsgcli.neurons.lif.LIF`, whose documentation describes the attributes.

    Attributes:
        measures: whether the layer measures u in training, for running averages of the width rule or of the neuron.
        gather: collects measurements of a batch that is divided among processes.
    """

    config: NeuronConfig
    surrogate: Surrogate
    method: Any
    neuron: Any
    watcher: Any
    membrane: MembraneNorm | None
    measures: bool
    _of_width: tuple[str, ...]
    _of_neuron: tuple[str, ...]
    recomputing = False
    gather: Gather | None = None
    measured: Tensor
    initial: Tensor
    remains: Tensor
    covariance: Tensor
    products: Tensor

    def _keep(self, **tensors: Tensor) -> None:
        """Register parameters, and other tensors as buffers."""
        for name, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(name, tensor)
            else:
                self.register_buffer(name, tensor)

    def _start_sums(self, name: str, *shape: int) -> None:
        """Register sums of measurements, which are not stored."""
        self.register_buffer(name, torch.zeros(shape, dtype=torch.float64), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """As in the base class, but sums of measurements stay float64, for example under ``model.half()``."""
        super()._apply(fn, recurse)
        for name in SUMS:
            if name in self._buffers:
                setattr(self, name, getattr(self, name).double())
        return self

    def of_width(self) -> dict[str, Tensor]:
        """Parameters and buffers of the width rule, by name."""
        return {name: getattr(self, name) for name in self._of_width}

    def of_neuron(self) -> dict[str, Tensor]:
        """Parameters and buffers of the neuron, by name."""
        return {name: getattr(self, name) for name in self._of_neuron}

    @property
    def correlates(self) -> bool:
        """Whether the layer measures the covariance of its currents in training."""
        return "covariance" in self._of_width

    @property
    def is_measuring(self) -> bool:
        """Whether measurements are taken now: in training, once for each batch."""
        return self.training and not self.recomputing

    def _measure_current(self, current: Tensor) -> None:
        """Add the products of a current (T, ...) at pairs of timesteps to their sums.

        Raises:
            ConfigError: it has another number of timesteps.
        """
        if len(current) != len(self.covariance):
            raise ConfigError(
                f"LIF: found {len(current)} timesteps with input_correlation 'measured', expected {len(self.covariance)}, its argument steps"
            )
        self.products += pair_products(current)

    @torch.no_grad()
    def end_step(self, skip: Tensor | None = None) -> None:
        """Update the running averages of what the layer measures in training. Call it once after every optimiser step.

        Args:
            skip: 0-dimensional; if true, the measurements are discarded. Its value is not synchronised with the host.
        """
        if self.measures:
            moments = self._of_all(self.measured)
            whole = moments.sum(1) if moments.dim() > 1 else moments
            for name, value in {**self.method.width.averages(whole), **self.neuron.averages(moments)}.items():
                self._move(getattr(self, name), value, moments[0], skip)
        if self.correlates:
            moments = self._of_all(self.products)  # sums of products of [I, 1] at two timesteps
            n, mean = moments[-1, -1], moments[-1, :-1] / moments[-1, -1]
            self._move(self.covariance, moments[:-1, :-1] / n - mean[:, None] * mean, n, skip)
        if self.config.init_potential == "measured":
            n, total = self._of_all(self.remains)
            self._move(self.initial, total / n, n, skip)

    def _of_all(self, sums: Tensor) -> Tensor:
        """Sums over all processes since the last call; ``sums`` is set to 0."""
        whole = sums.clone() if self.gather is None else self.gather(sums).sum(0)
        sums.zero_()
        return whole

    def _move(self, running: Tensor, measured: Tensor, n: Tensor, skip: Tensor | None) -> None:
        """Update a running average, unless the step is skipped or ``n`` is 0."""
        keep = n == 0 if skip is None else (n == 0) | skip
        running.copy_(torch.where(keep, running, running.lerp(measured.to(running.dtype), MOMENTUM)))
