"""The training loop, which reports its progress as a stream of records through ``emit``.

Order, augmentation and learning rate are pure functions of (seed, epoch, step, sample), so a checkpoint stores only the position of
the loop, and a resumed run is bit-identical to an uninterrupted one.

The loop does not wait for the device in each step: sums stay on the device and are read periodically. Whether a step was finite is
checked during the next step; the device has skipped the update if it was not. (On a CPU the check is immediate.)
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from lsgcli import models
from lsgcli.analysis import gradflow, lif_watchers
from lsgcli.analysis.advice import findings
from lsgcli.analysis.rules.base import Evidence
from lsgcli.analysis.watchers import watching
from lsgcli.config.resolve import usual
from lsgcli.config.run import PATHS, RunConfig, option_words
from lsgcli.data.batches import Batch, Batches, batches
from lsgcli.data.bundle import DataBundle, Split
from lsgcli.data.mixing import Mixing
from lsgcli.errors import CheckpointError, ConfigError, DataError, DivergedError, Stopped
from lsgcli.models import crossings
from lsgcli.models.base import NetworkSpec, Sizes, SpikingNet
from lsgcli.store import checkpoint, hub
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.store.rundir import DIVERGED, RunDir, RunFiles
from lsgcli.system import memory
from lsgcli.system.device import Compute, tell_faster
from lsgcli.training.distributed import ALONE, Group
from lsgcli.training.ema import ExponentialMovingAverage
from lsgcli.training.evaluate import Evaluation, evaluate
from lsgcli.training.freeze import freeze
from lsgcli.training.initialise import Sources, initialise
from lsgcli.training.losses import observed_backbone, of_run
from lsgcli.training.optim import Optimizers, schedule
from lsgcli.training.signals import StopRequest, reason
from lsgcli.training.step import gradients

Emit = Callable[[dict[str, Any]], None]
LOSS_INTERVAL = 0.2  # seconds between reads of the loss on an asynchronous device


@dataclass
class State:
    """Position of a run: the next step is ``step`` of epoch ``epoch``, both counted from 0; after the last step, the evaluation."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0  # over this epoch's samples so far
    right: int = 0
    seen: int = 0
    best_accuracy: float = -1.0
    best_epoch: int = -1
    better_epoch: int = -1  # the last with a better accuracy than all before it; ``best_epoch`` may have an equal one
    seconds: float = 0.0  # elapsed in this epoch
    waited: float = 0.0  # of ``seconds``, spent waiting for data
    overflows: int = 0  # of gradients in fp16, in consecutive steps
    averages_first: bool = True  # whether running statistics are averages at first; False for runs of versions without
    flow: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # light record of the epoch's last step, until its end
    extended: list[list[int]] = dataclasses.field(default_factory=list)  # [epoch, epochs planned until then] of each extension
    crossings: dict[str, list[float]] = dataclasses.field(
        default_factory=dict
    )  # of convolutions by spikes, see models.crossings

    def next_epoch(self) -> None:
        """Advance to the first step of the next epoch."""
        self.epoch += 1
        self.step = self.right = self.seen = 0
        self.loss_sum = self.seconds = self.waited = 0.0
        self.flow = []


class PendingStep(NamedTuple):
    """A step whose results have not been read; they are equal in all processes.

    Attributes:
        batch: its index.
        read: waits for the results: whether it diverged, loss, gradient norm, and the code of a request to stop, or 0.
    """

    batch: int
    read: Callable[[], list[float]]


def new_model(
    config: RunConfig, classes: int, channels: int, height: int | None = None, last: Path | None = None
) -> SpikingNet:
    """The network described by ``config`` for the given data; its weights depend only on the seed.

    Args:
        last: checkpoint of the run, if it is resumed, in place of ``--init-from``, for the graph of the network ``nir``.
    """
    torch.manual_seed(config.seed)
    sizes = Sizes(
        T=config.T,
        num_classes=classes,
        in_channels=channels,
        input_size=config.size,
        input_height=None if height == config.size else height,
    )
    model = models.create(NetworkSpec.of(config, config, sizes, _graph(config, last)))
    model.save_memory(config.memory_level == "bits")
    if config.freeze is not None:
        freeze(model, config.freeze)
    return model


