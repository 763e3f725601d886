"""The leaky integrate-and-fire neuron: a pure step, and a module that runs it over a sequence.

    u[t] = beta * u[t-1] * (1 - o[t-1]) + I[t]        u[0] = o[0] = 0 before the first step
    o[t] = 1 if u[t] >= v_th else 0

Backward, the step function's derivative is replaced by a surrogate h of width alpha, and the reset is not detached:

    do[t] = g[t]          - beta * u[t] * du[t+1]
    du[t] = do[t] * h[t]  + beta * (1 - o[t]) * du[t+1]
    dbeta = sum over t and neurons of du[t] * u[t-1] * (1 - o[t-1])

Source: Lian et al., "Learnable Surrogate Gradient for Direct Training Spiking Neural Networks", IJCAI 2023,
doi 10.24963/ijcai.2023/335, section 3.
"""

import math

import torch
from torch import Tensor, nn

from lsgcli import registry
from lsgcli.config import check
from lsgcli.errors import ConfigError
from lsgcli.neurons.kernels import Backend, NormParameters
from lsgcli.neurons.step import LIFParameters
from lsgcli.neurons.surrogates import Surrogate


class LIF(nn.Module):
    """A layer of LIF neurons over a whole sequence, (T, ...) currents to (T, ...) spikes of the same type.

    Args:
        decay: beta, or its start where the method learns it; in (0, 1).
        threshold: v_th, greater than 0.
        method: ``none``, ``trainable-decay``, ``lsg``, or any registered method.
        width: alpha where the method keeps it fixed, in units of u.
        surrogate: the shape of h, by name.
        backend: which implementation runs the sequence; ``auto`` picks the fastest that can.

    Attributes:
        b: beta = sigmoid(b); a parameter where the decay is learned, else a buffer.

    Raises:
        ConfigError: an unknown name, or a value out of its range.
    """

    def __init__(
        self,
        decay: float = 0.2,
        threshold: float = 0.5,
        method: str = "none",
        width: float = 1.0,
        surrogate: str = "rectangular",
        backend: str = "auto",
    ):
        super().__init__()
        given = {
            "decay": decay,
            "threshold": threshold,
            "method": method,
            "width": width,
            "surrogate": surrogate,
            "backend": backend,
        }
        if problems := check(given):
            raise ConfigError("\n".join(problems))
        self.threshold = float(threshold)
        self.method_name, self.surrogate_name, self.backend = method, surrogate, backend
        self.method = registry.get("method", method)(self.threshold, float(width))
        self.surrogate: Surrogate = registry.get("surrogate", surrogate)
        b = torch.tensor(math.log(decay / (1 - decay)))
        if self.method.learns_decay:
            self.b = nn.Parameter(b)
        else:
            self.register_buffer("b", b)

    @property
    def beta(self) -> Tensor:
        """Decay per timestep, 0-dimensional; carries b's gradient."""
        return self.b.sigmoid()

    @property
    def alpha(self) -> Tensor:
        """Width of the surrogate at the current decay; carries no gradient."""
        return self.method.alpha(self.beta.detach())

    def parameters_now(self) -> LIFParameters:
        """The parameters of :func:`step` at the current weights."""
        return LIFParameters(self.beta, self.alpha, self.threshold, self.surrogate)

    def forward(self, current: Tensor, *, overwrite: bool = False) -> Tensor:
        """Spikes (T, ...) of the type of ``current`` (T, ...).

        Args:
            current: I, time first.
            overwrite: allow the backend to use the memory of ``current``, whose values are then lost. Only for a tensor that
                nobody, autograd included, reads again.
        """
        _check_time(current)
        return self._run(current, self.parameters_now(), overwrite)

    def behind(self, norm: NormParameters | None, z: Tensor, *, addend: Tensor | None = None, pool: int = 1) -> Tensor:
        """Averages, over ``pool`` x ``pool`` positions, of the spikes of the current tdBN(z) + addend; without hooks.

        Arguments and result are those of :meth:`lsgcli.neurons.kernels.Backend.normalised`.
        """
        _check_time(z)
        return self._run.normalised(z, norm, self.parameters_now(), addend=addend, pool=pool)

    @property
    def _run(self) -> Backend:
        return registry.get("backend", self.backend)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """The layer's settings and current decay and width."""
        return (
            f"method={self.method_name}, beta={self.beta.item():.3f}, alpha={self.alpha.item():.3f}, "
            f"threshold={self.threshold}, surrogate={self.surrogate_name}, backend={self.backend}"
        )


def _check_time(current: Tensor) -> None:
    if current.dim() == 0 or current.shape[0] == 0:
        raise ConfigError(f"LIF: found a current of shape {tuple(current.shape)}, expected (T, ...) with at least one timestep")
