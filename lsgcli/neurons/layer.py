"""The parameters of a layer of neurons, its width, and what it measures in training; :mod:`lsgcli.neurons.lif` computes with them.

Models of neurons receive the layer as this class, so that they do not depend on the layer that uses them.

Random numbers of layers in training are functions of seed, epoch, sample, layer and position, like those of ``lsgcli.data.random``. They do
not depend on the device, on how a batch is divided, or on the step at which a run is resumed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lsgcli.config.neuron import NeuronConfig
from lsgcli.errors import ConfigError
from lsgcli.neurons.kernels.base import Gather
from lsgcli.neurons.norms import MembraneNorm
from lsgcli.neurons.step import like, pair_products
from lsgcli.neurons.surrogates import Surrogate
from lsgcli.neurons.widths import LayerState

MOMENTUM = 0.1  # of the running averages of measurements, as in tdBN
SUMS = ("measured", "remains", "products")  # buffers with sums of measurements since the last step


def _signed(number: int) -> int:
    """The lowest 64 bits of a number as torch's int64, whose arithmetic wraps around."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


GAMMA = _signed(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
FIRST = _signed(0xBF58476D1CE4E5B9)
SECOND = _signed(0x94D049BB133111EB)


class Draws(nn.Module):
    """Base of layers that may draw random numbers in training.

    Attributes:
        samples: (B,) int64, a random number of this layer for each sample; None: numbers are drawn from torch's generator.
    """

    samples: Tensor | None = None

    @property
    def draws(self) -> bool:
        """Whether the layer draws random numbers in training."""
        raise NotImplementedError

    def uniforms(self, x: Tensor, t: int = 0) -> Tensor:
        """Numbers in [0, 1) of the shape of x (B, ...), different for each ``t``, in float32 if x has fewer bits."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        if self.samples is None:
            return torch.rand_like(x, dtype=dtype)
        n = x.shape[1:].numel()
        position = torch.arange(t * n + 1, (t + 1) * n + 1, device=x.device)
        bits = mixed(self.samples[:, None] + position * GAMMA)
        return ((bits >> 40) & 0xFFFFFF).to(dtype).mul_(2.0**-24).view(x.shape)

    def dropped(self, x: Tensor, p: float, t: int = 0) -> Tensor:
        """x (T, B, ...) with elements set to 0 with probability p, the same at all timesteps, and the others divided by 1 - p.

        ``t`` as for :meth:`uniforms`.
        """
        return x * ((self.uniforms(x[0], t) >= p).to(x.dtype) / (1 - p))


@contextmanager
def drawing(net: nn.Module, samples: Tensor | None) -> Iterator[None]:
    """Context for a forward and backward pass in which the layers of ``net`` draw random numbers for these samples.

    Args:
        samples: (B,) int64, a random number for each sample, as :func:`lsgcli.data.random.numbers`; None for torch's generator.
    """
    layers = [module for module in net.modules() if isinstance(module, Draws) and module.draws]
    for index, layer in enumerate(layers, start=1):
        layer.samples = None if samples is None else mixed(samples + _signed(index * GAMMA))
    try:
        yield
    finally:
        for layer in layers:
            layer.samples = None


def mixed(z: Tensor) -> Tensor:
    """The finaliser of SplitMix64, elementwise on int64; see ``lsgcli.data.random``."""
    z = (z ^ _shifted(z, 30)) * FIRST
    z = (z ^ _shifted(z, 27)) * SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    """Logical right shift of z, (...) int64."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def detached(threshold: float | Tensor) -> float | Tensor:
    """A threshold without gradient."""
    return threshold.detach() if isinstance(threshold, Tensor) else threshold


class NeuronLayer(Draws):
    """Base of :class:`~lsgcli.neurons.lif.LIF`, whose documentation describes the attributes.

    Attributes:
        measures_u: whether the layer measures u in training, for running averages of the width rule or of the neuron.
        starts: whether the first timestep starts from a measured potential.
        gather: collects measurements of a batch that is divided among processes.
        momentum: of the running averages.
    """

    config: NeuronConfig
    surrogate: Surrogate
    method: Any
    neuron: Any
    watcher: Any
    membrane: MembraneNorm | None
    measures_u: bool
    learns_threshold: bool
    starts: bool
    b: Tensor
    q: Tensor
    _norm: tuple[nn.Module, ...]
    _of_width: tuple[str, ...]
    _of_neuron: tuple[str, ...]
    recomputing = False
    momentum = MOMENTUM
    gather: Gather | None = None
    measured: Tensor
    initial: Tensor
    remains: Tensor
    covariance: Tensor
    sigma: Tensor
    ratio: Tensor
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
    def beta(self) -> Tensor:
        """Decay per timestep, () or (C,), differentiable with respect to b."""
        return self.b.sigmoid()

    @property
    def threshold(self) -> float | Tensor:
        """v_th; if it is learned, (), differentiable with respect to q."""
        return F.softplus(self.q) if self.learns_threshold else self.config.threshold

    @property
    def thresholds(self) -> float | Tensor:
        """v_th of the timesteps, () or (T,): :attr:`threshold`, unless the neuron has its own at each timestep."""
        return self.neuron.thresholds(SimpleNamespace(threshold=self.threshold, **self.of_neuron()))

    @property
    def alpha(self) -> Tensor:
        """Current width of the surrogate, () or (C,), without gradient; the width of the second timestep if timesteps differ."""
        return self._alpha(2)[-1]

    def _alpha(self, T: int) -> Tensor:
        """Width for T timesteps, (T or 1,) or (T or 1, C)."""
        beta = self.beta.detach()
        width = beta.new_full((), self.config.width)
        gamma = beta.new_ones(())
        if self._norm and isinstance(weight := getattr(self._norm[0], "weight", None), Tensor):
            gamma = weight.detach().mean()
        own = {name: tensor.detach() for name, tensor in self.of_width().items()}
        layer = LayerState(T, detached(self.threshold), beta, width, gamma, own, self.surrogate)
        if self.method.width.correlated:
            values = SimpleNamespace(beta=beta, **{name: tensor.detach() for name, tensor in self.of_neuron().items()})
            std = self._std() if self.config.input_gain == "1" else self._std() * (1 - beta)
            layer = layer._replace(std=std, response=self.neuron.response(values, T))
        alpha = like(self.method.width.alpha(layer), beta)
        return alpha if alpha.dim() > beta.dim() else alpha[None]

    def _std(self) -> float:
        """Standard deviation of the current as its normalisation, if any, leaves it at the start of training."""
        return float(getattr(self._norm[0], "threshold", self.config.threshold)) if self._norm else self.config.threshold

    def check_width(self, T: int = 1) -> None:
        """Check that the width is a positive finite number, per layer or per channel, at each of T timesteps.

        Raises:
            ConfigError: it is not.
        """
        if self.b.is_meta:
            return
        alpha = self._alpha(T)
        of_layer = self.b.shape
        fits = alpha.shape in ((1,), (1, *of_layer), (T, *of_layer))
        if not fits or not bool(((alpha > 0) & alpha.isfinite()).all()):
            raise ConfigError(
                f"method {self.config.method}: found the width alpha {alpha.flatten().tolist()[:4]}, of shape {tuple(alpha.shape)} with an axis "
                f"for the timesteps, expected finite numbers above 0, one or {(T, *of_layer)}"
            )

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
        if self.measures_u:
            moments = self._of_all(self.measured)
            whole = moments.sum(1) if moments.dim() > 1 else moments
            for name, value in {**self.method.width.averages(whole), **self.neuron.averages(moments)}.items():
                self._move(getattr(self, name), value, moments[0], skip)
        if self.correlates:
            moments = self._of_all(self.products)  # sums of products of [I, 1] at two timesteps
            n = moments[-1, -1]
            mean = moments[-1, :-1] / moments[-1, -1]
            self._move(self.covariance, moments[:-1, :-1] / n - mean[:, None] * mean, n, skip)
        if self.starts:
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
        running.copy_(torch.where(keep, running, running.lerp(measured.to(running.dtype), self.momentum)))
