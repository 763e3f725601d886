"""Layers of lsg's own neurons, observed inside the backend, which can still fuse tdBN, neurons and pooling.

No tensors are stored except by the backend: the input of a layer is available until its backward pass, when all sums are
computed block by block.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lsgcli.analysis.dynamics import Block, Dynamics, LayerInput, blocks, heights, laid, one_thread
from lsgcli.analysis.sums import LayerSums
from lsgcli.analysis.watch.guard import Guard
from lsgcli.analysis.watchers import Layer, Watcher, pairs
from lsgcli.models.base import SpikingNet
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels.base import Backend, NormParameters, average, normalise, single_backward
from lsgcli.neurons.kernels.cpu.job import FIRED, SILENT, SUMS, Layout, image_layout
from lsgcli.neurons.kernels.fused import fused
from lsgcli.neurons.kernels.reference import reference
from lsgcli.neurons.layer import detached
from lsgcli.neurons.step import LIFParameters, like, number
from lsgcli.neurons.unrolled import Fired


@dataclass(frozen=True)
class OwnLayer(Layer):
    """A layer whose module is a :class:`~lsgcli.neurons.LIF`."""

    module: LIF

    def watch(self, *, full: bool, guard: Guard | None = None) -> Watcher:
        """Start observing the layer, of a script through a guard."""
        return (StepWatcher if self.module.unrolled else BackendWatcher)(self, full, guard)


def layers(network: Any) -> Sequence[Layer]:
    """The adapter for lsg's own neurons, in networks of lsg or others."""
    if not isinstance(network, SpikingNet):
        return [own_layer(*pair) for pair in pairs(network, LIF)]
    return [
        own_layer(layer.name, layer.lif, layer.synapse.weight, getattr(layer.norm, "weight", None))
        for layer in network.spiking_layers()
    ]


def own_layer(name: str, lif: LIF, weight: Tensor, gamma: Tensor | None = None) -> OwnLayer:
    """A layer of lsg's neurons, with its current dynamics."""
    return OwnLayer(name, lif, weight, partial(present, lif), gamma=gamma)


def present(lif: LIF) -> Dynamics:
    """The dynamics of a layer with its current decay and width."""
    config = lif.config
    return Dynamics(
        lif.beta.detach(), number(lif.threshold), lif.alpha, lif.surrogate, config.reset, detach=config.detach_reset
    )


