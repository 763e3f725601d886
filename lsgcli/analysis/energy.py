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
biases, the arithmetic of the neurons (per neuron and step a multiplication, an addition and a comparison), the addition of a shortcut's
current, and max pooling.

Memory, with weights of b bits in both networks:

===========  =================================================  =====================================================
term         spiking network                                    same-shape ANN
===========  =================================================  =====================================================
weights      b bits for each operation                          b bits for each operation
potentials   32 bits, read and written, a neuron and step
activations  address of each input that is not 0, written and   b bits of each input of a layer, written and read
             read; with its b bits in layers with MACs
===========  =================================================  =====================================================

Energies: 45 nm, M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014. Floats of 32 bits: 0.9 pJ for an
addition, 3.7 pJ for a multiplication. Integers: 0.1 pJ for an addition of 32 bits, 0.2 pJ for a multiplication of 8 bits; a quarter of this
for 4 bits, because the area of a multiplier is quadratic in its bits. Memory: 20 pJ for 64 bits of 32 kB.

The *break-even rate* is the firing rate at which both networks take the same energy, if the spikes of all layers change in proportion and the
input does not. It is without routing of spikes between cores, with which Z. Yan et al., "Reconsidering the Energy Efficiency of Spiking
Neural Networks", arXiv 2409.08290v4, find 5.7 % for T = 5, 4 bits and 4096 inputs per neuron.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lsgcli.analysis.gradflow import MiniBatch, Reset, copied, layers_of, parts
from lsgcli.analysis.rates import FiringRates
from lsgcli.analysis.watchers import Adapter
from lsgcli.errors import ConfigError
from lsgcli.system.schema import Record

AC_PJ = 0.9
MAC_PJ = 4.6
PRICES = {32: (AC_PJ, MAC_PJ), 8: (0.1, 0.3), 4: (0.1, 0.15)}  # bits of a weight -> pJ of an AC and of a MAC
BIT_PJ = 20 / 64  # of a memory access
POTENTIAL_BITS = 32
TERMS = ("arithmetic", "weights", "activations")
LARGEST_AVERAGE = 256  # maximum number of neurons in an average; sums of two thresholds look like averages over a larger number
EPS = torch.finfo(torch.float32).eps
SAMPLE = 1 << 16  # number of values used to detect averages
UNKNOWN = (_ConvTransposeNd, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)  # weights that are not counted
NOTE = "an estimate of arithmetic alone: 45 nm, 32-bit floating point (Horowitz, ISSCC 2014); no memory, no neurons"


@dataclass
class Arrived:
    """Statistics of the inputs of a convolution, a linear layer or a product of spikes, over all samples and steps.

    Attributes:
        fan_out: outputs per input: () for a linear layer, (H, W) for a convolution of images, or fewer or more axes.
        per_position: inputs per position in one pass; each feature of a linear layer is a position.
        first: whether this is the network's first layer.
        dense: synapses of a pass; of a product, its additions if all elements were spikes.
        units: thresholds of the neurons, if their outputs are multiplied by them.
        passes: samples times steps.
        nonzero, reached: inputs that were not 0, and the synapses that they reach.
        total, carried: sum of the inputs, and of the inputs times the synapses that they reach.
        low, high: minimum and maximum of all values; ``total``, ``carried``, ``low``, ``high`` and ``parts`` are in units of ``unit``.
        unit: the threshold of the neurons before the layer: that in whose units the inputs have the smallest denominator; None if not known yet.
        parts: n if all values are multiples of 1/n, otherwise 0; 1 for integers.
    """

    fan_out: Tensor
    per_position: int
    first: bool = False
    units: tuple[float, ...] = (1.0,)
    passes: int = 0
    nonzero: int = 0
    reached: int = 0
    total: float = 0.0
    carried: float = 0.0
    low: float = 0.0
    high: float = 0.0
    parts: int = 1
    unit: float | None = None

    def __post_init__(self) -> None:
        self.inputs = self.per_position * self.fan_out.numel()
        self.dense = self.per_position * int(self.fan_out.sum())

    def add(self, x: Tensor) -> None:
        """Add a batch: (..., C, H, W) for a convolution, (..., features) for a linear layer."""
        axes = tuple(range(x.dim() - self.fan_out.dim()))
        error = _rounding(x)
        if self.units != (1.0,) and not self.first:
            x = self._in_units(x, error)
        self.passes += x.numel() // self.inputs
        fan_out = self.fan_out.to(x.device)
        present = (x != 0).sum(axes)
        sums = x.float().sum(axes).double()
        self.nonzero += int(present.sum())
        self.reached += int((present * fan_out).sum())
        self.total += float(sums.sum())
        self.carried += float((sums * fan_out).sum())
        low, high = x.aminmax()
        self.low = min(self.low, float(low))
        self.high = max(self.high, float(high))
        if not _whole(x, self.parts, error).all():  # of multiples of 1/0, all are
            self.parts = math.lcm(self.parts, _parts(_values(x), error))
            self.parts *= int(_whole(x, self.parts, error).all())

    def _in_units(self, x: Tensor, error: float) -> Tensor:
        """x in units of a threshold, which the first batch with a nonzero input determines."""
        if self.unit is None and x.any():
            values = _values(x)
            self.unit = min(self.units, key=lambda unit: _parts(_rounded(values / unit, error), error) or math.inf)
        return x if self.unit is None else _rounded(x.float() / self.unit, error)

    def add_product(self, module: Any, spikes: Sequence[Tensor]) -> None:
        """Add a batch of the arguments, (T, B, ...) each, of a module with a method ``additions``."""
        self.dense, passes = synapses(module, *spikes)
        self.passes += passes
        self.nonzero += sum(int(torch.count_nonzero(x)) for x in spikes)
        self.carried += float(module.additions(*((x != 0).float() for x in spikes)))  # v_th in some networks

    def record(self, events: bool) -> Record:
        """Kind of the input, and ACs and MACs of all passes; the keys ``input``, ``averages_over``, ``density``, ``ac``, ``mac``."""
        whole = self.low >= 0 and self.parts == 1
        kind = "graded"
        ac = 0.0
        mac = float(self.reached)
        if self.first and not (events and whole):
            kind = "real"
            mac = float(self.passes * self.dense)
        elif whole:
            kind = "events" if self.first else "spikes" if self.high <= 1 else "sums"
            ac = self.carried
            mac = 0.0
        elif self.low >= 0 and self.parts:
            kind = "averages"
            ac, mac = min((self.carried * self.parts, 0.0), (self.total * self.parts, mac), key=lambda way: energy(*way))
        density = self.nonzero / max(1, self.passes * self.inputs)
        averaged = self.parts if kind == "averages" else None
        return {"input": kind, "averages_over": averaged, "density": density, "ac": ac, "mac": mac}


