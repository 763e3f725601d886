"""Watching layers of neurons while a network runs forward and backward; only sums are kept."""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch

from lsgcli.analysis import cpu
from lsgcli.analysis.dynamics import Block, Dynamics, Passage, blocks, laid
from lsgcli.analysis.sums import Counted, LayerSums, count
from lsgcli.neurons.step import over_time


class Watcher(ABC):
    """Watches one layer and fills its sums, until it is closed.

    Args:
        sums: are filled.
        full: all sums; otherwise spikes and coverage only, for a glance in the middle of training.

    Attributes:
        spatial: while it is set, backward passes leave out the recurrence u[t-1] -> u[t]: dL/du[t] = dL/do[t] * h[t].
        T: timesteps of the batch that is under way.
    """

    spatial = False
    T = 0

    def __init__(self, sums: LayerSums, full: bool):
        self.sums, self.full = sums, full

    @abstractmethod
    def finish(self) -> None:
        """A batch went through: forward and, with ``full``, backward."""

    @abstractmethod
    def close(self) -> None:
        """Leave the layer as it was."""

    def note(self, p: Dynamics, passage: Passage) -> None:
        """Keep what the neurons are like now, and make room for them."""
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
