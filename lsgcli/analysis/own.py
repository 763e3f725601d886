"""Layers of lsg's own neurons, observed inside the backend, which can still fuse tdBN, neurons and pooling.

No tensors are stored beyond those of the backend: the input of a layer is available until its backward pass, when all sums are
computed block by block.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lsgcli.analysis import cpu
from lsgcli.analysis.dynamics import Block, Dynamics, Passage, blocks, cut, laid, part
from lsgcli.analysis.hooks import Layer
from lsgcli.analysis.other import pairs
from lsgcli.analysis.sums import Counted, LayerSums, count, nonzero
from lsgcli.analysis.threads import alone
from lsgcli.analysis.watching import Watcher
from lsgcli.models.base import SpikingNet
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels import Backend, NormParameters, average, single_backward
from lsgcli.neurons.step import LIFParameters


@dataclass(frozen=True)
class OwnLayer(Layer):
    """A layer whose module is a :class:`~lsgcli.neurons.LIF`."""

    def watch(self, sums: LayerSums, *, full: bool) -> Watcher:
        """Start observing the layer."""
        assert isinstance(self.module, LIF)
        return BackendWatcher(self.module, sums, full)


def layers(network: Any) -> Sequence[Layer]:
    """The adapter for lsg's own neurons, in networks of lsg or others."""
    if not isinstance(network, SpikingNet):
        return [OwnLayer(one.name, one.neurons, one.weight, partial(present, one.neurons)) for one in pairs(network, LIF)]
    return [
        OwnLayer(
            one.name,
            one.lif,
            one.synapse.weight,
            partial(present, one.lif),
            gamma=getattr(one.norm, "weight", None),
        )
        for one in network.spiking_layers()
    ]


def present(lif: LIF) -> Dynamics:
    """The dynamics of a layer with its current decay and width."""
    return Dynamics(lif.beta.detach(), lif.threshold, lif.alpha, lif.surrogate)


def dynamics(p: LIFParameters) -> Dynamics:
    """Convert the parameters of lsg's neurons to :class:`Dynamics`."""
    return Dynamics(p.beta.detach(), p.threshold, p.alpha.detach(), p.surrogate)


class BackendWatcher(Watcher):
    """Observes a LIF by wrapping its backend."""

    def __init__(self, lif: LIF, sums: LayerSums, full: bool):
        super().__init__(sums, full)
        self.lif, self.before = lif, lif.backend
        self.unseen: dict[int, Passage] = {}  # without a backward pass so far
        lif.backend = WatchedBackend(lif.implementation, self)

    def finish(self) -> None:
        for passage in self.unseen.values():
            self.count_forward(passage)
        self.unseen.clear()

    def close(self) -> None:
        self.lif.backend = self.before

    def count(self, passage: Passage, grad: Tensor) -> None:
        """Add a forward and backward pass to the sums; ``grad`` is dL/do, or the gradient of averages over windows."""
        del self.unseen[id(passage)]
        self.note(passage.p, passage)

        def counted(block: Block) -> Counted:
            found = count(block, full=True)
            assert found.h is not None
            found.values["du"] = nonzero(membrane_gradient(block, found.h, arriving(grad, block, passage.side)))
            return replace(found, h=None)

        for found in [cpu.count(passage, grad, full=True)] if cpu.fits(passage) else blocks(passage, counted):
            self.sums.take(found)


class WatchedBackend(Backend):
    """A backend that reports to a watcher.

    Args:
        inner: the backend that computes.
        watcher: receives inputs and gradients.
    """

    def __init__(self, inner: Backend, watcher: BackendWatcher):
        self.inner, self.watcher = inner, watcher

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        return self._run(Call(self, None, p, 1), current, None)

    def normalise_and_fire(
        self, z: Tensor, norm: NormParameters | None, p: LIFParameters, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        if norm is None:  # the backend might overwrite its input
            spikes = self(z if residual is None else z + residual, p)
            return spikes if pool == 1 else average(spikes, pool)
        if not norm.training:
            return self._run(Call(self, norm, p, pool), z, residual)
        # With momentum 1, the running statistics of the copy are those of this batch afterwards.
        fresh = norm._replace(running_mean=norm.running_mean.clone(), running_var=norm.running_var.clone(), momentum=1.0)
        out = self._run(Call(self, fresh, p, pool), z, residual)
        norm.running_mean.lerp_(fresh.running_mean, norm.momentum)
        norm.running_var.lerp_(fresh.running_var, norm.momentum)
        return out

    def _run(self, call: "Call", x: Tensor, residual: Tensor | None) -> Tensor:
        watcher, norm = self.watcher, call.norm
        watcher.T = len(x)
        if watcher.full and torch.is_grad_enabled():
            weight, bias = (None, None) if norm is None else (norm.weight, norm.bias)
            return Watched.apply(x, residual, weight, bias, call.p.beta, call)
        out = call.run(x, residual)
        watcher.count_forward(call.passage(x, residual))
        return out


class Call(NamedTuple):
    """One call of a layer."""

    backend: WatchedBackend
    norm: NormParameters | None
    p: LIFParameters
    pool: int

    def run(self, x: Tensor, residual: Tensor | None) -> Tensor:
        """Spikes or their averages."""
        if self.norm is None:
            return self.backend.inner(x, self.p)
        return self.backend.inner.normalise_and_fire(x, self.norm, self.p, residual=residual, pool=self.pool)

    @torch.no_grad()
    def passage(self, x: Tensor, residual: Tensor | None) -> Passage:
        """The input of the layer; call it after :meth:`run`."""
        p, norm = dynamics(self.p), self.norm
        if norm is None:
            return Passage(x.detach(), p)
        scale, _ = self.affine(x)
        more = None if residual is None else residual.detach().expand_as(x)
        return Passage(x.detach(), p, scale, norm.bias - norm.running_mean * scale, more, self.pool)

    def affine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Factor of tdBN on its input, and sqrt(var + eps) of the input; (C,) each."""
        assert self.norm is not None
        var = self.norm.running_var
        if self.norm.training:
            n = self.norm.over_all(x.numel() // x.shape[2])
            var = var * ((n - 1) / n)  # running variances are unbiased
        deviation = (var + self.norm.eps).sqrt()
        return self.norm.weight * self.norm.scale / deviation, deviation


class Watched(torch.autograd.Function):
    """The computation of the backend, with observation of the incoming gradient, or without the recurrence in backward."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None, beta: Tensor, call: Call
    ) -> Tensor:
        given = (x, residual, weight, bias, beta)
        inputs = [
            None if one is None else one.detach().requires_grad_(wanted)
            for one, wanted in zip(given, ctx.needs_input_grad, strict=False)
        ]
        z, more, gamma, mu, decay = inputs
        assert z is not None
        assert decay is not None
        norm = call.norm if gamma is None or mu is None or call.norm is None else call.norm._replace(weight=gamma, bias=mu)
        with torch.enable_grad(), single_backward(False):  # the input is used again in the pass without the recurrence
            out = call._replace(norm=norm, p=call.p._replace(beta=decay)).run(z, more)
        ctx.inputs, ctx.out, ctx.call, ctx.passage = inputs, out, call, call.passage(x, residual)
        call.backend.watcher.unseen[id(ctx.passage)] = ctx.passage
        return out.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        call, watcher = ctx.call, ctx.call.backend.watcher
        if watcher.spatial:
            return *without_recurrence(call, ctx.passage, grad, ctx.needs_input_grad), None, None, None, None
        watcher.count(ctx.passage, grad)
        wanted = [one for one in ctx.inputs if one is not None and one.requires_grad]
        found = dict(zip(map(id, wanted), torch.autograd.grad(ctx.out, wanted, grad, allow_unused=True), strict=True))
        result = [found.get(id(one)) for one in ctx.inputs]
        ctx.inputs = ctx.out = None
        return *result, None


