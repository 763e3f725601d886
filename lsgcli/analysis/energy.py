"""Synaptic operations of a network at inference, counted per layer on real samples, and the energy of their arithmetic.

Networks of other libraries are counted as lsg's, see :func:`synops`. Each input of a convolution or linear layer reaches a number of
outputs, its *fan-out*, which is smaller at borders. The cost of an input depends on its kind, which is detected from its values:

==========  ==================================================  ==========================================================
input       values                                              operations
==========  ==================================================  ==========================================================
real        the network's own input, real-valued                a MAC for every synapse, even if the input is 0
events      the network's own input: whole numbers of events    an AC per event and synapse that it reaches
spikes      0 and 1                                             an AC per spike and synapse
sums        whole numbers of spikes (``sew``)                   an AC per spike and synapse
averages    multiples of 1/n: averages over n neurons           the cheaper of: an AC per spike and synapse, with the weights
                                                                divided by n beforehand; or an AC per spike to take the
                                                                average, and a MAC per average that is not 0 and synapse
graded      anything else                                       a MAC per value that is not 0 and synapse
==========  ==================================================  ==========================================================

Outputs of v_th (``trsg``, ``asgl``) count as spikes, because the weights can be multiplied by v_th beforehand; sums of spikes of
neurons with different thresholds are graded.

A product of spikes without weights, as in an attention, takes the additions that its module counts in a method ``additions``.

AC: accumulate, an addition. MAC: multiply and accumulate. The *same-shape ANN* takes a MAC for every synapse, once. Not counted:
biases, the neurons themselves (per neuron and step a multiplication, an addition and a comparison), the addition of a shortcut's
current, max pooling, and memory, which on most hardware costs more than arithmetic.

Energies: 45 nm, 32-bit floating point, M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014:
0.9 pJ for an addition, 3.7 pJ for a multiplication.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lsgcli.analysis.gradflow import copied, layers_of, parts
from lsgcli.analysis.watchers import Adapter, Layer
from lsgcli.data.batches import Batch
from lsgcli.errors import ConfigError

AC_PJ, MAC_PJ = 0.9, 4.6
LARGEST_AVERAGE = 4096  # maximum number of neurons in an average
LARGEST_IN_UNITS = 256  # of averages of v_th; sums of two thresholds look like averages over a larger number
EPS = torch.finfo(torch.float32).eps
SAMPLE = 1 << 16  # number of values used to detect averages
UNKNOWN = (_ConvTransposeNd, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)  # weights that are not counted
NOTE = "an estimate of arithmetic alone: 45 nm, 32-bit floating point (Horowitz, ISSCC 2014); no memory, no neurons"


@dataclass
class Arrived:
    """Statistics of the inputs of a convolution or linear layer, over all samples and steps; tensors are on the device.

    Attributes:
        fan_out: outputs per input: () for a linear layer, (H, W) for a convolution of images, or fewer or more axes.
        per_position: inputs per position in one pass; each feature of a linear layer is a position.
        first: whether this is the network's first layer.
        units: thresholds of the neurons, if their outputs are multiplied by them.
        passes: samples times steps.
        nonzero: (like fan_out) inputs that were not 0.
        total: (like fan_out) sum of the inputs; ``total``, ``low``, ``high`` and ``parts`` are in units of ``unit``.
        low, high: minimum and maximum of all values.
        unit: the threshold of the neurons before the layer: that in whose units the inputs have the smallest denominator; None if not known yet.
        parts: n if all values are multiples of 1/n, otherwise None; 1 for integers.
    """

    fan_out: Tensor
    per_position: int
    first: bool
    units: tuple[float, ...] = (1.0,)
    passes: int = 0
    nonzero: Tensor = field(default_factory=lambda: torch.zeros(()))
    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    low: float = 0.0
    high: float = 0.0
    parts: int | None = 1
    unit: float | None = None

    def add(self, x: Tensor) -> None:
        """Add a batch: (..., C, H, W) for a convolution, (..., features) for a linear layer."""
        axes, error = tuple(range(x.dim() - self.fan_out.dim())), _rounding(x)
        if self.units != (1.0,) and not self.first:
            x = self._in_units(x, error)
        self.passes += x.numel() // (self.per_position * self.fan_out.numel())
        self.nonzero = self.nonzero.to(x.device) + (x != 0).sum(axes)
        self.total = self.total.to(x.device) + x.float().sum(axes).double()
        low, high = x.aminmax()
        self.low, self.high = min(self.low, low.item()), max(self.high, high.item())
        if self.parts is not None and not _whole(x, self.parts, error).all():
            parts = _parts(_values(x), error, self.largest)
            self.parts = None if parts is None else math.lcm(self.parts, parts)
            if self.parts is not None and not _whole(x, self.parts, error).all():
                self.parts = None

    def _in_units(self, x: Tensor, error: float) -> Tensor:
        """x in units of a threshold, which the first batch with a nonzero input determines."""
        if self.unit is None and x.any():
            parts = {unit: _parts(_rounded(_values(x) / unit, error), error, self.largest) for unit in self.units}
            self.unit = min(self.units, key=lambda unit: parts[unit] or math.inf)
        return x if self.unit is None else _rounded(x.float() / self.unit, error)

    @property
    def largest(self) -> int:
        """Maximum number of neurons in an average."""
        return LARGEST_AVERAGE if self.units == (1.0,) else LARGEST_IN_UNITS

    @property
    def dense(self) -> int:
        """Synapses of one pass."""
        return round(float(self.fan_out.double().sum())) * self.per_position

    def record(self, events: bool) -> dict[str, Any]:
        """Kind of the input, ACs and MACs of all passes; the keys ``input``, ``averages_over``, ``density``, ``ac``, ``mac``."""
        inputs = self.passes * self.per_position * self.fan_out.numel()
        common: dict[str, Any] = {"averages_over": None, "density": float(self.nonzero.sum()) / max(1, inputs)}
        fan_out = self.fan_out.to(self.total.device).double()
        reached, carried = float((self.nonzero * fan_out).sum()), float((self.total * fan_out).sum())
        counts = self.low >= 0 and self.parts == 1
        if self.first and not (events and counts):
            return {**common, "input": "real", "ac": 0.0, "mac": float(self.passes * self.dense)}
        if counts:
            kind = "events" if self.first else "spikes" if self.high <= 1 else "sums"
            return {**common, "input": kind, "ac": carried, "mac": 0.0}
        if self.parts is None or self.low < 0:
            return {**common, "input": "graded", "ac": 0.0, "mac": reached}
        ways = ((carried * self.parts, 0.0), (float(self.total.sum()) * self.parts, reached))
        ac, mac = min(ways, key=lambda way: energy(*way))
        return {**common, "input": "averages", "averages_over": self.parts, "ac": ac, "mac": mac}


class Products:
    """Statistics of a module that multiplies spikes with each other; attributes and methods as for :class:`Arrived`."""

    def __init__(self, module: Any):
        self.module = module
        self.passes = self.dense = self.nonzero = self.inputs = 0
        self.ac = 0.0

    def add(self, *spikes: Tensor) -> None:
        """Add a batch of the module's arguments, (T, B, ...) each. ``dense`` is the number of additions if every element is a spike."""
        spikes = tuple((x != 0).float() for x in spikes)  # v_th in some networks
        self.dense, passes = synapses(self.module, *spikes)
        self.passes += passes
        self.nonzero += sum(int(torch.count_nonzero(x)) for x in spikes)
        self.inputs += sum(x.numel() for x in spikes)
        self.ac += float(self.module.additions(*spikes))

    def record(self, events: bool) -> dict[str, Any]:
        """As :meth:`Arrived.record`."""
        density = self.nonzero / max(1, self.inputs)
        return {"input": "spikes", "averages_over": None, "density": density, "ac": self.ac, "mac": 0.0}


