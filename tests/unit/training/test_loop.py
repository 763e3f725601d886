"""The training loop: it resumes to the bit, it stops before a step that would ruin the weights."""

import dataclasses
import itertools
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.amp.grad_scaler import GradScaler

import lsgcli.runs.run
import lsgcli.training.loop
from lsgcli.errors import ConfigError, DivergedError, Stopped
from lsgcli.models import crossings
from lsgcli.store import checkpoint
from lsgcli.store.rundir import RunDir, write_config
from lsgcli.system import device, schema
from lsgcli.system.device import Compute, Convolutions
from lsgcli.system.ranks import Place
from lsgcli.training.evaluate import evaluate
from lsgcli.training.initialise import new_model
from lsgcli.training.loop import Trainer
from lsgcli.training.optim import Optimizers
from lsgcli.training.signals import StopRequest
from tests import tiny
from tests.exports import slow_if

CPU = Compute(torch.device("cpu"), tiny.PRECISION)
COMPILED_ELSEWHERE = {"epochs": 1, "backend": "reference"}  # kernels of another type take seconds to compile


def quick(**changes):
    """Settings of a network of two layers, which trains in a third of the time."""
    return tiny.config(**{"arch": "mlp", "width_multiplier": 0.25, **changes})


def by_signal(stop):
    stop.signal_name = "SIGTERM"


def by_time(stop):
    stop.deadline = time.monotonic()


def by_slurm(stop):
    """The job ends in 50 s, which are less than the margin."""
    stop.limit(None, {"SLURM_JOB_END_TIME": str(int(time.time()) + 50)})


def run(
    path,
    config,
    bundle,
    stop_after=None,
    resume=False,
    emit=lambda record: None,
    alter=lambda model: None,
    compute=None,
    ask=by_signal,
):
    """Train in ``path``, with the model altered; a stop is asked for after so many steps."""
    stop, steps = StopRequest(), 0

    def count(record):
        nonlocal steps
        steps += record["event"] == "step"
        if stop_after is not None and steps >= stop_after:
            ask(stop)
        emit(record)

    with RunDir(path, resume=resume) as directory:
        trainer = Trainer(config, bundle, compute or CPU, directory, count, stop)
        alter(trainer.model)
        if not resume:
            write_config(directory, config, {})
        return trainer.train()


def metrics(path, keep=False):
    """The epochs' records, without what depends on the clock unless that is to be kept."""
    lines = schema.read_lines(path / "metrics.jsonl")
    return [{key: value for key, value in line.items() if keep or key not in ("seconds", "data_wait")} for line in lines]


def same_tensors(first, second):
    a, b = checkpoint.read(first), checkpoint.read(second)
    tensors = [{**content.weights, **content.extra} for content in (a, b)]
    assert tensors[0].keys() == tensors[1].keys()
    return all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0]) and a.state == b.state


def assert_same(whole, parts):
    """Two runs have the same bits: their checkpoints and the records of their epochs."""
    assert all(same_tensors(whole / name, parts / name) for name in ("last.safetensors", "best.safetensors"))
    assert metrics(whole) == metrics(parts)
    flows = [(path / "gradient-flow.jsonl").read_text() for path in (whole, parts)]
    assert flows[0] == flows[1]


@pytest.mark.parametrize("with_val", [False, True])
def test_accuracies_in_the_precision_of_the_training_and_in_fp32(with_val, tmp_path, monkeypatch):
    """Here, all samples are right in fp32, and none in the training."""

    def answered(model, split, bundle, compute, **options):
        classes = len(bundle.classes)
        right = (
            torch.eye(classes, dtype=torch.int64) if compute.precision == "fp32" else 1 - torch.eye(classes, dtype=torch.int64)
        )
        return dataclasses.replace(evaluate(model, split, bundle, compute, **options), confusion=right)

    monkeypatch.setattr(lsgcli.training.loop, "evaluate", answered)
    monkeypatch.setattr("lsgcli.analysis.lif_watchers.kernel_layout", lambda given: None)  # or kernels of bf16 are compiled
    bundle = tiny.bundle()
    if not with_val:
        bundle = dataclasses.replace(bundle, val=None)
    end = run(tmp_path / "run", quick(**COMPILED_ELSEWHERE), bundle, compute=Compute(CPU.device, "bf16"))
    names = ("accuracy", "test_accuracy_last", "test_accuracy_best")
    assert [end[name] for name in (*names, "best_accuracy")] == [0, 0, 0, 0]
    assert [end[f"{name}_fp32"] for name in names] == [1, 1, 1]
    assert end["best_chosen_on"] == ("val" if with_val else "test")
    assert not any(
        name.endswith("_fp32") for name in run(tmp_path / "other", quick(epochs=1), bundle, compute=Compute(CPU.device))
    )