def arriving(grad: Tensor, block: Block, side: int) -> Tensor:
    """dL/do of a block's neurons, from the gradient of averages over windows of side x side."""
    if side == 1:
        return laid(grad)[:, block.samples, block.rows].to(block.u.dtype)
    some = laid(grad)[:, block.samples, block.rows.start // side : block.rows.stop // side].to(block.u.dtype) / side**2
    T, B, rows, columns, channels = some.shape
    spread = some[:, :, :, None, :, None].expand(T, B, rows, side, columns, side, channels)
    spread = spread.reshape(T, B, rows * side, columns * side, channels)
    # If the window does not divide the image, neurons at its edge belong to no average.
    return F.pad(spread, (0, 0, 0, block.u.shape[3] - columns * side, 0, block.u.shape[2] - rows * side))


def membrane_gradient(block: Block, h: Tensor, g: Tensor) -> Tensor:
    """dL/du of lsg's neurons, (T, ...): du[t] = (g[t] - beta u[t] du[t+1]) h[t] + beta (1 - o[t]) du[t+1]; du[T+1] = 0."""
    u, o, du = block.u, block.o, torch.empty_like(h)
    torch.mul(g[-1], h[-1], out=du[-1])
    for t in range(len(du) - 2, -1, -1):
        carried = block.p.decay * du[t + 1]
        do = torch.addcmul(g[t], carried, u[t], value=-1)
        torch.addcmul(carried.addcmul_(carried, o[t], value=-1), do, h[t], out=du[t])
    return du


@torch.no_grad()
def without_recurrence(
    call: Call, passage: Passage, grad: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of x and of the residual with dL/du[t] = dL/do[t] h[t]."""
    x = passage.x
    assert isinstance(x, Tensor)
    d_x = torch.empty_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
    room, norm = laid(d_x), call.norm
    mean = (
        norm.running_mean if norm is not None and norm.training else None
    )  # in training, the gradient also flows through the mean

    def write(block: Block) -> Tensor:
        """Sums of du and du (x - mean) per channel, if required."""
        h = passage.p.surrogate(block.u - passage.p.threshold, block.p.width)
        du = torch.mul(arriving(grad, block, passage.side), h, out=h)
        room[:, block.samples, block.rows] = du
        if mean is None:
            return du.new_zeros(2, 1, dtype=torch.float64)
        deviation = part(x, block.samples, block.rows).to(du.dtype) - mean
        return torch.stack([one.flatten(0, -2).sum(0).double() for one in (du, deviation.mul_(du))])

    total = sum(blocks(passage, write), torch.zeros(2, 1, dtype=torch.float64, device=x.device))
    d_residual = d_x.to(x.dtype, copy=True) if wanted[1] else None
    if norm is None or passage.scale is None:
        return d_x.to(x.dtype), d_residual
    scale, deviation = call.affine(x)
    n = x.numel() / x.shape[2]
    slope = (-scale / deviation**2 * total[1] / n).to(d_x.dtype)
    offset = (-scale * total[0] / n).to(d_x.dtype) - slope * (0 if mean is None else mean)

    def scaled(where: tuple[slice, slice]) -> None:
        some = room[:, *where].mul_(scale)
        if mean is not None:
            some.addcmul_(part(x, *where).to(some.dtype), slope).add_(offset)

    list(alone(scaled, cut(room.shape)))
    return d_x.to(x.dtype), d_residual
