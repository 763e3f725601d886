"""The training loop. It reads from top to bottom; whoever calls it gets a stream of records through ``emit``.

Order, augmentation and learning rate are pure functions of (seed, epoch, step, sample), so a checkpoint stores where the loop
stood and nothing else: going on from it gives the same bits as never having stopped.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lsgcli import checkpoint, files, models, registry
from lsgcli.analysis import gradflow
from lsgcli.analysis.observe import observing
from lsgcli.checkpoint import Checkpoint
from lsgcli.compute import Compute, full_precision
from lsgcli.config import RunConfig
from lsgcli.data.batches import Batch, Batches, batches
from lsgcli.data.prepare import DataBundle, Split
from lsgcli.errors import CheckpointError, DataError, DivergedError, Stopped
from lsgcli.models.base import SpikingNet
from lsgcli.rundir import RunDir
from lsgcli.training.evaluate import evaluate
from lsgcli.training.optim import Optimizers, cosine
from lsgcli.training.signals import StopRequest

Emit = Callable[[dict[str, Any]], None]


@dataclass
class State:
    """Where a run stands: the next step is number ``step`` of epoch ``epoch``, both from 0."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0  # of this epoch's steps so far, each times its batch size
    right: int = 0
    seen: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = -1
    seconds: float = 0.0  # of this epoch so far

    def next_epoch(self) -> None:
        """Move to the first step of the next epoch."""
        self.epoch += 1
        self.step = self.right = self.seen = 0
        self.loss_sum = self.seconds = 0.0


def new_model(config: RunConfig, classes: int, channels: int, height: int | None = None) -> SpikingNet:
    """The network that ``config`` describes for data of so many classes, channels and rows; weights follow from the seed alone."""
    torch.manual_seed(config.seed)
    return models.build(
        config.arch,
        method=config.method,
        T=config.T,
        num_classes=classes,
        in_channels=channels,
        input_size=config.size,
        input_height=None if height == config.size else height,
        width_multiplier=config.width_multiplier,
        residual=config.residual,
        decay=config.decay,
        threshold=config.threshold,
        width=config.width,
        surrogate=config.surrogate,
        backend=config.backend,
    )