def test_a_long_training_is_told_what_is_faster(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(device, "cpu_flags", lambda: {"amx_bf16"})
    caplog.set_level("INFO")
    run(tmp_path / "short", quick(epochs=2), tiny.bundle(), compute=Compute(CPU.device))
    assert "--precision" not in caplog.text
    monkeypatch.setattr(device, "LONG", 0)
    run(tmp_path / "long", quick(epochs=3), tiny.bundle(), compute=Compute(CPU.device))
    assert caplog.text.count("16 times as fast in bf16") == 1


def test_a_resumed_run_keeps_the_crossings_of_its_convolutions(tmp_path, monkeypatch):
    """It chooses as before, whatever would be measured now: here, the opposite."""
    pytest.importorskip("numba")
    config, bundle = tiny.config(epochs=2), tiny.bundle()
    measured = {"whole": [4.0, 0.0], "first": [4.0, 0.0], "second": [0.0, 4.0]}

    def auto(name):
        monkeypatch.setattr(crossings, "_of_machine", lambda *_: measured[name])
        return dataclasses.replace(CPU, convolutions=Convolutions("auto"))

    run(tmp_path / "whole", config, bundle, compute=auto("whole"))
    with pytest.raises(Stopped):
        run(tmp_path / "parts", config, bundle, stop_after=4, compute=auto("first"))
    run(tmp_path / "parts", config, bundle, resume=True, compute=auto("second"))
    assert same_tensors(tmp_path / "whole/last.safetensors", tmp_path / "parts/last.safetensors")
    kept = checkpoint.read(tmp_path / "parts/last.safetensors").state["crossings"]
    assert len(kept) > 4
    assert set(map(tuple, kept.values())) == {(4.0, 0.0)}


STALLING = {"epochs": 24, "patience": 2, "lr": 1e-3}  # it ends after 3 to 8 with seeds 0 to 19, in fp32 and bf16


@pytest.mark.slow  # test_patience_is_told is its quick case
def test_patience_ends_a_run_early_at_the_same_epoch_with_the_same_bits(tmp_path):
    """Stopped twice by its time and by the end of its job, in the middle of an epoch and before the last evaluation."""
    config, bundle, path = tiny.config(**STALLING), tiny.bundle(), tmp_path / "parts"
    end = run(tmp_path / "whole", config, bundle)
    accuracies = [line["val_accuracy"] for line in metrics(tmp_path / "whole")]
    better = max(epoch for epoch, own in enumerate(accuracies) if own > max([-1.0, *accuracies[:epoch]]))
    assert (end["epochs_planned"], end["epochs_done"]) == (24, len(accuracies))
    assert len(accuracies) == better + 1 + 2 < 24
    with pytest.raises(Stopped):
        run(tmp_path / "impatient", config.replace(patience=None), bundle, stop_after=13)
    assert metrics(tmp_path / "whole")[1]["lr"] == metrics(tmp_path / "impatient")[1]["lr"]  # that of 24 epochs
    for steps, ask in ((4, by_time), (6 * len(accuracies) - 4, by_slurm)):
        with pytest.raises(Stopped, match="time is up; saved"):
            run(path, config, bundle, stop_after=steps, resume=path.exists(), ask=ask)
    assert run(path, config, bundle, resume=True)["epochs_done"] == len(accuracies)
    assert_same(tmp_path / "whole", path)


def test_weights_of_classes_come_from_the_training_part(tmp_path):
    """The loss of the first step, of a network that does not change."""
    bundle, losses = tiny.bundle(), {}
    part = bundle.train.part(np.flatnonzero((bundle.train.y > 0) | (np.arange(48) % 4 == 0)))
    bundle = dataclasses.replace(bundle, train=part)
    config = quick(epochs=1, batch_size=len(part), lr=1e-30, augment="none", loss="ce", method="fixed")
    models = []
    for weights in ("none", "balanced"):
        run(tmp_path / weights, config.replace(class_weights=weights), bundle, alter=models.append, compute=Compute(CPU.device))
        losses[weights] = metrics(tmp_path / weights)[0]["train_loss"]
    y, counts = torch.from_numpy(part.y), np.bincount(part.y)
    assert counts.tolist() == [4, 16, 16]
    logits = models[1].train()(torch.from_numpy(np.asarray(part.x)).float().transpose(0, 1)).mean(0)
    each = torch.nn.functional.cross_entropy(logits, y, reduction="none")
    assert losses["none"] == pytest.approx(each.mean().item(), rel=1e-4)
    assert losses["balanced"] == pytest.approx((each * (36 / (3 * torch.from_numpy(counts)[y]))).mean().item(), rel=1e-4)


def test_patience_needs_a_validation_split(tmp_path):
    with pytest.raises(ConfigError, match="patience: found 1 without validation samples"):
        run(tmp_path / "run", quick(patience=1), tiny.bundle(val=False))


def test_a_restart_by_torchrun_continues_the_run_that_replaced_another(tmp_path, monkeypatch):
    path, config, given = tmp_path / "run", quick(), []
    with pytest.raises(Stopped):
        run(path, config, tiny.bundle(), stop_after=1)
    monkeypatch.setattr(lsgcli.runs.run, "train", lambda *_, **named: given.append(named["existing"]))
    for attempt in (0, 1):
        monkeypatch.setattr(lsgcli.runs.run, "here", lambda attempt=attempt: Place(attempt=attempt))
        lsgcli.runs.run.train_together(config, lambda record: None, StopRequest(), page=None, path=path, force=True)
    assert given == ["replace", "resume"]


def test_the_average_is_evaluated_and_saved_with_the_trained_weights(tmp_path, monkeypatch):
    """e <- 0.9 e + 0.1 w, computed again in float64 from the weights after each step."""
    states, step = [], Trainer._step

    def recorded(self, *arguments, **named):
        if not states:
            states.append({name: x.double() for name, x in self.model.state_dict().items()})
        found = step(self, *arguments, **named)
        states.append({name: x.double() for name, x in self.model.state_dict().items()})
        return found

    monkeypatch.setattr(Trainer, "_step", recorded)
    bundle, config = tiny.bundle(), quick(epochs=2, ema=0.9)
    end = run(tmp_path / "run", config, bundle)
    content = checkpoint.read(tmp_path / "run" / "last.safetensors")
    assert len(states) == 13
    for name, mean in content.weights.items():
        expected = states[0][name]
        for state in states[1:]:
            expected = 0.9 * expected + 0.1 * state[name] if mean.is_floating_point() else state[name]
        torch.testing.assert_close(mean.double(), expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(content.extra[f"raw/{name}"].double(), states[-1][name])
    for name, prefix in (("last", ""), ("last", "raw/"), ("best", "")):
        content = checkpoint.read(tmp_path / "run" / f"{name}.safetensors")
        model, stored = new_model(config, 3, 2), {**content.weights, **content.extra}
        model.load_state_dict({own: stored[f"{prefix}{own}"] for own in content.weights})
        found = evaluate(model, bundle.val, bundle, CPU, batch_size=8).accuracy
        line = metrics(tmp_path / "run")[end["best_epoch"] if name == "best" else -1]
        assert found == line["raw_val_accuracy" if prefix else "val_accuracy"]


def test_a_schedule_is_not_averaged(tmp_path):
    """The mask of masked-psn is complete after an eighth of the epochs in the evaluated network, too."""
    config = quick(epochs=2, ema=0.999, neuron="masked-psn", method="fixed")
    run(tmp_path / "run", config, tiny.bundle())
    weights = checkpoint.read(tmp_path / "run" / "last.safetensors").weights
    masks = [x.item() for name, x in weights.items() if name.endswith(".mask")]
    assert masks
    assert set(masks) == {1.0}


def nan_from_the_third_batch(model):
    """Make the network's logits NaN from its third forward pass on."""
    passes = itertools.count(1)
    model.register_forward_hook(lambda module, x, logits: logits * float("nan") if next(passes) >= 3 else logits)


class RunningAhead(Compute):
    """A CPU that is treated like a device whose results are waited for."""

    runs_ahead = True


def test_a_device_that_runs_ahead_is_not_waited_for(tmp_path, monkeypatch):
    """What is seen later is the same: the record, the batch, and weights as before the step that was not finite."""
    ahead = RunningAhead(CPU.device, tiny.PRECISION)
    monkeypatch.setattr("lsgcli.training.loop.LOSS_INTERVAL", float("inf"))
    for name, compute in (("at once", CPU), ("later", ahead)):
        run(tmp_path / name, quick(epochs=1), tiny.bundle(), compute=compute)
    assert_same(tmp_path / "at once", tmp_path / "later")

    seen = []
    with pytest.raises(DivergedError, match=r"^epoch 1, step 3: found loss nan"):  # people count from 1
        run(tmp_path / "nan", quick(), tiny.bundle(), emit=seen.append, alter=nan_from_the_third_batch, compute=ahead)
    line = schema.read_lines(tmp_path / "nan" / "gradient-flow.jsonl")[-1]
    assert (line["epoch"], line["step"], line["loss"]) == (0, 2, "nan")  # records count from 0
    assert sum(record["event"] == "step" for record in seen) == 3  # the third was under way
    found = checkpoint.read(tmp_path / "nan" / "diverged.safetensors").weights
    with pytest.raises(Stopped):
        run(tmp_path / "two", quick(), tiny.bundle(), stop_after=2)
    expected = checkpoint.read(tmp_path / "two" / "last.safetensors").weights
    assert all(torch.equal(found[name], expected[name]) for name in expected if "running" not in name and "num_b" not in name)


def test_memory_of_the_first_step_is_released_once(tmp_path, monkeypatch):
    steps, released = [], []
    monkeypatch.setattr("lsgcli.system.memory.release_unused", lambda: released.append(len(steps)))
    run(tmp_path / "run", quick(epochs=2), tiny.bundle(), emit=lambda record: steps.append(record["event"] == "step"))
    assert sum(steps) > 2
    assert released == [1]  # steps holds the record of the start only


def test_the_share_of_waiting_is_recorded(tmp_path, monkeypatch):
    """By a clock on which a batch takes 2 s to arrive, and a step 1 s."""
    now, batches = [0.0], Trainer._batches

    def late(self, start=0):
        for batch in batches(self, start):
            now[0] += 2
            yield batch

    def step(record):
        now[0] += record["event"] == "step"

    def slow_down(model):  # after the trainer has asked for the number of batches
        monkeypatch.setattr(Trainer, "_batches", late)

    monkeypatch.setattr("lsgcli.training.loop.time", SimpleNamespace(perf_counter=lambda: now[0]))
    run(tmp_path / "run", quick(epochs=1), tiny.bundle(), emit=step, alter=slow_down)
    (epoch,) = metrics(tmp_path / "run", keep=True)
    assert epoch["data_wait"] == pytest.approx(2 / 3, abs=1e-3)


def test_fp16_skips_overflows():
    """The scale is halved after a step whose gradients overflow, which changes no weight."""
    model = new_model(quick(), 3, 2)
    optimizers = Optimizers(model, quick(), GradScaler("cpu"))
    before = {name: p.clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = optimizers.scaler.scale(torch.ones_like(p)) * float("inf")
    optimizers.unscale()
    optimizers.step(1.0, skip=torch.tensor(True))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert optimizers.scaler.get_scale() == 2.0**15


@pytest.mark.parametrize(
    ("changes", "evaluation"),  # of the epochs, with an average two each, then two of the test part
    [
        slow_if(True, {}, 3),
        ({"ema": 0.9}, 1),
        ({"norm": "none", "init": "measured", "method": "adaptive"}, 3),
        slow_if(True, {"norm": "none", "init": "spikeinit", "init_rate": 0.2}, 3),
    ],
)
def test_a_stop_during_an_evaluation_ends_it(tmp_path, monkeypatch, changes, evaluation):
    """The stop takes effect before the next of its two batches; the resumed run has the bits of an undisturbed one."""
    config, bundle = quick(**changes, epochs=2), tiny.bundle(n=24)
    run(tmp_path / "whole", config, bundle)
    stop, count, batches = StopRequest(), 0, []

    def counted(model, *arguments, progress, **named):
        nonlocal count
        count += 1

        def observed(done, total):
            batches.append((count, done, total))
            if count == evaluation:
                stop.signal_name = "SIGTERM"
            progress(done, total)

        return evaluate(model, *arguments, progress=observed, **named)

    monkeypatch.setattr(lsgcli.training.loop, "evaluate", counted)
    path = tmp_path / "parts"
    with RunDir(path) as directory:
        write_config(directory, config, {})
        with pytest.raises(Stopped, match="stopped by SIGTERM; saved"):
            Trainer(config, bundle, CPU, directory, lambda record: None, stop).train()
    assert batches[-1] == (evaluation, 1, 2)
    monkeypatch.undo()
    run(path, config, bundle, resume=True)
    assert_same(tmp_path / "whole", path)
