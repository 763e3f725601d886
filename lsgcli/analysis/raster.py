"""Activity of one sample: the spikes of each layer of neurons, and the membrane potentials of a few of them."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from lsgcli.analysis.dynamics import Block, LayerInput
from lsgcli.analysis.gradflow import MiniBatch, Reset, copied, layers_of, parts
from lsgcli.analysis.sums import LayerSums
from lsgcli.analysis.watchers import Adapter, watching
from lsgcli.errors import ConfigError
from lsgcli.neurons.layer import drawing
from lsgcli.system.device import Compute
from lsgcli.system.files import finite
from lsgcli.system.schema import Record

ROWS = 200  # most neurons of a raster
CELLS = 10_000  # its entries with more than LEAST neurons
LEAST = 50  # neurons in any case


@dataclass
class Recorder(LayerSums):
    """Keeps the potentials and spikes of one sample instead of sums.

    Attributes:
        sample: index in the batch.
        shape: of the layer, (C, ...).
        kept: u / v_th, o and alpha / v_th, (T, ..., C) each.
    """

    detailed: bool = True  # without the compiled kernels, which only sum
    sample: int = 0
    shape: tuple[int, ...] = ()
    kept: list[Tensor] = field(default_factory=list)

    def begin(self, given: LayerInput) -> None:
        """Record the shape of the layer."""
        self.shape = tuple(given.x[0].shape[1:])

    def count(self, block: Block, *, full: bool) -> None:
        """Keep the sample, if the block contains it."""
        here = self.sample - (block.samples.start or 0)
        if 0 <= here < block.u.shape[1]:
            v_th, alpha = (torch.as_tensor(x, device=block.u.device) for x in (block.p.threshold, block.p.width))
            values = block.u / v_th, block.o, (alpha / v_th).expand_as(block.u)
            self.kept = [x[:, here].detach().cpu() for x in values]

    def record(self) -> Record:
        """The layer, as in :func:`activity`."""
        u, o, alpha = (x.flatten(1).double().numpy() for x in self.kept)
        T, n = u.shape
        spikes = o.sum(0)
        pattern = 2.0 ** -np.arange(T) @ o  # larger for earlier spikes
        ranking = np.lexsort((-u.max(0), -pattern, -spikes))
        active = int((spikes > 0).sum())
        traces = []
        for rank, role in _roles(active, n).items():
            neuron = ranking[rank]
            widths = alpha[:, neuron]
            traces.append(
                {
                    "role": role,
                    "neuron": self._index(neuron),
                    "u": _short(u[:, neuron]),
                    "alpha": _short(widths[:1] if (alpha == alpha[0]).all() else widths),
                }
            )
        rows = min(n, ROWS, max(LEAST, CELLS // T))
        shown = ranking[np.arange(rows) * (n - 1) // max(1, rows - 1)]
        return {
            "neurons": n,
            "active": active,
            "firing_rate": float(o.mean()),
            "spikes": ["".join(row) for row in o[:, shown].T.astype(int).astype(str)],
            "traces": traces,
        }

    def _index(self, place: int) -> list[int]:
        """The index (C, ...) of a neuron from its place in blocks, whose channels are last."""
        channels, *others = self.shape or (1,)
        *rest, channel = np.unravel_index(place, (*others, channels))
        return [int(k) for k in (channel, *rest)][: len(self.shape)]


def activity(
    model: nn.Module,
    batch: MiniBatch,
    sample: int = 0,
    *,
    adapter: Adapter | None = None,
    reset: Reset | None = None,
    compute: Compute | None = None,
) -> Record:
    """Spikes and membrane potentials of one sample in each layer, in a forward pass as in training, on a copy of the network.

    Neurons are ranked by their number of spikes; among equals, those that fire earlier come first, and of silent neurons those with the
    higher maximum potential.

    Args:
        model: any spiking network; not modified.
        batch: inputs and labels, whose statistics normalisation uses.
        sample: index of the sample in the batch.
        adapter, reset, compute: as for :func:`~lsgcli.analysis.inspect`.

    Returns:
        ``{"sample", "layers": [{"name", "neurons", "active", "firing_rate", "spikes", "traces"}, ...]}`` of JSON types, as described in
        ``docs/gradient-flow.md``.

    Raises:
        ConfigError: the batch does not contain the sample, or as for :func:`~lsgcli.analysis.inspect`.
    """
    compute = compute or Compute(next(model.parameters()).device)
    x, y, samples = parts(batch)
    if not 0 <= sample < len(y):
        raise ConfigError(f"sample: found {sample}, expected 0 to {len(y) - 1}, the samples of the batch")
    net = copied(model, reset).to(compute.device).train()
    with watching(layers_of(net, adapter), full=False) as watchers, torch.no_grad():
        recorders = {name: Recorder(sample=sample) for name in watchers}
        for name, watcher in watchers.items():
            watcher.sums = recorders[name]
        with compute.context(), drawing(net, None if samples is None else compute.move(samples)):
            net(compute.move(x))
        for watcher in watchers.values():
            watcher.finish()
    layers = [{"name": name, **recorder.record()} for name, recorder in recorders.items()]
    return finite({"sample": sample, "layers": layers})  # type: ignore[return-value]


def _roles(active: int, n: int) -> dict[int, str]:
    """The neurons whose potentials are shown, by rank."""
    roles = {0: "most active" if active else "highest potential"}
    if active:
        roles.setdefault((active - 1) // 2, "median active")
    if active < n:
        roles.setdefault((active + n - 1) // 2, "silent")
    else:
        roles.setdefault(n - 1, "least active")
    return roles


def _short(values: np.ndarray) -> list[float]:
    """Values of four digits."""
    return [float(f"{value:.4g}") for value in values]
