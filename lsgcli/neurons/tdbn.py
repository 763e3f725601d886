"""Threshold-dependent batch normalisation (tdBN).

Per channel, with statistics over T, B and all positions:

    I_hat = eta * v_th * (I - mean) / sqrt(var + eps);    I_bar = gamma * I_hat + mu

gamma (``weight``) is initialised to 1 and mu (``bias``) to 0, so the initial standard deviation of the output is eta * v_th.
If two branches are summed before a neuron, eta = 1/sqrt(2) in each preserves the variance of the sum.

Source: Zheng et al., "Going Deeper With Directly-Trained Larger Spiking Neural Networks", AAAI 2021.
"""

from torch import Tensor, nn

from lsgcli.errors import ConfigError
from lsgcli.neurons.kernels import NormParameters, normalise
from lsgcli.neurons.kernels.synchronised import Gather


class _TdBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Base class; parameters, buffers and running statistics as in ``torch.nn.BatchNorm``."""

    dimensions: int
    shape: str

    def __init__(self, num_features: int, threshold: float = 0.5, eta: float = 1.0, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.threshold = float(threshold)
        self.eta = float(eta)
        self.gather: Gather | None = None  # of the statistics of a batch that is divided among processes
        self.recomputing = False  # while activations are recomputed: no update of running statistics

    def forward(self, input: Tensor) -> Tensor:
        """Normalised input, of its shape; errors as for :meth:`parameters_for`."""
        return normalise(input, self.parameters_for(input))

    def parameters_for(self, input: Tensor) -> NormParameters:
        """Parameters with which a backend normalises ``input``; in training, counts the batch in ``num_batches_tracked``.

        Raises:
            ConfigError: wrong number of dimensions or channels, or, in training, only one value per channel.
        """
        if input.dim() != self.dimensions or input.shape[2] != self.num_features:
            raise ConfigError(
                f"{type(self).__name__}: found an input of shape {tuple(input.shape)}, expected {self.shape} with C = {self.num_features}"
            )
        if self.training and self.gather is None and input[:, :, 0].numel() == 1:
            raise ConfigError(
                f"{type(self).__name__}: found one value per channel in shape {tuple(input.shape)}, expected at least two in training",
                hint="Batch statistics need at least two values: use a larger --batch-size, fewer parts (--accumulate), or more timesteps (-T).",
            )
        if self.training and not self.recomputing and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        assert self.running_mean is not None
        assert self.running_var is not None
        return NormParameters(
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            training=self.training,
            momentum=0.0 if self.recomputing else self.momentum or 0.0,
            eps=self.eps,
            scale=self.scale,
            gather=self.gather,
        )

    @property
    def scale(self) -> float:
        """eta * v_th: the standard deviation of the output for gamma = 1."""
        return self.eta * self.threshold

    def extra_repr(self) -> str:
        """Settings of the layer."""
        return f"{self.num_features}, threshold={self.threshold}, eta={self.eta:.4g}"


class TdBatchNorm2d(_TdBatchNorm):
    """tdBN of (T, B, C, H, W).

    Args:
        num_features: C.
        threshold: v_th of the neurons that follow.
        eta: 1, or 1/sqrt(2) if two branches are summed.
        eps: added to the variance.
        momentum: weight of a batch in the running statistics.
    """

    dimensions, shape = 5, "(T, B, C, H, W)"


class TdBatchNorm1d(_TdBatchNorm):
    """tdBN of (T, B, C); arguments as for :class:`TdBatchNorm2d`."""

    dimensions, shape = 3, "(T, B, C)"
