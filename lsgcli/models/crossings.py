"""Crossings: the densities of spikes at which a convolution by spikes takes as long as a dense one.

They are measured when a layer of a new shape is met, for the output and for the gradient of the weight, in CPU time of one thread, which other
programs hardly disturb. They are kept in the cache folder of the compiled kernels, which differs between versions of the kernels.
"""

import contextlib
import time
import timeit
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lsgcli.errors import StorageError, counted, log
from lsgcli.system import files, schema
from lsgcli.system.device import limited_threads
from lsgcli.system.schema import Record

if TYPE_CHECKING:
    from lsgcli.neurons.kernels.cpu.rows import Geometry

# Pixels of the output in a measurement with a 3x3 kernel, in at least two and at most ``MOST`` images, unless a single one is convolved.
# 1x1 kernels are measured on up to nine times as many, so that tensors do not fit in the caches either.
PIXELS = 4096
MOST = 64
DENSITIES = (0.05, 0.25)  # between which time grows linearly
REPEATS, MOST_REPEATS, LEAST = 3, 20, 0.1  # of an operation, and seconds that are to be spent on it
LARGEST = 4.0  # crossing: spikes per element
# Of the dense time, what a convolution by spikes may take, with one image and with several: measurements err.
MARGIN_OF_ONE = 0.85
MARGIN = 0.95
# Bytes that other layers touch between two calls of a layer for one image: its weights are then in no near cache.
OTHERS = 1 << 24


def of(geometry: "Geometry", dtype: torch.dtype, table: dict[str, list[float]]) -> list[float]:
    """The crossings of the output and of the gradient of the weight, for a geometry with any number of images, and a type of the weights.

    Args:
        table: crossings known so far, by shape, to which new ones are added.
    """
    g, name = _measured_as(geometry, dtype, torch.get_num_threads())
    if name not in table:
        table[name] = _of_machine(name, partial(measured, g, dtype))
        log.debug(
            "convolution %s: by spikes below %.2f spikes per element, the gradient of its weight below %.2f", name, *table[name]
        )
    return table[name]


