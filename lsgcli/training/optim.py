"""Optimisers: one for the weights, and a separate Adam for the parameters of the neurons.

dL/db of a decay parameter is about 1e-4 to 1e-3: SGD with the weights' learning rate moves b by 1e-4 per step, so the decay hardly
changes in whole epochs. Adam moves b by about its learning rate per step, so ``decay_lr`` times the number of steps bounds the change of
b.
"""

import copy
import inspect
import math

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from lsgcli.config.training import TrainingConfig
from lsgcli.models.base import SpikingNet
from lsgcli.neurons import LIF
from lsgcli.store.checkpoint import Tensors
from lsgcli.system.schema import Record


def _without_compiler(kind: type[Optimizer]) -> type[Optimizer]:
    """A torch optimiser without the decorators that import torch's compiler, which takes 1 s and 146 MiB and is not used here.

    ``step`` must run under ``torch.no_grad()``.
    """
    plain = {"add_param_group": inspect.unwrap(Optimizer.add_param_group), "step": inspect.unwrap(kind.step)}
    return type(kind.__name__, (kind,), plain)


SGD = _without_compiler(torch.optim.SGD)
AdamW = _without_compiler(torch.optim.AdamW)
WEIGHT_OPTIMIZERS = {"sgd": SGD, "adamw": AdamW}


class Optimizers:
    """All optimisers of a model.

    Args:
        scaler: scales the loss in fp16, so that small gradients do not vanish.

    Attributes:
        all: the optimiser of the weights, then that of the neurons' parameters if there are any.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, scaler: GradScaler | None = None):
        self.scaler = scaler or GradScaler(enabled=False)
        own = {p for module in model.modules() if isinstance(module, LIF) for p in module.apart()}
        self.names: dict[Tensor, str] = {p: name for name, p in model.named_parameters() if p.requires_grad}
        decayed = [p for p in self.names if p.dim() > 1 and p not in own]
        plain = [p for p in self.names if p.dim() <= 1 and p not in own]
        on_plain = config.weight_decay if config.weight_decay_on == "all" else 0.0
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": on_plain}]
        own_options: Record = {"momentum": config.momentum} if config.optimizer == "sgd" else {}
        self.all = [WEIGHT_OPTIMIZERS[config.optimizer](groups, lr=config.lr, fused=True, **own_options)]  # type: ignore[call-arg]
        if params := [p for p in self.names if p in own]:
            self.all.append(AdamW(params, lr=config.decay_lr, weight_decay=0.0, fused=True))  # type: ignore[call-arg]
        for p in (*decayed, *plain) if config.optimizer == "sgd" and config.momentum else ():
            # Otherwise fused SGD leaves them uninitialised if its first step is skipped.
            self.all[0].state[p]["momentum_buffer"] = torch.zeros_like(p)
        self.lr = [group["lr"] for optimizer in self.all for group in optimizer.param_groups]  # initial learning rates

    def unscale(self) -> None:
        """Undo the scaling in the gradients. Call it once per step, before :meth:`step`."""
        for optimizer in self.all:
            self.scaler.unscale_(optimizer)

    @torch.no_grad()
    def step(self, rate: float, skip: Tensor | None = None) -> None:
        """One step of each optimiser, with learning rates scaled by ``rate``.

        Args:
            skip: 0-dimensional, on the device; if true, no parameter changes. Its value is not synchronised with the host.
        """
        groups = [group for optimizer in self.all for group in optimizer.param_groups]
        for group, lr in zip(groups, self.lr, strict=True):
            group["lr"] = lr * rate
        for optimizer in self.all:
            optimizer.found_inf = None if skip is None else skip.float()  # type: ignore[attr-defined]
            optimizer.step()
        self.scaler.update()

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for p in self.names:
            p.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """Optimiser state of every parameter, as ``optim/<parameter>/<entry>``."""
        state: dict[str, Tensor] = {}
        for optimizer in self.all:
            for p, entries in optimizer.state.items():
                state |= {f"optim/{self.names[p]}/{key}": value for key, value in entries.items()}
        return state | {f"optim/scaler/{name}": torch.tensor(value) for name, value in self.scaler.state_dict().items()}

    def load(self, tensors: Tensors) -> None:
        """Restore the state returned by :meth:`tensors`."""
        scaler = "optim/scaler/"
        if of_scaler := {name.removeprefix(scaler): x.item() for name, x in tensors.items() if name.startswith(scaler)}:
            self.scaler.load_state_dict(of_scaler)
        for optimizer in self.all:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    prefix = f"optim/{self.names[p]}/"
                    for name, value in tensors.items():
                        if name.startswith(prefix):
                            optimizer.state[p][name.removeprefix(prefix)] = _laid_out_like(value, p)


def _laid_out_like(value: Tensor, p: Tensor) -> Tensor:
    """``value`` in p's memory layout: another layout could change the rounding of sums, so resuming would not be exact."""
    if value.shape != p.shape:
        return value.to(p.device, copy=True)
    return torch.empty_like(p, dtype=value.dtype).copy_(value)


def schedule(step: int, steps: int, config: TrainingConfig) -> float:
    """Factor of the learning rates at ``step`` of the run, with ``steps`` per epoch.

    In the warm-up of w epochs, it rises linearly from ``warmup_start`` to 1. After that, with t = step / steps, it is
    ``step_factor`` to the power of floor(t / step_epochs), or

        floor + (1 - floor) (1 + cos(pi t / n)) / 2,      n = epochs - cooldown_epochs,

    and ``lr_floor`` from epoch n on. The cosine starts at t = 0, so it is slightly below 1 at the end of the warm-up, as in timm.
    """
    warmup = config.warmup_epochs * steps
    planned = (config.epochs - config.cooldown_epochs) * steps
    if step < warmup:
        return config.warmup_start + (1 - config.warmup_start) * step / warmup
    if config.schedule == "step":
        return config.step_factor ** (step // (config.step_epochs * steps))
    if step >= planned:
        return config.lr_floor
    return config.lr_floor + (1 - config.lr_floor) * 0.5 * (1 + math.cos(math.pi * step / planned))


class ExponentialMovingAverage:
    """A network whose weights and running statistics e follow those of a trained network, w: e <- d e + (1 - d) w after each step.

    What neurons set at the beginning of an epoch must be equal in both: call ``begin_epoch`` of both.

    Args:
        model: the trained network, from which the average starts.
        decay: d.

    Attributes:
        model: the averaged network.
    """

    def __init__(self, model: SpikingNet, decay: float):
        self.model = copy.deepcopy(model)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: SpikingNet, skip: Tensor) -> None:
        """Include the state after a step of ``model``; if ``skip``, () on the device, is true, nothing changes."""
        for mean, new in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            following = mean.lerp(new, 1 - self.decay) if mean.is_floating_point() else new
            mean.copy_(torch.where(skip, mean, following))