class SynapticOperations:
    """Counts through hooks on a network's convolutions, linear layers and products, from construction until :meth:`close`.

    Args:
        model: in evaluation mode; whether tdBN is folded does not affect the result.
        events: whether integer inputs of the network are event counts; integers in images are real values.
        adapter: returns the network's layers of neurons; not required for lsg's own.

    Raises:
        ConfigError: a module has weights whose operations are not known.
    """

    def __init__(self, model: nn.Module, events: bool, adapter: Adapter | None = None):
        self.events = events
        self.layers: dict[str, Arrived | Products] = {}
        neurons = layers_of(model, adapter)
        self.units = tuple(sorted({getattr(layer.module, "unit", 1.0) for layer in neurons}))
        # If several layers of neurons follow the same weights, the first one names them.
        names = {id(layer.weight): layer.name for layer in reversed(neurons)}
        self.handles = []
        for name, module in model.named_modules():
            if isinstance(module, UNKNOWN):
                raise ConfigError(
                    f"synops: found {type(module).__name__} {name}, expected convolutions and linear layers",
                    hint="Operations of other modules with weights are not counted.",
                )
            if isinstance(module, (_ConvNd, nn.Linear)) or hasattr(module, "additions"):
                own = names.get(id(getattr(module, "weight", None)), name)
                self.handles.append(module.register_forward_pre_hook(self._counter(own)))

    def _counter(self, name: str) -> Any:
        @torch.no_grad()
        def count(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            if name not in self.layers:
                self.layers[name] = self._new(module, arguments[0])
            self.layers[name].add(*arguments)

        return count

    def _new(self, module: nn.Module, x: Tensor) -> Arrived | Products:
        if not isinstance(module, (_ConvNd, nn.Linear)):
            return Products(module)
        return Arrived(fan_out(module, x), features(module), first=not self.layers, units=self.units)

    def close(self, samples: int, firing_rate: Mapping[str, float]) -> dict[str, Any]:
        """Remove the hooks.

        Args:
            samples: number of samples processed.
            firing_rate: firing rate of each layer of neurons, by name.

        Returns:
            Everything per sample, as JSON types: ``{"layers": [{"name", "input", "averages_over", "density", "passes",
            "firing_rate", "ac", "mac", "energy_pj", "ann_mac", "ann_energy_pj"}, ...], "total": {"ac", "mac", "energy_pj",
            "ann_mac", "ann_energy_pj"}, "ac_pj", "mac_pj", "note"}``, in the order of execution. ``firing_rate`` is None
            if the layer is not directly followed by neurons.
        """
        for handle in self.handles:
            handle.remove()
        n = max(1, samples)
        layers = []
        for name, arrived in self.layers.items():
            record = arrived.record(self.events)
            ac, mac = record.pop("ac") / n, record.pop("mac") / n
            layers.append(
                {
                    "name": name,
                    **record,
                    "passes": arrived.passes / n,
                    "firing_rate": firing_rate.get(name),
                    "ac": ac,
                    "mac": mac,
                    "energy_pj": energy(ac, mac),
                    "ann_mac": arrived.dense,
                    "ann_energy_pj": energy(0, arrived.dense),
                }
            )
        total = {key: sum(layer[key] for layer in layers) for key in ("ac", "mac", "energy_pj", "ann_mac", "ann_energy_pj")}
        return {"layers": layers, "total": total, "ac_pj": AC_PJ, "mac_pj": MAC_PJ, "note": NOTE}


def synops(
    model: nn.Module,
    batches: Iterable[Batch | tuple[Tensor, Tensor]],
    *,
    events: bool = True,
    adapter: Adapter | None = None,
    reset: Callable[[Any], object] | None = None,
) -> dict[str, Any]:
    """Synaptic operations and energy of any spiking network at inference, counted on a copy in evaluation mode.

    Args:
        model: not modified.
        batches: inputs and labels.
        events: whether inputs of whole numbers are counts of events or spikes rather than real values, such as pixels.
        adapter: returns the network's layers of neurons; not required for :class:`~lsgcli.neurons.LIF`.
        reset: resets neurons that keep their state between batches.

    Returns:
        The record of :meth:`SynapticOperations.close`. Weights are named by the layer of neurons that they feed, or else as modules. Every
        call of a module counts: weights of an image that the network applies at each timestep take T passes.

    Raises:
        ConfigError: no layers of neurons were found, the network has other weights than those of convolutions and linear layers, or there
            are no batches.
    """
    net, device, samples = copied(model, reset).eval(), next(model.parameters()).device, 0
    operations, rates = SynapticOperations(net, events, adapter), OutputRates(layers_of(net, adapter))
    with torch.no_grad():
        for batch in batches:
            x, y, _ = parts(batch)
            if reset is not None:
                reset(net)
            net(x.to(device))
            samples += len(y)
    if samples == 0:
        raise ConfigError("synops: found no mini-batches, expected at least one")
    return operations.close(samples, rates.close())


class OutputRates:
    """Firing rates of layers of neurons: the fraction of outputs that are not 0, by name, from construction until :meth:`close`."""

    def __init__(self, layers: Sequence[Layer]):
        self.totals = {layer.name: [0, 0] for layer in layers}
        self.handles = [layer.module.register_forward_hook(partial(self._add, layer.name)) for layer in layers]

    def _add(self, name: str, module: nn.Module, arguments: Any, output: Any) -> None:
        spikes = output[0] if isinstance(output, tuple | list) else output
        self.totals[name][0] += int(torch.count_nonzero(spikes))
        self.totals[name][1] += spikes.numel()

    def close(self) -> dict[str, float]:
        """Remove the hooks and return the rates."""
        for handle in self.handles:
            handle.remove()
        return {name: fired / max(1, n) for name, (fired, n) in self.totals.items()}


def energy(ac: float, mac: float) -> float:
    """Energy of the given numbers of operations, in pJ."""
    return ac * AC_PJ + mac * MAC_PJ


def synapses(module: Any, *arguments: Tensor) -> tuple[int, int]:
    """Synapses of one pass (of one sample in one timestep), or additions of a product of spikes only, and the number of passes; from shapes alone.

    Args:
        module: a convolution, a linear layer, or a module with a method ``additions``.
        arguments: its arguments, (T, B, ...) each of a product.
    """
    x = arguments[0]
    if not isinstance(module, (_ConvNd, nn.Linear)):
        spikes = [torch.ones(()).expand(1, 1, *x.shape[2:]) for x in arguments]
        return int(module.additions(*spikes)), x.shape[:2].numel()
    if isinstance(module, nn.Linear):
        return module.in_features * module.out_features, x.numel() // module.in_features
    sizes = x.shape[-len(module.kernel_size) :]
    # By axes: the outputs of each position, as in fan_out, may not fit in memory.
    reached = [int(_reached(size, module, axis).sum()) for axis, size in enumerate(sizes)]
    channels = module.in_channels * (module.out_channels // module.groups)
    return channels * math.prod(reached), x.numel() // (module.in_channels * math.prod(sizes))


def features(module: _ConvNd | nn.Linear) -> int:
    """Channels or features of the input."""
    return module.in_features if isinstance(module, nn.Linear) else module.in_channels


def fan_out(module: _ConvNd | nn.Linear, x: Tensor) -> Tensor:
    """Outputs per input: () for a linear layer; (H, W), or as many axes as it has, for a convolution of x (..., C, H, W), equal for all channels."""
    if isinstance(module, nn.Linear):
        return torch.tensor(module.out_features)
    each = [_reached(size, module, axis) for axis, size in enumerate(x.shape[-len(module.kernel_size) :])]
    return reduce(lambda found, axis: found[..., None] * axis, each) * (module.out_channels // module.groups)


def _reached(size: int, conv: _ConvNd, axis: int) -> Tensor:
    """(size,) number of outputs that read each position along one axis."""
    before, after = conv._reversed_padding_repeated_twice[-2 * axis - 2 :][:2]  # also if `padding` is a word
    kernel, stride, dilation = conv.kernel_size[axis], conv.stride[axis], conv.dilation[axis]
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    positions = F.pad(torch.arange(1.0, size + 1)[None], (before, after), mode)[0]  # from 1; 0 is padding
    read = positions.unfold(0, dilation * (kernel - 1) + 1, stride)[:, ::dilation]
    return torch.bincount(read.flatten().long(), minlength=size + 1)[1:]


def _values(x: Tensor) -> Tensor:
    """Different values in a sample of x, float32."""
    return x.flatten()[:SAMPLE].float().unique()


def _rounding(x: Tensor) -> float:
    """Relative rounding error of x after a few operations."""
    return max(4 * EPS, torch.finfo(x.dtype).eps) if x.is_floating_point() else 4 * EPS


def _rounded(x: Tensor, error: float) -> Tensor:
    """x, or the nearest whole number where they differ only by rounding."""
    whole = x.round()
    return whole.where((x - whole).abs() <= error * whole.abs(), x)


def _whole(x: Tensor, parts: int | Tensor, error: float) -> Tensor:
    """Mask of the values that are multiples of 1/parts, up to rounding if there is more than one part."""
    scaled = x * parts
    return (scaled - scaled.round()).abs() <= scaled.abs() * (error * (torch.as_tensor(parts) > 1))


def _parts(values: Tensor, error: float, largest: int) -> int | None:
    """The smallest n up to ``largest`` such that all values are multiples of 1/n."""
    n = torch.arange(1, largest + 1, device=values.device)
    few = _whole(values[:: max(1, len(values) // 16), None], n, error).all(0)
    return next((parts for parts in n[few].tolist() if _whole(values, parts, error).all()), None)