def _graph(config: RunConfig, last: Path | None) -> str | None:
    if config.arch != "nir" or not (source := last or config.init_from):
        return None
    with torch.device("cpu"):  # also where a network of shapes alone is built
        return checkpoint.read_config(hub.local(source))["model"].get("graph")  # type: ignore[no-any-return]


class Trainer:
    """A training run, started or resumed.

    Args:
        config: complete settings.
        bundle: prepared data.
        compute: device and precision.
        run: an open run directory, which is continued from ``last.safetensors`` if it is resumed; in processes other than rank 0, only its
            paths.
        emit: receives a record at the start, after every step, epoch and checkpoint, and at the end.
        stop: checked between steps.
        group: the processes that share each batch; only rank 0 writes files.
    """

    def __init__(
        self,
        config: RunConfig,
        bundle: DataBundle,
        compute: Compute,
        run: RunDir | RunFiles,
        emit: Emit,
        stop: StopRequest,
        group: Group = ALONE,
    ):
        self.group = group
        self.config, self.bundle, self.compute, self.run, self.emit, self.stop = config, bundle, compute, run, emit, stop
        self.train_split = bundle.named("train")
        self.chosen_on = "val" if bundle.val is not None else "test"  # the split that selects the best epoch
        split = bundle.val if bundle.val is not None else bundle.test
        if split is None:
            raise DataError("found neither validation nor test samples, expected some", hint="Increase --val-fraction.")
        if config.patience is not None and bundle.val is None:
            raise ConfigError(
                f"patience: found {config.patience} without validation samples, expected a validation split",
                hint="Increase --val-fraction, or omit --patience: the test part must not select the epoch.",
            )
        self.eval_split: Split = split
        self.loss = of_run(config, self.train_split.y, len(bundle.classes))
        last = run.last if run.resumed and run.last.exists() else None
        self.model = new_model(config, len(bundle.classes), bundle.channels, bundle.height, last).to(compute.device)
        self.optimizers = Optimizers(self.model, config, GradScaler(compute.device.type, enabled=compute.precision == "fp16"))
        self.state = State()
        # Sums of loss and correct predictions of this process that are not yet in the state.
        self.sums = torch.zeros(2, dtype=torch.float64, device=compute.device)
        self.overflows = torch.zeros((), dtype=torch.int32, device=compute.device)  # as in the state
        self.agreed_stop = 0  # code of a request to stop, in any process
        self.pending: PendingStep | None = None
        self.observed: Callable[[], list[dict[str, Any]]] | None = None  # reads the light record of the last step
        self.first = True  # step of this process, which alone needs some memory
        self.steps = len(self._batches())  # per epoch
        self.sources: Sources = {}  # data that the network took from other checkpoints
        self.average: ExponentialMovingAverage | None = None
        self.tested: Evaluation | None = None  # of the resulting checkpoint, at the end
        if last is not None:
            self._restore()
        else:
            self.sources = initialise(self.model, config, bundle.classes)
            self.state.crossings = group.agree("crossings", lambda: crossings.of_network(self.model, compute))
            self.average = ExponentialMovingAverage(self.model, config.ema) if config.ema else None
        compute.convolutions.crossings.update(self.state.crossings)
        if run.resumed and isinstance(run, RunDir):
            run.trim(self.state.epoch)
        if group.size > 1 and config.sync_norm:
            self.model.synchronise(group.gather)
        self.net = group.wrap(self.model)

    def train(self) -> dict[str, Any]:
        """Run to the end.

        Returns:
            The final record: test ``accuracy`` of the resulting checkpoint, of ``last`` and ``best`` (None without a test part), the
            split that selected "best", and ``best_accuracy`` on it. After a training in another precision than fp32, each of them is also
            there in fp32, as in ``accuracy_fp32``.

        Raises:
            Stopped: a signal was received, or the time is up; the state is saved.
            DivergedError: loss or gradient became NaN or infinite; the weights are those before that step (running statistics
            include its batch).
        """
        config, state = self.config, self.state
        steps = self.steps
        begun = {"run": str(self.run.path), "epochs": config.epochs, "steps": steps, "epoch": state.epoch}
        computing = self.compute.described() + (f", {self.group.size} processes" if self.group.size > 1 else "")
        self.emit({"event": "start", **begun, "computing": computing, "sources": self.sources})
        self.group.agree(f"epoch {state.epoch}", bool)  # others wait for what only rank 0 does, however long it takes
        while not self.is_over:
            for network in [self.model, self.average.model] if self.average else [self.model]:
                network.begin_epoch(state.epoch, config.epochs)  # a schedule is not averaged: it would lag behind
            begin, read, loss = time.perf_counter() - state.seconds, 0.0, 0.0
            for batch in self._waited_for(self._batches(start=state.step)):
                if code := self.stop.code if self.group.size == 1 else self.agreed_stop:
                    state.seconds = time.perf_counter() - begin
                    self._save_last()
                    raise self._stopped(code)
                with self.stop.timing("step"):
                    self.observed = self._step(batch, self._rate(batch.index), observe=batch.index == steps - 1)
                state.step = batch.index + 1
                if not self.compute.runs_ahead or time.perf_counter() - read > LOSS_INTERVAL:
                    self._settle()
                    loss, read = state.loss_sum / state.seen, time.perf_counter()
                self.emit({"event": "step", "epoch": state.epoch, "step": state.step, "steps": steps, "loss": loss})
            self._end_epoch(begin)
        # In the last step, which no other step follows, or of several processes also in the evaluation after it.
        if code := int(self.group.gather(self.sums.new_full((), self.stop.code)).max()):
            raise self._stopped(code)
        return self._end()

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or so many without a better accuracy that ``patience`` ends the run."""
        config, state = self.config, self.state
        waited = state.epoch - 1 - state.better_epoch
        return state.epoch >= config.epochs or (config.patience is not None and waited >= config.patience)

    def _rate(self, step: int) -> float:
        """Factor of the learning rates in a step of this epoch."""
        return schedule(self.state.epoch * self.steps + step, self.steps, self.config)

    def _waited_for(self, stream: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, with the time spent waiting for them added to the state."""
        begin = time.perf_counter()
        for batch in stream:
            self.state.waited += time.perf_counter() - begin
            yield batch
            begin = time.perf_counter()

    def _batches(self, start: int = 0) -> Batches:
        config = self.config
        return batches(
            self.bundle,
            self.train_split,
            config.batch_size,
            seed=config.seed,
            epoch=self.state.epoch,
            start=start,
            shuffle=config.overfit is None,
            drop_last=True,
            augment=config.augment if config.overfit is None else "none",
            mixing=Mixing.of(config, self.state.epoch, len(self.bundle.classes)) if config.overfit is None else None,
            workers=config.workers,
            parts=config.accumulate,
            share=(self.group.rank, self.group.size),
        )

    def _stopped(self, code: int) -> Stopped:
        """The error of a run whose state is saved."""
        hint = f"Continue with the same command if it has --out, or with: lsg train --resume {self.run.path}"
        return Stopped(f"{reason(code)}; saved {self.run.last}", hint=hint)

    def _step(self, batch: Batch, rate: float, observe: bool) -> Callable[[], list[dict[str, Any]]]:
        """One optimiser step; returns a function that reads its light gradient-flow record, which is empty without ``observe``."""
        layers = lif_watchers.layers(self.model) if observe else []
        self.model.train()
        with watching(layers, full=False) as observed:
            sums = gradients(self.net, batch, self.config, self.compute, self.group, self.optimizers.scaled, self.loss)
        self.optimizers.unscale()
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        requested = sums.new_full((), self.stop.code)  # a copy from the host would wait for the device
        every = self.group.gather(torch.stack([*sums, requested]))
        n = batch.total or len(batch.y)
        norm, loss = torch.nn.utils.get_total_norm(grads), every[:, 0].sum() / n
        self._check_finite()
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        # In fp16, some overflows of gradients only skip a step, after which the loss is scaled less.
        self.overflows = torch.where(finite, 0, self.overflows + 1)
        diverged = ~finite & (~torch.isfinite(loss) | (self.overflows > self.compute.overflows))
        results = torch.stack([x.double() for x in (diverged, loss, norm, every[:, 2].max())])
        self.pending = PendingStep(batch.index, self.compute.later(results))
        if not self.compute.runs_ahead:
            self._check_finite()
        for watcher in observed.values():
            watcher.sums.gather(self.group.gather)
        flow = gradflow.light_record(layers, observed)
        if self.config.clip_grad:
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), self.config.clip_grad, norm)
        self.optimizers.step(rate, skip=~finite)
        self.model.end_step(skip=~finite)
        if self.average:
            self.average.update(self.model, skip=~finite)
        self.optimizers.zero_grad()
        if self.first:
            self.first = False
            memory.release_unused()
        self.sums += torch.where(diverged, 0, every[:, :2].sum(0))
        self.state.seen += n
        return flow

    def _check_finite(self) -> None:
        """Check whether the previous step was finite."""
        step, self.pending = self.pending, None
        if step is None:
            return
        diverged, loss, norm, code = step.read()
        if diverged:
            found = f"loss {loss:g}, gradient norm {norm:g}, expected finite values; the weights were not updated"
            self._diverged(step.batch, f"step {step.batch + 1}: found {found}", {"loss": loss, "grad_norm": norm})
        self.agreed_stop = int(code) if self.group.size > 1 else 0

    def _settle(self) -> None:
        """Update the state with what is on the device."""
        self._check_finite()
        if self.observed is not None:
            self.state.flow, self.observed = self.observed(), None
        loss, right = self.sums.tolist()
        self.state.loss_sum += loss
        self.state.right += int(right)
        self.state.overflows = int(self.overflows)
        self.sums.zero_()

    def _end_epoch(self, begin: float) -> None:
        """Evaluate, write the epoch's records and checkpoints, and advance to the next epoch."""
        self._settle()
        state, config, flow = self.state, self.config, self.state.flow
        state.seconds = time.perf_counter() - begin
        for layer in self.model.spiking_layers():
            layer.lif.check_width(config.T)
        data_wait = state.waited / state.seconds
        result = self._evaluate(self.eval_split, self.network)
        if not math.isfinite(result.loss):
            name = f"{self.chosen_on}_loss"
            self._diverged(0, f"evaluation: found {name} {result.loss:g}, expected a finite value", {name: result.loss})
        if result.accuracy > state.best_accuracy:
            state.better_epoch = state.epoch
        is_best = result.accuracy >= state.best_accuracy  # of equals, the later
        if is_best:
            state.best_accuracy, state.best_epoch = result.accuracy, state.epoch
        record = {
            "epoch": state.epoch,
            "train_loss": state.loss_sum / state.seen,
            "train_accuracy": state.right / state.seen,
            f"{self.chosen_on}_accuracy": result.accuracy,
            f"{self.chosen_on}_loss": result.loss,
            **{f"{self.chosen_on}_{name}": average for name, average in result.averages().items()},
            "firing_rate": sum(layer["firing_rate"] for layer in flow) / max(1, len(flow)),
            "lr": config.lr * self._rate(self.steps - 1),
            "seconds": round(time.perf_counter() - begin, 3),
            "data_wait": round(data_wait, 4),
        }
        if self.average:
            record[f"raw_{self.chosen_on}_accuracy"] = self._evaluate(self.eval_split, self.model).accuracy
        if self.group.is_main:
            self.run.append(self.run.metrics_file, record)
            self.run.append(self.run.gradient_flow_file, {"epoch": state.epoch, "layers": flow})
        state.next_epoch()
        if is_best and self.group.is_main:
            checkpoint.save(self.run.best, self._checkpoint({}))
        self._save_last()
        self.emit({"event": "epoch", **record, "best": is_best, "layers": flow})
        if state.epoch == 1 and self.group.is_main:
            tell_faster(self.compute, record["seconds"] * (config.epochs - 1))
        self.group.agree(f"epoch {state.epoch}", bool)

    @property
    def network(self) -> SpikingNet:
        """The network of the run: the averaged one with ``--ema``, otherwise the trained one."""
        return self.average.model if self.average else self.model

    def _evaluate(self, split: Split, model: SpikingNet, compute: Compute | None = None) -> Evaluation:
        """Each process evaluates some of the samples; a request to stop is met after a batch, unless there are other processes."""
        if not self.config.sync_norm:
            self.group.equalise(model)
        own = split if self.group.size == 1 else split.part(np.arange(self.group.rank, len(split), self.group.size))
        config = self.config

        def check_stop(done: int, total: int) -> None:
            if done < total and self.group.size == 1 and (code := self.stop.code):
                if not self.is_over:  # after the last epoch, everything is saved
                    self._save_last()
                raise self._stopped(code)

        with self.stop.timing("evaluation"):
            result = evaluate(
                model,
                own,
                self.bundle,
                compute or self.compute,
                batch_size=config.batch_size,
                workers=config.workers,
                progress=check_stop,
            )
        return result if own is split else result.gathered(lambda x: self.group.gather(x.to(self.compute.device)).cpu())

    def _end(self) -> dict[str, Any]:
        """Test accuracy of the last and of the best epoch, in the precision of the training and in fp32.

        Only a validation split may select between them.
        """
        use_best = self.chosen_on == "val"
        precisions = {"": self.compute}
        if self.compute.precision != "fp32":
            precisions["_fp32"] = dataclasses.replace(self.compute, precision="fp32")
        test, network, accuracies = self.bundle.test, self.network, dict[str, float | None]()
        for epoch in ("last", "best"):
            if epoch == "best":
                network = self.model
                network.load_state_dict(dict(checkpoint.read(self.run.best).weights))
            is_result = (epoch == "best") == use_best
            for suffix, compute in precisions.items():
                tested = None if test is None else self._evaluate(test, network, compute)
                accuracy = None if tested is None else tested.accuracy
                accuracies[f"test_accuracy_{epoch}{suffix}"] = accuracy
                if is_result:
                    accuracies[f"accuracy{suffix}"] = accuracy
                if is_result and compute is self.compute:
                    self.tested = tested
        accuracies["best_accuracy"] = self.state.best_accuracy
        if "_fp32" in precisions:
            chosen = self._evaluate(self.eval_split, network, precisions["_fp32"])
            accuracies["best_accuracy_fp32"] = chosen.accuracy
        if not use_best:  # restore the weights of the resulting checkpoint
            self.model.load_state_dict(dict(checkpoint.read(self.run.last).weights))
        return {
            "event": "end",
            "run": str(self.run.path),
            "checkpoint": str(self.run.best if use_best else self.run.last),
            **accuracies,
            **(self.tested.averages() if self.tested else {}),
            "best_epoch": self.state.best_epoch,
            "best_chosen_on": self.chosen_on,
            "epochs_planned": self.config.epochs,
            "epochs_done": self.state.epoch,
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
        # A checkpoint is portable: it stores no paths of this machine.
        settings = config.replace(**dict.fromkeys(PATHS), precision=self.compute.precision).to_dict()
        described = checkpoint.describe(self.model)
        trained = {f"raw/{name}": value for name, value in self.model.state_dict().items()} if self.average else {}
        return Checkpoint(
            weights=self.network.state_dict(),
            config={**described, "classes": list(bundle.classes), "settings": settings, "data": data, "sources": self.sources},
            state={**dataclasses.asdict(self.state), "best_chosen_on": self.chosen_on},
            extra={**extra, **trained},
        )

    def _save_last(self) -> None:
        self._settle()
        if not self.group.is_main:
            return
        with self.stop.timing("checkpoint"):
            checkpoint.save(self.run.last, self._checkpoint({**self.optimizers.tensors(), "rng/torch": torch.get_rng_state()}))
        self.emit({"event": "checkpoint", "path": str(self.run.last), "epoch": self.state.epoch, "step": self.state.step})

    def _restore(self) -> None:
        content = checkpoint.read(self.run.last)
        if content.config["data"]["samples"] != self.bundle.digest():
            raise DataError(
                f"{self.run.path}: found other training samples, validation split or preparation than those of the run",
                hint="Pass the original data to --data-dir, or start a new run.",
            )
        checkpoint.check_finite(content.weights, self.model, self.run.last)
        known = {field.name for field in dataclasses.fields(State)}
        try:
            self.model.load_state_dict(dict(content.weights))
            if self.config.ema:
                self.average = ExponentialMovingAverage(self.model, self.config.ema)
                trained = {name.removeprefix("raw/"): x for name, x in content.extra.items() if name.startswith("raw/")}
                self.model.load_state_dict(trained)
            self.sources = content.config.get("sources", {})
            self.optimizers.load(content.extra)
            torch.set_rng_state(content.extra["rng/torch"])
            stored = {key: value for key, value in content.state.items() if key in known}
            self.state = State(**{"averages_first": False, **stored})
            if not self.state.averages_first:  # the same bits as in the version that began the run
                self.model.end_warm_up()
            self.overflows.fill_(self.state.overflows)
            if (planned := content.config["settings"]["epochs"]) != self.config.epochs:
                self.state.extended.append([self.state.epoch, planned])
        except (RuntimeError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self.run.last}: cannot be resumed: {error}", hint="Restart the run with --force."
            ) from error

    def _diverged(self, index: int, problem: str, values: Mapping[str, float]) -> None:
        """Record the gradient flow of a batch and the values that are not finite, save the current weights, and raise an error."""
        state = self.state
        message, flow = f"epoch {state.epoch + 1}, {problem}", None  # records count from 0
        if self.group.is_main:
            flow = memory.if_it_fits(lambda: self._inspect(index))
        table = flow or {"layers": []}
        settings = self.config.to_dict()
        (found, *_) = findings(Evidence(table, settings, usual(self.config.dataset), diverged=True))
        options = " ".join(word for name, own in found["remedy"]["settings"].items() for word in option_words(name, own))
        cause = f"{found['remedy']['text']} Try {options}."
        if self.group.is_main:
            where = {"event": "diverged", "epoch": state.epoch, "step": index}
            self.run.append(self.run.gradient_flow_file, {**where, **table, **{k: str(v) for k, v in values.items()}})
            checkpoint.save(self.run.path / DIVERGED, self._checkpoint({}))
            self.emit({**where, "message": message, "cause": cause, "table": table})
        raise DivergedError(message, hint=f"{cause} The gradient flow of this batch is in {self.run.gradient_flow_file}.")

    def _inspect(self, index: int) -> dict[str, Any]:
        """The gradient flow of a whole batch, in this process alone."""
        batch = self._batches().whole().batch(index)
        with observed_backbone(self.model, self.config):
            return gradflow.inspect(self.model, [batch], loss=self.loss, compute=self.compute)