class OwnWatcher(Watcher):
    """A watcher of a LIF, which is not stored or copied with it.

    Args:
        guard: of the script that is observed; None in lsg's own analysis, in which errors are raised.
    """

    def __init__(self, layer: OwnLayer, full: bool, guard: Guard | None):
        super().__init__(layer, full)
        self.guard = guard

    def __reduce__(self) -> Any:
        return type(None), ()

    def observes(self) -> bool:
        """Whether the layer's calls may be observed now."""
        return self.guard is None or self.guard.is_open()

    def run(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call an observing function."""
        if self.guard is None:
            function(*arguments)
        else:
            self.guard.observe(self.layer.name, function, *arguments)


class BackendWatcher(OwnWatcher):
    """Observes a LIF by wrapping its backend."""

    def __init__(self, layer: OwnLayer, full: bool, guard: Guard | None):
        super().__init__(layer, full, guard)
        self.lif = layer.module
        self.before = layer.module.backend
        self.unseen: dict[int, LayerInput] = {}  # calls without a backward pass so far
        self.lif.backend = WatchedBackend(self.lif.implementation, self)

    def follow(
        self, x: Tensor, residual: Tensor | None, norm: NormParameters | None, p: LIFParameters, pool: int, out: Tensor
    ) -> None:
        """Observe a call of a script, and its gradient by a hook of the graph, which stays as it is."""
        given = _layer_input(x, residual, norm, p, pool)
        if out.grad_fn is None:
            count(self.sums, given, full=self.full)
            return
        self.unseen[id(given)] = given
        index = out.output_nr
        hook = self.guard.hook(self.layer.name, lambda grads: self.receive(given, grads[index]))  # type: ignore[union-attr]
        out.grad_fn.register_prehook(hook)

    def receive(self, given: LayerInput, grad: Tensor) -> None:
        """The gradient of a call arrives."""
        self.unseen.pop(id(given), None)
        self.sums.add_gradient(grad, side=given.side)
        count(self.sums, given, grad, full=True)

    def end_batch(self) -> None:
        for given in self.unseen.values():
            count(self.sums, given, full=self.full)
        self.unseen.clear()

    def close(self) -> None:
        self.lif.backend = self.before


class StepWatcher(OwnWatcher):
    """Observes a LIF that runs timestep by timestep, as the watcher of :class:`~lsgcli.neurons.unrolled.OfLayer`."""

    def __init__(self, layer: OwnLayer, full: bool, guard: Guard | None):
        super().__init__(layer, full, guard)
        self.lif = layer.module
        self.lif.watcher = self

    def sees(self, t: int, u: Tensor) -> Tensor:
        if self.full and u.requires_grad and self.observes():
            u.register_hook(lambda grad: self.run(self._through, t, grad))
        return u

    def carries(self, state: Tensor) -> Tensor:
        if self.full and state.requires_grad and self.guard is None:
            state = state.view_as(state)  # excludes gradients of the layer's output
            state.register_hook(lambda grad: torch.zeros_like(grad) if self.spatial else None)
        return state

    def ends(self, current: Tensor, fired: list[Fired], out: Tensor, p: LIFParameters) -> None:
        if not self.observes():
            return
        if self.full and out.requires_grad:
            out.register_hook(lambda grad: self.run(self._arrives, grad))
        self.run(self._count, current.detach(), fired, p)

    def _count(self, current: Tensor, fired: list[Fired], p: LIFParameters) -> None:
        u = torch.stack([step.u for step in fired])
        threshold = torch.stack([like(step.threshold, u).detach().expand_as(step.u) for step in fired])
        width = torch.stack([step.alpha.detach().expand_as(step.u) for step in fired])
        self.T = len(current)
        self.calls += 1
        dynamics = Dynamics(p.beta.detach(), threshold.mean(), width, p.surrogate)
        self.sums.begin(LayerInput(current, dynamics))
        parts = dynamics._replace(threshold=laid(threshold), width=laid(width))
        with torch.no_grad():
            o = (u >= threshold).to(u.dtype)
            self.sums.count(Block(slice(None), laid(current), laid(u), laid(o), parts), full=self.full)

    def _arrives(self, grad: Tensor) -> None:
        if not self.spatial:
            self.sums.add_gradient(grad)

    def _through(self, t: int, grad: Tensor) -> None:
        if not self.spatial:
            self.sums.add_membrane_gradient(grad[None], t)

    def close(self) -> None:
        self.lif.watcher = None


class WatchedBackend(Backend):
    """A backend that reports to a watcher.

    Args:
        inner: the backend that computes.
        watcher: receives inputs and gradients.
    """

    def __init__(self, inner: Backend, watcher: BackendWatcher):
        self.inner = inner
        self.watcher = watcher

    def __reduce__(self) -> Any:
        before = self.watcher.before  # so that a copy, or a stored module, has the backend alone
        return (str, (before,)) if isinstance(before, str) else (copy, (before,))

    def __call__(self, current: Tensor, p: LIFParameters, overwrite: bool = False) -> Tensor:
        return self._run(current, None, None, p)

    def normalise_and_fire(
        self, z: Tensor, norm: NormParameters | None, p: LIFParameters, *, residual: Tensor | None = None, pool: int = 1
    ) -> Tensor:
        if norm is None:  # the backend might overwrite its input
            spikes = self(z if residual is None else z + residual, p)
            return spikes if pool == 1 else average(spikes, pool)
        with norm.of_batch() as batch:
            return self._run(z, residual, batch, p, pool)

    def _run(self, x: Tensor, residual: Tensor | None, norm: NormParameters | None, p: LIFParameters, pool: int = 1) -> Tensor:
        watcher = self.watcher
        watcher.T = len(x)
        watcher.calls += 1
        run = self.inner if norm is None else partial(self.inner.normalise_and_fire, norm=norm, residual=residual, pool=pool)
        if watcher.guard is not None:
            out = run(x, p=p)
            if watcher.guard.is_open():
                watcher.run(watcher.follow, x, residual, norm, p, pool, out)
            return out
        if not (watcher.full and torch.is_grad_enabled()):
            out = run(x, p=p)
            count(watcher.sums, _layer_input(x, residual, norm, p, pool), full=watcher.full)
            return out
        with single_backward(False):  # a second backward pass, without the recurrence, follows
            out = run(x, p=p)
        given = _layer_input(x, residual, norm, p, pool)
        watcher.unseen[id(given)] = given
        return Watched.apply(x, residual, out, (watcher, given, norm))


class Watched(torch.autograd.Function):
    """Identity on the output of a call, whose backward pass observes the gradient.

    It passes the gradient on to the output, and so to the backend. In a pass without the recurrence it computes those of x and of the
    residual itself, and passes none on.

    ``call`` is the watcher of the layer, its input, and its normalisation, if any.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        out: Tensor,
        call: tuple[BackendWatcher, LayerInput, NormParameters | None],
    ) -> Tensor:
        ctx.call = call
        return out.view_as(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        watcher, given, norm = ctx.call
        if watcher.spatial:
            return *without_recurrence(given, norm, grad), None, None
        watcher.receive(given, grad)
        return None, None, grad, None


def without_recurrence(given: LayerInput, norm: NormParameters | None, grad: Tensor) -> tuple[Tensor, Tensor | None]:
    """Gradients of x and of the residual with dL/du[t] = dL/do[t] h[t]."""
    x = given.x
    du = heights(given)
    room = laid(du)
    room *= arriving(laid(grad), room, given.side)
    if norm is None:
        return du.to(x.dtype), None
    with torch.enable_grad():
        leaf = x.detach().to(du.dtype).requires_grad_()
        current = normalise(leaf, norm._replace(momentum=0.0))
        (d_x,) = torch.autograd.grad((current * du).sum(), leaf)  # of a scalar: for others, torch imports sympy
    return d_x.to(x.dtype), None if given.residual is None else du.to(x.dtype)


@torch.no_grad()
def _layer_input(x: Tensor, residual: Tensor | None, norm: NormParameters | None, p: LIFParameters, pool: int) -> LayerInput:
    """The input of a layer. In training, the backend must already have set the running statistics to those of the batch."""
    dynamics = Dynamics(p.beta.detach(), detached(p.threshold), p.alpha.detach(), p.surrogate, p.reset, detach=p.detach)
    if norm is None:
        return LayerInput(x.detach(), dynamics)
    n = norm.over_all(x.numel() // x.shape[2])
    variance = norm.running_var
    if norm.training:
        variance = variance * ((n - 1) / n)  # running variances are unbiased, and that of the batch is not
    scale = norm.weight * norm.scale / (variance + norm.eps).sqrt()
    more = None if residual is None else residual.detach().expand_as(x)
    return LayerInput(x.detach(), dynamics, scale, norm.bias - norm.running_mean * scale, more, pool)


def count(sums: LayerSums, given: LayerInput, grad: Tensor | None = None, *, full: bool) -> None:
    """Add a forward pass, and its gradient if given, to the sums of a layer.

    Args:
        sums: sums of the layer.
        given: input of the layer.
        grad: dL/do, or the gradient of averages over windows; None without a backward pass.
        full: add all sums; otherwise only spikes and coverage.
    """
    sums.begin(given)
    if not sums.detailed and (layout := kernel_layout(given)) is not None:  # many times faster
        count_compiled(sums, given, grad, layout, full=full)
        return
    with one_thread():
        for block in blocks(given):
            sums.count(block, full=full)
            if full and grad is not None:
                sums.add_membrane_gradient(
                    membrane_gradient(block, arriving(laid(grad)[:, block.samples], block.u, given.side))
                )


def kernel_layout(given: LayerInput) -> Layout | None:
    """The layout of x for the kernels of the backend ``fused``, or None if they do not support these neurons."""
    x = given.x
    if given.scale is None or x.dim() != 5 or not fused.available(x.device):
        return None
    p = parameters(given.p)
    divides = x.shape[3] % given.side == 0 and x.shape[4] % given.side == 0
    return image_layout(x, p.beta, p.alpha) if divides and fused.supports(x, p.surrogate, p.reset) else None


@torch.no_grad()
def count_compiled(sums: LayerSums, given: Any, grad: Tensor | None, layout: Layout, *, full: bool) -> None:
    """As :func:`count`, by the kernels."""
    from lsgcli.neurons.kernels.cpu.function import Setting, observe

    x = given.x
    p = parameters(given.p)
    setting = Setting(None, p, layout, given.side)
    statistics = observe(x, given.scale, given.shift, given.residual, grad, setting, full=full)
    values = {name: total / p.threshold**power for (name, power), total in zip(SUMS.items(), statistics.sums.T, strict=True)}
    sums.add(n=torch.full((len(x),), float(x[0].numel())), spikes=values.pop("spikes"), inside=values.pop("inside"))
    if not full:
        return
    values["product"][-1] = 0
    sums.add(**values)
    sums.histogram += statistics.histogram
    sums.ever |= (statistics.marks & int(FIRED)).amax(0) > 0
    sums.always &= (statistics.marks & int(SILENT)).amax(0) == 0


def arriving(grad: Tensor, u: Tensor, side: int) -> Tensor:
    """dL/do of neurons, shaped as u (T, B, H, W, C), from the gradient of averages over windows of side x side."""
    grad = grad.to(u.dtype)
    if side == 1:
        return grad
    spread = (grad / side**2).repeat_interleave(side, 2).repeat_interleave(side, 3)
    # If the window does not divide the image, neurons at its edge belong to no average.
    return F.pad(spread, (0, 0, 0, u.shape[3] - spread.shape[3], 0, u.shape[2] - spread.shape[2]))


def membrane_gradient(block: Block, g: Tensor) -> Tensor:
    """dL/du of lsg's neurons, (T, ...), which is dL/dI."""
    with torch.enable_grad():
        current = block.current.detach().requires_grad_()
        (du,) = torch.autograd.grad((reference(current, parameters(block.p)) * g).sum(), current)
    return du


def parameters(p: Dynamics) -> LIFParameters:
    """The dynamics of lsg's neurons as parameters of a backend, without learned ones."""
    return LIFParameters(p.decay, p.width, number(p.threshold), p.surrogate, reset=p.reset, detach=p.detach)  # type: ignore[arg-type]
