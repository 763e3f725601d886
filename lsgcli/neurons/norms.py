"""Threshold-dependent batch normalisation (tdBN), and other normalisations of currents.

Per channel, with statistics over T, B and all positions:

    I_hat = eta * v_th * (I - mean) / sqrt(var + eps);    I_bar = gamma * I_hat + mu

gamma (``weight``) is initialised to 1 and mu (``bias``) to 0, so the initial standard deviation of the output is eta * v_th.
If two branches are summed before a neuron, eta = 1/sqrt(2) in each preserves the variance of the sum.

During the first 1/momentum batches, the running statistics are the averages over all batches so far; after that, each batch updates them with
weight ``momentum``. With this weight from the start, as in ``torch.nn.BatchNorm``, they would contain 0.9^n of their initial values, 0 and 1,
after n batches: after ten batches, deep layers hardly fire in evaluation.

Source: Zheng et al., "Going Deeper With Directly-Trained Larger Spiking Neural Networks", AAAI 2021.
"""

from typing import Any

import torch
from torch import Tensor, nn

from lsgcli.errors import ConfigError
from lsgcli.neurons.kernels.base import Gather, NormParameters, is_tracing, normalise
from lsgcli.registry import register


class TdBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Base of the normalisations; parameters and buffers as in ``torch.nn.BatchNorm``.

    Attributes:
        gather: collects the statistics of a batch that is divided among processes; None for a single process.
        recomputing: set while activations are recomputed; the running statistics are then not updated again.
        warm: whether every batch has the weight ``momentum`` from now on, regardless of ``num_batches_tracked``.
    """

    dimensions: int | None
    shape: str
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, num_features: int, threshold: float = 0.5, eta: float = 1.0, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.threshold = float(threshold)
        self.eta = float(eta)
        self.gather: Gather | None = None
        self.recomputing = self.warm = False

    def forward(self, input: Tensor) -> Tensor:
        """Normalised input, of the same shape; errors as for :meth:`parameters_for`."""
        return normalise(input, self.parameters_for(input))

    def parameters_for(self, input: Tensor) -> NormParameters:
        """Parameters with which a backend normalises ``input``; in training, counts the batch in ``num_batches_tracked``.

        Raises:
            ConfigError: wrong number of dimensions or channels, or, in training, only one value per channel.
        """
        if self.dimensions not in (input.dim(), None) or input.dim() < 3 or input.shape[2] != self.num_features:
            raise ConfigError(
                f"{type(self).__name__}: found an input of shape {tuple(input.shape)}, expected {self.shape} with C = {self.num_features}"
            )
        if self.training and self.gather is None and input.numel() == self.num_features:
            raise ConfigError(
                f"{type(self).__name__}: found one value per channel in shape {tuple(input.shape)}, expected at least two in training",
                hint="Batch statistics need at least two values: use a larger --batch-size, fewer parts (--accumulate), or more timesteps (-T).",
            )
        return NormParameters(
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=self._count_batch(input) if self.training and not self.recomputing else 0.0,
            eps=self.eps,
            scale=self.scale,
            gather=self.gather,
        )

    def _count_batch(self, input: Tensor) -> float:
        """Count a batch; returns its weight in the running statistics: 1/n for the nth, at least ``momentum``."""
        self.num_batches_tracked.add_(1)
        if self.warm or input.is_meta or is_tracing(input):  # a compiled graph has one momentum
            return self.momentum
        batches = int(self.num_batches_tracked)  # waits for the device, but only in the first batches
        self.warm = batches * self.momentum >= 1
        return max(self.momentum, 1 / batches)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self.warm = False
        super()._load_from_state_dict(*arguments)

    def folded(self) -> nn.Module:
        """The module that replaces the normalisation when it is folded into the preceding convolution."""
        return nn.Identity()

    @property
    def scale(self) -> float:
        """eta * v_th: the standard deviation of the output for gamma = 1."""
        return self.eta * self.threshold

    def extra_repr(self) -> str:
        """Settings of the layer."""
        return f"{self.num_features}, threshold={self.threshold}, eta={self.eta:.4g}"


class TdBatchNorm2d(TdBatchNorm):
    """tdBN of (T, B, C, H, W).

    Args:
        num_features: C.
        threshold: v_th of the neurons that follow.
        eta: 1, or 1/sqrt(2) if two branches are summed.
        eps: added to the variance.
        momentum: weight of a batch in the running statistics, after the first 1/momentum.
    """

    dimensions = 5
    shape = "(T, B, C, H, W)"


class TdBatchNorm1d(TdBatchNorm):
    """tdBN of (T, B, C); arguments as for :class:`TdBatchNorm2d`."""

    dimensions = 3
    shape = "(T, B, C)"


class MembraneNorm(TdBatchNorm):
    """MPBN: batch normalisation of u[t], (B, C, ...), with the statistics of each timestep and running statistics common to all.

    Source: Guo et al., "Membrane Potential Batch Normalization for Spiking Neural Networks", ICCV 2023.

    Args:
        num_features: C.
    """

    dimensions = None
    shape = "(1, B, C, ...)"

    def __init__(self, num_features: int):
        super().__init__(num_features, threshold=1.0)

    def forward(self, input: Tensor) -> Tensor:
        """Normalised potentials, of the same shape."""
        return super().forward(input[None])[0]

    @torch.no_grad()
    def firing(self, v_th: float) -> tuple[Tensor, Tensor]:
        """Threshold and sign s, (C,) each, with which s u >= threshold is equivalent to BN(u) >= v_th in evaluation."""
        deviation = (self.running_var.double() + self.eps).sqrt()
        sign = torch.where(self.weight < 0, -1.0, 1.0).double()
        threshold = sign * (self.running_mean.double() + (v_th - self.bias.double()) * deviation / self.weight.double())
        always = torch.where(
            self.bias >= v_th, -torch.inf, torch.inf
        ).double()  # with weight 0, u has no influence: neurons fire always or never
        threshold = torch.where(self.weight == 0, always, threshold)
        return threshold.to(self.weight.dtype), sign.to(self.weight.dtype)


class TimeScale(nn.Module):
    """A learned factor p[t] on the current (T, B, C, H, W) at each timestep, initially 1.

    Args:
        p: the factors, (T,).
    """

    def __init__(self, p: nn.Parameter):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x times p, of the type of x.

        Raises:
            ConfigError: x has another number of timesteps.
        """
        if len(x) != len(self.p):
            raise ConfigError(
                f"TEBN: found {len(x)} timesteps, expected {len(self.p)}, the number of its factors",
                hint="Use the T of the training.",
            )
        return (x * self.p.reshape(-1, *(1,) * (x.dim() - 1))).to(x.dtype)


