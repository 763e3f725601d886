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

import numpy as np
import torch

from lsgcli.analysis import gradflow, lif_watchers
from lsgcli.analysis.advice import findings
from lsgcli.analysis.rules.base import Evidence
from lsgcli.analysis.watchers import watching
from lsgcli.config.resolve import usual
from lsgcli.config.run import RunConfig, option_words
from lsgcli.data.batches import Batch, Batches, Mixing, batches
from lsgcli.data.bundle import DataBundle, Split
from lsgcli.errors import ConfigError, DataError, DivergedError, Stopped
from lsgcli.models.base import SpikingNet
from lsgcli.store import checkpoint
from lsgcli.store.rundir import DIVERGED, RunDir, RunFiles
from lsgcli.system import files, memory
from lsgcli.system.device import Compute, tell_faster
from lsgcli.system.schema import Record
from lsgcli.training.distributed import ALONE, Group
from lsgcli.training.evaluate import Evaluation, evaluate
from lsgcli.training.losses import gradients, of_run
from lsgcli.training.optim import schedule
from lsgcli.training.signals import StopRequest, reason
from lsgcli.training.state import Stored

Emit = Callable[[Record], None]
LOSS_INTERVAL = 0.2  # seconds between reads of the loss on an asynchronous device


class Trainer(Stored):
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
        super().__init__(config, bundle, compute, run, group)
        self.emit = emit
        self.stop = stop
        self.train_split = bundle.named("train")
        if self.chosen_on not in bundle.parts:
            raise DataError("found neither validation nor test samples, expected some", hint="Increase --val-fraction.")
        self.eval_split = bundle.named(self.chosen_on)
        if config.patience is not None and bundle.val is None:
            raise ConfigError(
                f"patience: found {config.patience} without validation samples, expected a validation split",
                hint="Increase --val-fraction, or omit --patience: the test part must not select the epoch.",
            )
        self.loss = of_run(config, self.train_split.y, len(bundle.classes))
        # Sums of loss and correct predictions of this process that are not yet in the state.
        self.sums = torch.zeros(2, dtype=torch.float64, device=compute.device)
        self.overflows = torch.tensor(self.state.overflows, dtype=torch.int32, device=compute.device)
        self.agreed_stop = 0  # code of a request to stop, in any process
        # Index of a step whose results have not been read, and a function that waits for them, equal in all processes: whether it diverged,
        # loss, gradient norm, and the code of a request to stop.
        self.pending: tuple[int, Callable[[], list[float]]] | None = None
        self.observed: Callable[[], list[Record]] | None = None  # reads the light record of the last step
        self.first = True  # step of this process, which alone needs some memory
        self.steps = len(self._batches())  # per epoch
        self.tested: Evaluation | None = None  # of the resulting checkpoint, at the end
        if run.resumed and isinstance(run, RunDir):
            run.trim(self.state.epoch)
        if group.size > 1 and config.sync_norm:
            self.model.synchronise(group.gather)
        self.net = group.wrap(self.model)

    def train(self) -> Record:
        """Run to the end.

        Returns:
            The final record: test ``accuracy`` of the resulting checkpoint, of ``last`` and ``best`` (None without a test part), the
            split that selected "best", and ``best_accuracy`` on it. After a training in another precision than fp32, test accuracies are also
            there in fp32, as in ``accuracy_fp32``.

        Raises:
            Stopped: a signal was received, or the time is up; the state is saved.
            DivergedError: loss or gradient became NaN or infinite; the weights are those before that step (running statistics
            include its batch).
        """
        config = self.config
        state = self.state
        steps = self.steps
        computing = self.compute.described() + (f", {self.group.size} processes" if self.group.size > 1 else "")
        self.emit(
            {
                "event": "start",
                "run": str(self.run.path),
                "epochs": config.epochs,
                "steps": steps,
                "epoch": state.epoch,
                "computing": computing,
                "sources": self.sources,
            }
        )
        self.group.agree(f"epoch {state.epoch}", bool)  # others wait for what only rank 0 does, however long it takes
        while not self.is_over:
            for network in {self.model, self.network}:
                network.begin_epoch(state.epoch, config.epochs)  # a schedule is not averaged: it would lag behind
            begin = time.perf_counter() - state.seconds
            read = 0.0
            loss = 0.0
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
                    loss = state.loss_sum / state.seen
                    read = time.perf_counter()
                self.emit({"event": "step", "epoch": state.epoch, "step": state.step, "steps": steps, "loss": loss})
            self._end_epoch(begin)
        # In the last step, which no other step follows, or of several processes also in the evaluation after it.
        if code := int(self.group.gather(self.sums.new_full((), self.stop.code)).max()):
            raise self._stopped(code)
        return self._end()

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or so many without a better accuracy that ``patience`` ends the run."""
        state = self.state
        patience = self.config.patience
        waited = state.epoch - 1 - state.better_epoch
        return state.epoch >= self.config.epochs or (patience is not None and waited >= patience)

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
        epoch = self.state.epoch
        options: Record = {}
        if config.overfit is None:
            mixing = Mixing(config, len(self.bundle.classes))
            options = {"shuffle": True, "augment": config.augment, "mixing": mixing}
        return batches(
            self.bundle,
            self.train_split,
            config.batch_size,
            seed=config.seed,
            epoch=epoch,
            start=start,
            share=(self.group.rank, self.group.size),
            drop_last=True,
            workers=config.workers,
            parts=config.accumulate,
            **options,
        )

    def _stopped(self, code: int) -> Stopped:
        """The error of a run whose state is saved."""
        hint = f"Continue with the same command if it has --out, or with: lsg train --resume {self.run.path}"
        return Stopped(f"{reason(code)}; saved {self.run.last}", hint=hint)

    def _step(self, batch: Batch, rate: float, observe: bool) -> Callable[[], list[Record]]:
        """One optimiser step; returns a function that reads its light gradient-flow record, which is empty without ``observe``."""
        layers = lif_watchers.layers(self.model) if observe else []
        self.model.train()
        with watching(layers, full=False) as observed:
            sums = gradients(self.net, batch, self.config, self.compute, self.group, self.optimizers.scaler.scale, self.loss)
        self.optimizers.unscale()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        requested = sums.new_full((), self.stop.code)  # a copy from the host would wait for the device
        every = self.group.gather(torch.stack([*sums, requested]))
        n = batch.total or len(batch.y)
        loss = every[:, 0].sum() / n
        self._check_finite()
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        # In fp16, some overflows of gradients only skip a step, after which the loss is scaled less.
        self.overflows = torch.where(finite, 0, self.overflows + 1)
        diverged = ~finite & (~torch.isfinite(loss) | (self.overflows > self.compute.overflows))
        results = torch.stack([x.double() for x in (diverged, loss, norm, every[:, 2].max())])
        self.pending = batch.index, self.compute.later(results)
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
        if self.pending is None:
            return
        index, read = self.pending
        self.pending = None
        diverged, loss, norm, code = read()
        if diverged:
            found = f"loss {loss:g}, gradient norm {norm:g}, expected finite values; the weights were not updated"
            self._diverged(index, f"step {index + 1}: found {found}", {"loss": loss, "grad_norm": norm})
        self.agreed_stop = int(code) if self.group.size > 1 else 0

    def _settle(self) -> None:
        """Update the state with what is on the device."""
        self._check_finite()
        if self.observed is not None:
            self.state.flow = self.observed()
            self.observed = None
        loss, right = self.sums.tolist()
        self.state.loss_sum += loss
        self.state.right += int(right)
        self.state.overflows = int(self.overflows)
        self.sums.zero_()

    def _end_epoch(self, begin: float) -> None:
        """Evaluate, write the epoch's records and checkpoints, and advance to the next epoch."""
        self._settle()
        state = self.state
        config = self.config
        flow = self.state.flow
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
            state.best_accuracy = result.accuracy
            state.best_epoch = state.epoch
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
        if self.config.test_every_epoch and self.bundle.test is not None:
            record["test_accuracy"] = self._evaluate(self.bundle.test, self.network).accuracy
        if self.group.is_main:
            files.append_json_line(self.run.metrics_file, record)
            files.append_json_line(self.run.gradient_flow_file, {"epoch": state.epoch, "layers": flow})
        state.next_epoch()
        if is_best and self.group.is_main:
            checkpoint.save(self.run.best, self.checkpoint({}))
        self._save_last()
        self.emit({"event": "epoch", **record, "best": is_best, "layers": flow})
        if state.epoch == 1 and self.group.is_main:
            tell_faster(self.compute, record["seconds"] * (config.epochs - 1))
        self.group.agree(f"epoch {state.epoch}", bool)

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

    def _end(self) -> Record:
        """Test accuracy of the last and of the best epoch, in the precision of the training and in fp32.

        Only a validation split may select between them.
        """
        result = "best" if self.chosen_on == "val" else "last"
        precisions = {"": self.compute}
        if self.compute.precision != "fp32":
            precisions["_fp32"] = dataclasses.replace(self.compute, precision="fp32")
        accuracies: dict[str, float | None] = {"best_accuracy": self.state.best_accuracy}
        if self.chosen_on == "val":
            accuracies["val_accuracy_best"] = self.state.best_accuracy
        paths = {"last": self.run.last, "best": self.run.best}
        for epoch in sorted(paths, key=lambda epoch: epoch == result):  # whose weights stay
            self.model.load_state_dict(dict(checkpoint.read(paths[epoch]).weights))
            for suffix, compute in precisions.items():
                tested = None if self.bundle.test is None else self._evaluate(self.bundle.test, self.model, compute)
                accuracy = None if tested is None else tested.accuracy
                accuracies[f"test_accuracy_{epoch}{suffix}"] = accuracy
                if epoch == result:
                    accuracies[f"accuracy{suffix}"] = accuracy
                    self.tested = self.tested if suffix else tested
        return {
            "event": "end",
            "run": str(self.run.path),
            "checkpoint": str(paths[result]),
            **accuracies,
            **(self.tested.averages() if self.tested else {}),
            "best_epoch": self.state.best_epoch,
            "best_chosen_on": self.chosen_on,
            "epochs_planned": self.config.epochs,
            "epochs_done": self.state.epoch,
        }

    def _save_last(self) -> None:
        self._settle()
        if not self.group.is_main:
            return
        with self.stop.timing("checkpoint"):
            checkpoint.save(self.run.last, self.checkpoint({**self.optimizers.tensors(), "rng/torch": torch.get_rng_state()}))
        self.emit({"event": "checkpoint", "path": str(self.run.last), "epoch": self.state.epoch, "step": self.state.step})

    def _diverged(self, index: int, problem: str, values: Mapping[str, float]) -> None:
        """Record the gradient flow of a batch and the values that are not finite, save the current weights, and raise an error."""
        epoch = self.state.epoch
        flow = self.run.gradient_flow_file
        message = f"epoch {epoch + 1}, {problem}"  # records count from 0
        if not self.group.is_main:
            raise DivergedError(message)  # rank 0 reports it
        batch = self._batches().whole().batch(index)
        table = memory.if_it_fits(lambda: gradflow.inspect(self.model, [batch], loss=self.loss, compute=self.compute))
        table = table or {"layers": []}
        found = findings(Evidence(table, self.config.to_dict(), usual(self.config.dataset), diverged=True))[0]["remedy"]
        options = " ".join(word for name, own in found["settings"].items() for word in option_words(name, own))
        cause = f"{found['text']} Try {options}."
        where = {"event": "diverged", "epoch": epoch, "step": index}
        files.append_json_line(flow, {**where, **table, **{name: str(value) for name, value in values.items()}})
        checkpoint.save(self.run.path / DIVERGED, self.checkpoint({}))
        self.emit({**where, "message": message, "cause": cause, "table": table})
        raise DivergedError(message, hint=f"{cause} The gradient flow of this batch is in {flow}.")
