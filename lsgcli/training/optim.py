"""Optimisers: one for the weights, and an Adam of its own for the neurons' decays.

dL/db of a decay parameter is about 1e-4 to 1e-3: SGD at the weights' learning rate moves b by 1e-4 a step, and the decay stays
where it began through whole epochs. Adam moves b by about its learning rate at every step, so ``decay_lr`` times the number of
steps says how far a decay can go.
"""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from lsgcli.config import RunConfig
from lsgcli.neurons import LIF


class Rule(ABC):
    """An update rule: torch's functional form of it, fused to one pass over memory, with the state that it needs.

    torch's classes around the same functions load its compiler at their first use: a second, and 150 MB, that nothing here needs.

    Args:
        groups: parameters, and their weight decay.
        lr: learning rate.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]], lr: float):
        self.param_groups: list[dict[str, Any]] = [{**group, "lr": lr, "initial_lr": lr} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    @torch.no_grad()
    def step(self, rate: float, skip: Tensor | None) -> None:
        """Update what has a gradient, at ``rate`` times the learning rate; where ``skip`` is 1, nothing changes."""
        for group in self.param_groups:
            group["lr"] = group["initial_lr"] * rate
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self.update(params, group["lr"], group["weight_decay"], skip)

    @abstractmethod
    def update(self, params: list[Tensor], lr: float, weight_decay: float, skip: Tensor | None) -> None:
        """Update these."""


class SGD(Rule):
    """Stochastic gradient descent with momentum: v = momentum v + g, p = p - lr v."""

    def __init__(self, groups: Iterable[Mapping[str, Any]], lr: float, momentum: float):
        super().__init__(groups, lr)
        self.momentum = momentum

    def update(self, params: list[Tensor], lr: float, weight_decay: float, skip: Tensor | None) -> None:
        grads, velocities = [p.grad for p in params], [self.state[p].get("momentum_buffer") for p in params]
        how = {"momentum": self.momentum, "dampening": 0.0, "nesterov": False, "maximize": False}
        sgd(params, grads, velocities, fused=True, found_inf=skip, lr=lr, weight_decay=weight_decay, **how)  # type: ignore[arg-type]
        for p, velocity in zip(params, velocities, strict=True):
            if velocity is not None:
                self.state[p]["momentum_buffer"] = velocity


class Adam(Rule):
    """Adam with torch's usual constants; weight decay is decoupled (AdamW)."""

    def update(self, params: list[Tensor], lr: float, weight_decay: float, skip: Tensor | None) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p] = {"step": torch.zeros((), device=p.device)}
                self.state[p] |= {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
        state = {name: [self.state[p][name] for p in params] for name in ("exp_avg", "exp_avg_sq", "step")}
        adam(
            params,
            [p.grad for p in params],  # type: ignore[misc]
            state["exp_avg"],
            state["exp_avg_sq"],
            [],
            state["step"],
            fused=True,
            found_inf=skip,
            decoupled_weight_decay=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=lr,
            weight_decay=weight_decay,
            eps=1e-8,
            maximize=False,
        )


WEIGHT_OPTIMIZERS = {
    "sgd": lambda groups, config: SGD(groups, config.lr, config.momentum),
    "adamw": lambda groups, config: Adam(groups, config.lr),
}


class Optimizers:
    """All optimisers of a model, stepped together.

    Attributes:
        all: the weights' optimiser, then the decays' where the method learns them.
    """

    def __init__(self, model: nn.Module, config: RunConfig):
        decays = {id(p) for module in model.modules() if isinstance(module, LIF) for p in module.parameters(recurse=False)}
        self.names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
        decayed = [p for p in self.names if p.dim() > 1]
        plain = [p for p in self.names if p.dim() <= 1 and id(p) not in decays]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.weights: Rule = WEIGHT_OPTIMIZERS[config.optimizer](groups, config)
        self.all = [self.weights]
        if decays:
            group = {"params": [p for p in self.names if id(p) in decays], "weight_decay": 0.0}
            self.all.append(Adam([group], config.decay_lr))

    def step(self, rate: float, skip: Tensor | None = None) -> None:
        """One step of each, at ``rate`` times the learning rates that the configuration gives.

        Args:
            skip: 0-dimensional, on the device; where it is true, nothing is changed. Nobody waits for its value.
        """
        for optimizer in self.all:
            optimizer.step(rate, None if skip is None else skip.float())

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.names:
            p.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """State of every parameter, as ``optim/<parameter>/<entry>``."""
        found: dict[str, Tensor] = {}
        for optimizer in self.all:
            for p, entries in optimizer.state.items():
                found |= {f"optim/{self.names[p]}/{key}": value for key, value in entries.items()}
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`tensors` gave."""
        by_parameter: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition("/")
            if kind == "optim":
                parameter, _, key = rest.rpartition("/")
                by_parameter.setdefault(parameter, {})[key] = tensor
        for optimizer in self.all:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    for key, value in by_parameter.get(self.names[p], {}).items():
                        optimizer.state[p][key] = _laid_out_like(value, p)


def _laid_out_like(value: Tensor, p: Tensor) -> Tensor:
    """``value`` in p's memory layout: a sum over another layout could round differently, and resuming would not be exact."""
    if value.shape != p.shape:
        return value.to(p.device, copy=True)
    return torch.empty_like(p, dtype=value.dtype).copy_(value)


def cosine(step: int, steps: int) -> float:
    """Share of the starting learning rate at ``step`` of ``steps``: 1 at the first, towards 0 at the last."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))
