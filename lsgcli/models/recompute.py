"""Activation checkpointing: parts of a network keep only their input in training, and the backward pass computes the rest again.

An input that consists of spikes is kept in bits or bytes. Every result has the same bits as without checkpoints.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lsgcli.neurons.kernels.base import SINGLE_BACKWARD, is_tracing, single_backward
from lsgcli.neurons.kernels.saved import held, saved_compactly
from lsgcli.neurons.layer import Draws
from lsgcli.system.device import CONVOLUTIONS, convolved

INSIDE = ContextVar("INSIDE", default=False)  # whether a checkpoint decides what is saved for backward


def saved(x: Tensor, levels: int | None) -> AbstractContextManager[Any]:
    """Context in which x is saved for backward in bits or bytes; ``levels`` as for :func:`~lsgcli.neurons.kernels.saved.saved_compactly`, if any."""
    if levels is None or is_tracing(x):
        return nullcontext()
    return saved_compactly(x, levels, torch.is_grad_enabled() and not INSIDE.get())


def backward_may_follow(module: nn.Module, x: Tensor) -> bool:
    """Whether a backward pass may follow a call of a module with x, for which less can be kept."""
    return module.training and torch.is_grad_enabled() and not is_tracing(x)


def checkpointed(run: Callable[..., Tensor], uses: Iterable[nn.Module], x: Tensor, levels: int | None, *others: Any) -> Tensor:
    """The output of ``run(x, *others)``, of which only the inputs are kept for the backward pass.

    Args:
        run: a function that computes the same again if it is called again, except for running statistics and measurements.
        uses: the modules that it uses.
        x: its input.
        levels: as for :func:`saved`.
        others: further arguments.
    """
    parts = [part for module in uses for part in module.modules()]
    draws = any(isinstance(part, Draws) and part.draws for part in parts)
    convolutions, single = CONVOLUTIONS.get(), SINGLE_BACKWARD.get()  # their contexts end before the backward pass
    known = held(x)  # of a surrounding context, as in a block whose shortcut is its input
    levels = known.levels if levels is None and known is not None else levels

    @contextmanager
    def computing(again: bool) -> Iterator[None]:
        """Context of the forward pass, or of its repetition, in which modules do not update statistics and measurements."""
        token = INSIDE.set(True)
        for part in parts:
            if hasattr(part, "recomputing"):
                part.recomputing = again  # type: ignore[assignment]
        try:
            with single_backward(single), convolved(convolutions):
                yield
        finally:
            for part in parts:
                if hasattr(part, "recomputing"):
                    part.recomputing = False  # type: ignore[assignment]
            INSIDE.reset(token)

    calls = itertools.count()  # the first is that of the forward pass

    def computed(x: Tensor, *others: Any) -> Tensor:
        with computing(again=next(calls) > 0), saved(x, levels):  # x is another tensor in a repetition
            return run(x, *others)

    with saved(x, levels):
        return checkpoint(computed, x, *others, use_reentrant=False, preserve_rng_state=draws)  # type: ignore[no-any-return]