class SynapticOperations:
    """Counts through hooks on a network's convolutions, linear layers and products, from construction until :meth:`close`.

    Args:
        model: in evaluation mode; whether tdBN is folded does not affect the result.
        events: whether integer inputs of the network are event counts; integers in images are real values.
        adapter: returns the network's layers of neurons; not required for lsg's own.

    Attributes:
        rates: of the same passes.

    Raises:
        ConfigError: a module has weights whose operations are not known.
    """

    def __init__(self, model: nn.Module, events: bool, adapter: Adapter | None = None):
        self.events = events
        self.rates = FiringRates(model, adapter)
        self.layers: dict[str, Arrived] = {}
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
            if isinstance(module, (_ConvNd, nn.Linear)):
                count = partial(self._weights, names.get(id(module.weight), name))
                self.handles.append(module.register_forward_pre_hook(count))
            elif hasattr(module, "additions"):
                self.handles.append(module.register_forward_pre_hook(partial(self._product, name)))

    @torch.no_grad()
    def _weights(self, name: str, module: _ConvNd | nn.Linear, arguments: tuple[Tensor]) -> None:
        """A hook on a convolution or linear layer."""
        (x,) = arguments
        if name not in self.layers:
            reached = fan_out(module, x)
            self.layers[name] = Arrived(reached, x.shape[-1 - reached.dim()], not self.layers, self.units)
        self.layers[name].add(x)

    @torch.no_grad()
    def _product(self, name: str, module: Any, arguments: tuple[Tensor, ...]) -> None:
        """A hook on a module with a method ``additions``."""
        inputs = sum(x[0, 0].numel() for x in arguments)
        self.layers.setdefault(name, Arrived(torch.ones(()), inputs)).add_product(module, arguments)

    def close(self, samples: int) -> Record:
        """Remove the hooks.

        Args:
            samples: number of samples processed.

        Returns:
            Everything per sample, as JSON types: ``{"layers": [{"name", "input", "averages_over", "density", "passes",
            "firing_rate", "ac", "mac", "energy_pj", "ann_mac", "ann_energy_pj", "inputs", "nonzero"}, ...], "total": {"ac", "mac",
            "energy_pj", "ann_mac", "ann_energy_pj"}, "ac_pj", "mac_pj", "note", "firing_rate", "memory"}``, in the order of execution.
            ``energy_pj`` is that of arithmetic; ``firing_rate`` of a layer is None if it is not directly followed by neurons;
            ``inputs``: of a pass; ``nonzero``: of all passes; ``memory``: of each number of bits, see :func:`with_memory`.
        """
        for handle in self.handles:
            handle.remove()
        n = max(1, samples)
        rates = self.rates.close()
        layers = []
        for name, arrived in self.layers.items():
            layer = {"name": name, **arrived.record(self.events)}
            layer["ac"] /= n
            layer["mac"] /= n
            layer |= {
                "passes": arrived.passes / n,
                "firing_rate": rates.get(name),
                "energy_pj": energy(layer["ac"], layer["mac"]),
                "ann_mac": arrived.dense,
                "ann_energy_pj": energy(0, arrived.dense),
                "inputs": arrived.inputs,
                "nonzero": arrived.nonzero / n,
            }
            layers.append(layer)
        total = {key: sum(layer[key] for layer in layers) for key in ("ac", "mac", "energy_pj", "ann_mac", "ann_energy_pj")}
        spikes, steps = map(sum, zip(*self.rates.totals.values(), strict=True))
        rate = spikes / max(1.0, steps)
        memory = [with_memory(layers, bits, steps / n, rate) for bits in PRICES] if layers else []
        found = {"layers": layers, "total": total, "firing_rate": rate, "memory": memory}
        return {**found, "ac_pj": AC_PJ, "mac_pj": MAC_PJ, "note": NOTE}