class Trainer:
    """One run, from its first step or from its last checkpoint to its end.

    Args:
        config: complete settings.
        bundle: prepared data.
        compute: device and precision.
        run: an open run directory.
        emit: receives a record at the start, after every step, epoch and checkpoint, and at the end.
        stop: looked at between two steps.
        resume: go on from ``last.safetensors``.
    """

    def __init__(
        self,
        config: RunConfig,
        bundle: DataBundle,
        compute: Compute,
        run: RunDir,
        emit: Emit,
        stop: StopRequest,
        resume: bool = False,
    ):
        self.config, self.bundle, self.compute, self.run, self.emit, self.stop = config, bundle, compute, run, emit, stop
        assert bundle.train is not None
        self.train_split: Split = bundle.train
        self.chosen_on = "val" if bundle.val is not None else "test"  # the split that "best" is chosen on
        self.eval_split: Split = bundle.val if bundle.val is not None else bundle.test
        self.loss = registry.get("loss", config.loss)
        self.model = new_model(config, len(bundle.classes), bundle.channels, bundle.height).to(compute.device)
        self.optimizers = Optimizers(self.model, config)
        self.state = State()
        self.steps = len(self._batches())  # of an epoch
        if resume:
            if run.last.exists():
                self._restore()
            run.trim(self.state.epoch)

    def train(self) -> dict[str, Any]:
        """Run to the end.

        Returns:
            The final record: ``accuracy`` of the checkpoint to use, of ``last`` and of ``best``, and what chose it.

        Raises:
            Stopped: a signal came; the state is saved.
            DivergedError: loss or gradient became NaN or infinite; the weights are as before that step (running statistics have
            seen its batch).
        """
        config, state = self.config, self.state
        steps = self.steps
        self.emit({"event": "start", "run": str(self.run.path), "epochs": config.epochs, "steps": steps, "epoch": state.epoch})
        while state.epoch < config.epochs:
            begin = time.perf_counter() - state.seconds
            flow: list[dict[str, Any]] = []
            for batch in self._batches(start=state.step):
                if self.stop:
                    state.seconds = time.perf_counter() - begin
                    self._save_last()
                    raise Stopped(
                        f"stopped by {self.stop.signal_name}; saved {self.run.last}",
                        hint=f"Go on with: lsg train --resume {self.run.path}",
                    )
                rate = cosine(state.epoch * steps + batch.index, config.epochs * steps)
                flow = self._step(batch, rate, observe=batch.index == steps - 1)
                state.step = batch.index + 1
                self.emit(
                    {
                        "event": "step",
                        "epoch": state.epoch,
                        "step": state.step,
                        "steps": steps,
                        "loss": state.loss_sum / state.seen,
                    }
                )
            self._end_epoch(rate, flow, begin)
        return self._end()

    def _batches(self, start: int = 0) -> Batches:
        config = self.config
        return batches(
            self.bundle,
            self.train_split,
            config.batch_size,
            seed=config.seed,
            epoch=self.state.epoch,
            start=start,
            shuffle=True,
            drop_last=True,
            augment=config.augment,
            workers=config.workers,
        )

    def _step(self, batch: Batch, rate: float, observe: bool) -> list[dict[str, Any]]:
        """One step of the optimisers; where asked, also the light gradient-flow record of this very step."""
        layers = self.model.spiking_layers()
        self.model.train()
        with observing({layer.name: layer.lif for layer in layers} if observe else {}, full=False) as sums:
            with self.compute.autocast():
                logits = self.model(batch.x.to(self.compute.device))
            labels = batch.y.to(self.compute.device)
            loss: Tensor = self.loss(full_precision(logits), labels, self.config)
            loss.backward()
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            self._diverged(batch, loss.item(), norm.item())
        flow = gradflow.light_record(layers, sums) if observe else []
        if self.config.clip_grad:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.config.clip_grad, norm)
        self.optimizers.step(rate)
        self.optimizers.zero_grad()
        self.state.loss_sum += loss.item() * len(labels)
        self.state.right += int((logits.detach().mean(0).argmax(1) == labels).sum())
        self.state.seen += len(labels)
        return flow

    def _end_epoch(self, rate: float, flow: list[dict[str, Any]], begin: float) -> None:
        """Evaluate, write the epoch's records and checkpoints, and move on to the next epoch."""
        state, config = self.state, self.config
        result = self._evaluate(self.eval_split)
        is_best = result.accuracy >= state.best_accuracy  # of equals the later, which has seen more
        if is_best:
            state.best_accuracy, state.best_epoch = result.accuracy, state.epoch
        record = {
            "epoch": state.epoch,
            "train_loss": state.loss_sum / state.seen,
            "train_accuracy": state.right / state.seen,
            f"{self.chosen_on}_accuracy": result.accuracy,
            f"{self.chosen_on}_loss": result.loss,
            "lr": config.lr * rate,
            "seconds": round(time.perf_counter() - begin, 3),
        }
        files.append_json_line(self.run.metrics_file, record)
        files.append_json_line(self.run.gradient_flow_file, {"epoch": state.epoch, "layers": flow})
        state.next_epoch()
        if is_best:
            checkpoint.save(self.run.best, self._checkpoint({}))
        self._save_last()
        self.emit({"event": "epoch", **record, "best": is_best, "layers": flow})

    def _evaluate(self, split: Split) -> Any:
        return evaluate(
            self.model, split, self.bundle, self.compute, batch_size=self.config.batch_size, workers=self.config.workers
        )

    def _end(self) -> dict[str, Any]:
        """Accuracies on the test set, of the last epoch and of the best. Only a validation split may choose between them."""
        last = self._evaluate(self.bundle.test).accuracy
        self.model.load_state_dict(dict(checkpoint.read(self.run.best).weights))
        best = self._evaluate(self.bundle.test).accuracy
        use_best = self.chosen_on == "val"
        if not use_best:  # leave the model with the weights of the checkpoint that is the result
            self.model.load_state_dict(dict(checkpoint.read(self.run.last).weights))
        return {
            "event": "end",
            "run": str(self.run.path),
            "checkpoint": str(self.run.best if use_best else self.run.last),
            "accuracy": best if use_best else last,
            "test_accuracy_last": last,
            "test_accuracy_best": best,
            "best_epoch": self.state.best_epoch,
            "best_chosen_on": self.chosen_on,
        }

    def _checkpoint(self, extra: Mapping[str, Tensor]) -> Checkpoint:
        bundle, config = self.bundle, self.config
        data = {
            "channels": bundle.channels,
            "static": bundle.static,
            "mean": bundle.mean,
            "std": bundle.std,
            "samples": bundle.digest(),
            **bundle.info,
        }
        # Where files lie is this machine's business, and a checkpoint travels.
        settings = config.replace(data_dir=None, cache_dir=None).to_dict()
        described = checkpoint.describe(self.model, config.arch)
        return Checkpoint(
            weights=self.model.state_dict(),
            config={**described, "classes": list(bundle.classes), "settings": settings, "data": data},
            state={**dataclasses.asdict(self.state), "best_chosen_on": self.chosen_on},
            extra=extra,
        )

    def _save_last(self) -> None:
        checkpoint.save(self.run.last, self._checkpoint({**self.optimizers.tensors(), "rng/torch": torch.get_rng_state()}))
        self.emit({"event": "checkpoint", "path": str(self.run.last), "epoch": self.state.epoch, "step": self.state.step})

    def _restore(self) -> None:
        content = checkpoint.read(self.run.last)
        if content.config["data"]["samples"] != self.bundle.digest():
            raise DataError(
                f"{self.run.path}: found other training samples, validation split or preparation than the run began with",
                hint="Give --data-dir the same data, or start a new run.",
            )
        known = {field.name for field in dataclasses.fields(State)}
        try:
            self.model.load_state_dict(dict(content.weights))
            self.optimizers.load(content.extra)
            torch.set_rng_state(content.extra["rng/torch"])
            self.state = State(**{key: value for key, value in content.state.items() if key in known})
        except (RuntimeError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self.run.last}: cannot be resumed here: {error}", hint="Start the run anew with --force."
            ) from error

    def _diverged(self, batch: Batch, loss: float, norm: float) -> None:
        """Write the gradient flow of this very batch, save the weights from before the step, and give up."""
        state, config = self.state, self.config
        table = gradflow.measure(self.model, [batch], lambda y, labels: self.loss(y, labels, config), self.compute)
        line = {
            "event": "diverged",
            "epoch": state.epoch,
            "step": batch.index,
            **table,
            "loss": str(loss),
            "grad_norm": str(norm),
        }
        files.append_json_line(self.run.gradient_flow_file, line)
        checkpoint.save(self.run.path / "diverged.safetensors", self._checkpoint({}))
        self.emit({"event": "diverged", "epoch": state.epoch, "step": batch.index, "table": table})
        raise DivergedError(
            f"epoch {state.epoch}, step {batch.index}: loss {loss:g}, gradient norm {norm:g}; no step was taken",
            hint=f"The gradient flow of that moment is in {self.run.gradient_flow_file}. Try a smaller --lr, or --clip-grad 1.",
        )