@cache
def _measured_as(geometry: "Geometry", dtype: torch.dtype, threads: int) -> tuple["Geometry", str]:
    """The geometry with the number of images of a measurement, and its name in tables of crossings."""
    g = geometry
    if g.N > 1:
        times = max(1, 9 // g.side**2)
        most = PIXELS if g.is_linear else MOST
        g = g._replace(N=max(2, min(most, times * PIXELS // (g.height * g.width))))
    name = (
        f"{g.N}x{g.C}x{g.H}x{g.W} to {g.channels}, {g.side}x{g.side}, stride {g.stride}, padding {g.padding}, {str(dtype)[6:]}"
    )
    return g, name if g.N > 1 else f"{name}, {counted(threads, 'thread')}"


def _of_machine(name: str, measure: Callable[[], list[float]]) -> list[float]:
    """Crossings from the file of this machine, or measured and added to it."""
    from llvmlite.binding import get_host_cpu_name

    from lsgcli.neurons.kernels.cpu.build import folder

    path = folder()
    if path is None:
        return measure()
    kept = path / f"crossings-2-{get_host_cpu_name()}-torch-{torch.__version__}.json"
    table: Record = {}
    with contextlib.suppress(StorageError):  # not there, or damaged
        table = schema.read(kept, dict[str, tuple[float, float]], StorageError)
    if name in table:
        return list(table[name])
    if not table:
        log.info("measuring convolutions on this processor (once); kept in %s", kept)
    found = measure()
    files.write_json(kept, table | {name: found})
    return found


def measured(g: "Geometry", dtype: torch.dtype) -> list[float]:
    """Measure both crossings on random spikes.

    A single image is convolved as in a stream: with weights that are rearranged once, after other layers. Its few elements are packed by one
    thread, for which the others wait; the choice takes about as long again.
    """
    from lsgcli.neurons.kernels.cpu.packing import packed
    from lsgcli.neurons.kernels.cpu.rows import convolved, rows_of, weight_gradient

    chance = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=chance).to(dtype).contiguous(memory_format=torch.channels_last)

    uniform = torch.rand(g.N, g.C, g.H, g.W, generator=chance).contiguous(memory_format=torch.channels_last)
    weight = normal(g.channels, g.C, g.side, g.side)
    grad = normal(g.N, g.channels, g.height, g.width)
    others = torch.zeros(OTHERS, dtype=torch.uint8)
    single = g.N == 1
    before: Callable[[], object] = partial(others.add_, 1) if single else lambda: None
    threads = torch.get_num_threads()
    geometry = ((g.stride, g.stride), (g.padding, g.padding), (1, 1), False, (0, 0), 1)

    def times(density: float) -> tuple[float, ...]:
        """Times of both directions, dense and by spikes."""
        x = (uniform < density).to(dtype)
        spikes = packed(x, 1)
        rows = rows_of(weight)
        dense: Callable[[], Tensor] = partial(F.conv2d, x, weight, None, g.stride, g.padding)
        if single:
            dense = partial(reordered(weight, None, (*geometry[1::-1], (1, 1), 1), x.shape), x)
        elif g.is_linear:
            dense = lambda: F.linear(x.flatten(1), weight.flatten(1))  # noqa: E731

        def dense_gradient() -> Any:
            if g.is_linear:
                return grad.flatten(1).t() @ x.flatten(1)
            return torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, (False, True, False))

        by_spikes = seconds(lambda: convolved(packed(x, 1), g, rows if single else rows_of(weight), dtype), before)
        if single:
            by_spikes += threads * seconds(lambda: packed(x, 1).planes, before)
        gradient = seconds(lambda: weight_gradient(spikes, g, grad), before)
        return seconds(dense, before), by_spikes, seconds(dense_gradient, before), gradient

    with limited_threads(1), torch.no_grad(), torch.autocast("cpu", enabled=False):
        low, high = map(times, DENSITIES)
    margin = MARGIN_OF_ONE if single else MARGIN
    return [crossing(margin * min(low[i], high[i]), low[i + 1], high[i + 1]) for i in (0, 2)]


def crossing(dense: float, low: float, high: float) -> float:
    """The density at which the line through two times reaches that of the dense convolution, from 0 to ``LARGEST``."""
    slope = (high - low) / (DENSITIES[1] - DENSITIES[0])
    if slope <= 0:
        return LARGEST if low < dense else 0.0
    return min(LARGEST, max(0.0, DENSITIES[0] + (dense - low) / slope))


def seconds(operation: Callable[[], Tensor | tuple[Tensor, ...]], before: Callable[[], object]) -> float:
    """Shortest of several CPU times, after a first call: the shorter, the more. Each follows a call of ``before``."""
    _, second = timeit.repeat(operation, before, time.thread_time, repeat=2, number=1)
    repeats = max(REPEATS, min(MOST_REPEATS, int(LEAST / max(second, 1e-6))))
    return min(second, *timeit.repeat(operation, before, time.thread_time, repeat=repeats - 1, number=1))


def reorders(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether oneDNN convolves x in a type with weights that are reordered once."""
    if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def reordered(weight: Tensor, bias: Tensor | None, where: tuple[Any, ...], shape: torch.Size) -> Callable[[Tensor], Tensor]:
    """A convolution of x, of a shape and of the weight's type, with weights that oneDNN reorders once, for inference; otherwise in every call.

    Args:
        where: padding, stride, dilation and groups.
        shape: of x.
    """
    ops = torch.ops.mkldnn
    kept = ops._reorder_convolution_weight(weight, *where, shape)

    def convolve(x: Tensor) -> Tensor:
        return ops._convolution_pointwise(x, kept, bias, *where, "none", [], "")  # type: ignore[no-any-return]

    return convolve