def with_memory(layers: Sequence[Record], bits: int, steps: float, rate: float) -> Record:
    """Energy of arithmetic and memory with weights of so many bits, as in the table above.

    Args:
        layers: records of :meth:`SynapticOperations.close`.
        bits: a key of :data:`PRICES`.
        steps: neurons times timesteps of a sample.
        rate: mean firing rate of all neurons.

    Returns:
        ``bits``; ``spiking`` and ``ann``: energy in pJ by term, and in ``total``; ``break_even_rate``, None if no rate is low enough.
    """
    ac_pj, mac_pj = PRICES[bits]
    access = bits * BIT_PJ
    spiking = dict.fromkeys(TERMS, 0.0)
    spent = 0.0  # in proportion to the spikes
    for number, layer in enumerate(layers):
        ac = layer["ac"]
        mac = layer["mac"]
        address = (layer["inputs"] - 1).bit_length() + (bits if mac else 0)
        terms = (ac * ac_pj + mac * mac_pj, (ac + mac) * access, 2 * layer["nonzero"] * address * BIT_PJ)
        for name, term in zip(TERMS, terms, strict=True):
            spiking[name] += term
        if number > 0:
            spent += sum(terms)
    spiking["potentials"] = 2 * steps * POTENTIAL_BITS * BIT_PJ
    spiking["total"] = sum(spiking.values())
    macs = sum(layer["ann_mac"] for layer in layers)
    inputs = sum(layer["inputs"] for layer in layers)
    ann = {"arithmetic": macs * mac_pj, "weights": macs * access, "activations": 2 * inputs * access}
    ann["total"] = sum(ann.values())
    left = ann["total"] - spiking["total"] + spent
    return {
        "bits": bits,
        "spiking": spiking,
        "ann": ann,
        "break_even_rate": rate * left / spent if min(left, spent) > 0 else None,
    }


def synops(
    model: nn.Module,
    batches: Iterable[MiniBatch],
    *,
    events: bool = True,
    adapter: Adapter | None = None,
    reset: Reset | None = None,
) -> Record:
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
    net = copied(model, reset).eval()
    device = next(model.parameters()).device
    samples = 0
    operations = SynapticOperations(net, events, adapter)
    with torch.no_grad():
        for batch in batches:
            x, y, _ = parts(batch)
            if reset is not None:
                reset(net)
            net(x.to(device))
            samples += len(y)
    if samples == 0:
        raise ConfigError("synops: found no mini-batches, expected at least one")
    return operations.close(samples)


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


def fan_out(module: _ConvNd | nn.Linear, x: Tensor) -> Tensor:
    """Outputs per input: () for a linear layer; (H, W), or as many axes as it has, for a convolution of x (..., C, H, W), equal for all channels."""
    if isinstance(module, nn.Linear):
        return torch.tensor(module.out_features)
    each = [_reached(size, module, axis) for axis, size in enumerate(x.shape[-len(module.kernel_size) :])]
    return reduce(lambda found, axis: found[..., None] * axis, each) * (module.out_channels // module.groups)


def _reached(size: int, conv: _ConvNd, axis: int) -> Tensor:
    """(size,) number of outputs that read each position along one axis."""
    before, after = conv._reversed_padding_repeated_twice[-2 * axis - 2 :][:2]  # also if `padding` is a word
    kernel = conv.kernel_size[axis]
    stride = conv.stride[axis]
    dilation = conv.dilation[axis]
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


def _parts(values: Tensor, error: float) -> int:
    """The smallest n up to :data:`LARGEST_AVERAGE` such that all values are multiples of 1/n; 0 if there is none."""
    n = torch.arange(1, LARGEST_AVERAGE + 1, device=values.device)
    few = _whole(values[:: max(1, len(values) // 16), None], n, error).all(0)
    return next((parts for parts in n[few].tolist() if _whole(values, parts, error).all()), 0)