class TemporalBatchNorm2d(TdBatchNorm2d):
    """TEBN of (T, B, C, H, W): p[t] times the batch normalisation with statistics over T, B, H, W.

    Source: Duan et al., "Temporal Effective Batch Normalization in Spiking Neural Networks", NeurIPS 2022.

    Args:
        num_features: C.
        steps: T.
    """

    def __init__(self, num_features: int, steps: int):
        super().__init__(num_features, threshold=1.0)
        self.p = nn.Parameter(torch.ones(steps))

    def forward(self, input: Tensor) -> Tensor:
        """Normalised input, of its shape."""
        return self.folded()(super().forward(input))

    def folded(self) -> nn.Module:
        """The factors, as a module whose parameter has the same name."""
        return TimeScale(self.p)


class StepBatchNorm2d(TdBatchNorm2d):
    """Batch normalisation of (T, B, C, H, W) with separate statistics for each timestep, each of which updates the common running statistics.

    Args:
        num_features: C.
    """

    def __init__(self, num_features: int):
        super().__init__(num_features, threshold=1.0)

    def forward(self, input: Tensor) -> Tensor:
        """Normalised input, of its shape."""
        whole = super().forward
        return torch.cat([whole(step[None]) for step in input]) if self.training else whole(input)


# Functions of C, v_th, eta and T that return a module of (T, B, C, H, W).


@register("norm", "tdbn")
def tdbn(channels: int, threshold: float, eta: float, steps: int) -> nn.Module:
    """Threshold-dependent batch normalisation: standard deviation v_th, and v_th/sqrt(2) in each of two branches that are summed."""
    return TdBatchNorm2d(channels, threshold=threshold, eta=eta)


@register("norm", "none")
def none(channels: int, threshold: float, eta: float, steps: int) -> nn.Module:
    """No normalisation; convolutions have biases, and ``--init`` chooses the initial weights."""
    return nn.Identity()


@register("norm", "bn")
def bn(channels: int, threshold: float, eta: float, steps: int) -> nn.Module:
    """Batch normalisation with statistics over T, B, H, W: standard deviation 1, whatever the threshold."""
    return TdBatchNorm2d(channels, threshold=1.0)


@register("norm", "bn-step")
def bn_step(channels: int, threshold: float, eta: float, steps: int) -> nn.Module:
    """As ``bn``, with the statistics of each timestep in training; running statistics and weights are common to all timesteps."""
    return StepBatchNorm2d(channels)


@register("norm", "tebn")
def tebn(channels: int, threshold: float, eta: float, steps: int) -> nn.Module:
    """Temporal effective batch normalisation: ``bn`` times a learned factor per timestep, which fixes T."""
    return TemporalBatchNorm2d(channels, steps)


@register("norm", "mpbn")
def mpbn(channels: int, threshold: float, eta: float, steps: int) -> nn.Module:
    """``bn``, and a second batch normalisation of the membrane potential before the threshold; the reset applies to u itself."""
    return TdBatchNorm2d(channels, threshold=1.0)
