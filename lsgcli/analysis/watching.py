"""Observation of layers of neurons during forward and backward passes; only sums are stored."""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch

from lsgcli.analysis import cpu
from lsgcli.analysis.dynamics import Block, Dynamics, Passage, blocks, laid
from lsgcli.analysis.sums import Counted, LayerSums, count
from lsgcli.neurons.step import over_time


class Watcher(ABC):
    """Observes one layer and accumulates its sums, until it is closed.

    Args:
        sums: the sums to accumulate.
        full: accumulate all sums; otherwise only spikes and coverage, as during training.

    Attributes:
        spatial: while true, backward passes omit the recurrence u[t-1] -> u[t]: dL/du[t] = dL/do[t] * h[t].
        T: number of timesteps of the current batch.
    """

    spatial = False
    T = 0

    def __init__(self, sums: LayerSums, full: bool):
        self.sums, self.full = sums, full

    @abstractmethod
    def finish(self) -> None:
        """Called after the forward and, with ``full``, backward pass of a batch."""

    @abstractmethod
    def close(self) -> None:
        """Restore the layer."""

    def note(self, p: Dynamics, passage: Passage) -> None:
        """Record the current dynamics, and allocate per-neuron statistics."""
        first = passage.x[0]
        self.sums.beta, self.sums.threshold = p.decay.detach(), p.threshold
        self.sums.alpha = over_time(p.width.detach(), first.dim() + 1).flatten(1).mean(1)
        if self.full:
            self.sums.neurons(laid(first[None]).shape[2:], first.device)

    @torch.no_grad()
    def count_forward(self, passage: Passage) -> None:
        """Add a forward pass to the sums."""
        self.note(passage.p, passage)
        known = cpu.fits(passage)
        for counted in [cpu.count(passage, None, full=self.full)] if known else blocks(passage, self._counted):
            self.sums.take(counted)

    def _counted(self, block: Block) -> Counted:
        return replace(count(block, full=self.full), h=None)
