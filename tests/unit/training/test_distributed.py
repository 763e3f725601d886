"""Training in several processes computes what one process computes. The processes meet on this machine, with Gloo."""

import dataclasses
import functools
import multiprocessing
import socket
import sys
import time
import warnings
from pathlib import Path
from unittest import mock

import pytest
import torch

from lsgcli.analysis import gradflow, lif_watchers
from lsgcli.analysis.watchers import watching
from lsgcli.data.batches import batches
from lsgcli.errors import Stopped
from lsgcli.store.rundir import RunDir, RunFiles
from lsgcli.system.device import Compute
from lsgcli.system.ranks import Place, place
from lsgcli.training import distributed
from lsgcli.training.distributed import ALONE, joined
from lsgcli.training.initialise import new_model
from lsgcli.training.loop import Trainer
from lsgcli.training.losses import gradients
from lsgcli.training.optim import Optimizers
from lsgcli.training.signals import StopRequest
from tests import tiny

CPU = Compute(torch.device("cpu"))
STEPS = 2
EXACT = {"backend": "reference", "batch_size": 7, "arch": "mlp"}  # two layers, unless convolutions are what is tested
# Settings, and the largest relative difference of any result.
CASES = {
    "lsg": ({**EXACT, "arch": "vggsnn"}, 1e-10),
    "measured-sigma": ({**EXACT, "method": "measured-sigma"}, 1e-10),
    "none": ({**EXACT, "norm": "none", "method": "adaptive"}, 1e-10),
    "accumulate": ({**EXACT, "accumulate": 2}, 1e-10),
    "clip": ({**EXACT, "clip_grad": 0.01, "optimizer": "adamw"}, 1e-10),
    "tet": ({**EXACT, "loss": "tet", "tet_lambda": 0.1}, 1e-10),
    "dropout": ({**EXACT, "accumulate": 2, "dropout": 0.4}, 1e-10),
    "resnet19": ({**EXACT, "arch": "resnet19", "residual": "add", "memory": "bits"}, 1e-10),
    "channel": ({**EXACT, "decay_per": "channel"}, 1e-10),
    "ds-atgo": ({**EXACT, "method": "ds-atgo", "threshold": 1.0}, 1e-10),
    "deeptage": ({**EXACT, "method": "deeptage"}, 1e-10),
    "trsg": ({**EXACT, "method": "trsg", "reset": "soft", "init_potential": "measured", "input_gain": "1-beta"}, 1e-10),
    "glif": ({**EXACT, "neuron": "glif", "norm": "tebn"}, 1e-10),
    "asgl": ({**EXACT, "method": "asgl", "accumulate": 2, "dropout": 0.4}, 1e-10),
    "mpbn": ({**EXACT, "norm": "mpbn"}, 1e-8),  # it makes the gradient of the preceding gamma almost 0
    "fused": ({"backend": "fused", "batch_size": 7}, 1e-5),
}


def outcome(settings, group):
    """Everything that a few steps leave behind: losses, gradients, parameters, running statistics, light gradient flow."""
    config = tiny.config(**settings)
    bundle = tiny.bundle()
    model = new_model(config, 3, 2)
    if config.backend == "reference":
        model = model.double()
    if group.size > 1:
        model.synchronise(group.gather)
    net, optimizers, found = group.wrap(model.train()), Optimizers(model, config), {}
    stream = batches(
        bundle,
        bundle.train,
        config.batch_size,
        shuffle=True,
        augment="roll",
        parts=config.accumulate,
        share=(group.rank, group.size),
    )
    for batch in (stream.batch(index) for index in range(STEPS)):
        batch = dataclasses.replace(batch, x=batch.x.to(next(model.parameters()).dtype))
        layers = lif_watchers.layers(model)
        with watching(layers, full=False) as watchers:
            sums = gradients(net, batch, config, CPU, group)
        for watcher in watchers.values():
            watcher.sums.gather(group.gather)
        for record in gradflow.light_record(layers, watchers)():
            found |= {f"flow/{batch.index}/{record['name']}/{key}": v for key, v in record.items() if key != "name"}
        found[f"sums/{batch.index}"] = group.gather(sums).sum(0)
        found |= {f"grad/{batch.index}/{name}": p.grad.clone() for name, p in model.named_parameters()}
        if config.clip_grad:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_grad)
        optimizers.step(1.0)
        model.end_step()
        optimizers.zero_grad()
    return found | {f"state/{name}": value.clone() for name, value in model.state_dict().items()}


def work(rank, size, port, folder):
    torch.set_num_threads(1)
    with joined(Place(rank, size, rank, size, "127.0.0.1", port, hosts=rank == 0), "cpu") as group:
        found = {name: outcome(settings, group) for name, (settings, _) in CASES.items()}
        torch.save(found, Path(folder) / f"{rank}.pt")
        if size == 2:  # as well, because a process takes seconds to start
            unsynchronised(group, Path(folder) / "unsynchronised")
            out_of_time(group, Path(folder) / "out of time")


def start(target, size, *arguments, wait=120):
    """Run ``target(rank, size, port, ...)`` in processes; returns their exit statuses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")  # which imports torch again
    processes = [context.Process(target=target, args=(rank, size, port, *arguments)) for rank in range(size)]
    with warnings.catch_warnings(action="ignore"):  # of DDP, about its speed
        for process in processes:
            process.start()
    for process in processes:
        process.join(wait)
    statuses = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return statuses


@pytest.fixture(scope="module")
def alone():
    return {name: outcome(settings, ALONE) for name, (settings, _) in CASES.items()}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """Number of processes -> the folder with what they found; they run once."""

    @functools.cache
    def run(size):
        folder = tmp_path_factory.mktemp("together")
        assert start(work, size, str(folder)) == [0] * size
        return folder

    return run


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)])
def test_processes_compute_what_one_computes(size, alone, together):
    """Batches of 7 are shared unevenly: 4 + 3, 3 + 2 + 2, 2 + 2 + 2 + 1."""
    found = [torch.load(together(size) / f"{rank}.pt") for rank in range(size)]
    for case, (settings, tolerance) in CASES.items():
        if settings.get("accumulate", 1) * size > settings["batch_size"]:
            continue  # refused: a process would have no sample of a part
        largest = max(value.abs().max().item() for name, value in alone[case].items() if name.startswith("grad"))
        for name, expected in alone[case].items():
            expected = torch.as_tensor(expected, dtype=torch.float64)
            for one in found:
                value = torch.as_tensor(one[case][name], dtype=torch.float64)
                scale = expected.abs().max().clamp_min(1e-12)
                if name.startswith("grad") and settings["backend"] == "fused":
                    scale = largest  # gradients of decays cancel to little, with the rounding of float32 of what they sum
                limit = max(tolerance, 1e-6) if name.startswith("flow") else tolerance
                assert (value - expected).abs().max() <= limit * scale, (case, name, size)
            if name.startswith(("state", "grad")):
                assert all(torch.equal(one[case][name], found[0][case][name]) for one in found), (case, name)
        assert any(value.abs().max() > 0 for name, value in alone[case].items() if name.startswith("grad"))


def unsynchronised(group, folder):
    """Train an epoch; buffers before and after its evaluation."""
    config = tiny.config(backend="reference", epochs=1, sync_norm=False)
    run = RunDir(folder) if group.rank == 0 else RunFiles(folder)
    trainer = Trainer(config, tiny.bundle(), CPU, run, lambda record: None, StopRequest(), group=group)
    found, end_epoch = [], trainer._end_epoch

    def end(*arguments):
        found.append({name: buffer.clone() for name, buffer in trainer.model.named_buffers()})
        end_epoch(*arguments)
        found.append({name: buffer.clone() for name, buffer in trainer.model.named_buffers()})

    with mock.patch.object(trainer, "_end_epoch", end):
        trainer.train()
    torch.save(found, folder.with_suffix(f".{group.rank}.pt"))


def out_of_time(group, folder):
    """The time of rank 1 is up after two of six steps; where each process stops."""
    config, stop = tiny.config(backend="reference", epochs=2), StopRequest()
    run = RunDir(folder) if group.rank == 0 else RunFiles(folder)

    def emit(record):
        if group.rank == 1 and record["event"] == "step" and record["step"] == 2:
            stop.deadline = 0.0

    trainer = Trainer(config, tiny.bundle(), CPU, run, emit, stop, group=group)
    with pytest.raises(Stopped, match="time is up; saved"):
        trainer.train()
    torch.save((trainer.state.epoch, trainer.state.step), folder.with_suffix(f".{group.rank}.pt"))


def test_all_processes_stop_before_the_same_step_when_the_time_of_one_is_up(together):
    """The third step, in which the others learn of it."""
    assert [torch.load(together(2) / f"out of time.{rank}.pt") for rank in (0, 1)] == [(0, 3), (0, 3)]


def test_without_synchronised_statistics(together):
    """Each process has the statistics of its share, and all evaluate and save those of rank 0."""
    (own, first), (others, second) = (torch.load(together(2) / f"unsynchronised.{rank}.pt") for rank in (0, 1))
    assert not any(torch.equal(own[name], others[name]) for name in own if name.endswith("running_mean"))
    assert all(torch.equal(first[name], second[name]) and torch.equal(first[name], own[name]) for name in first)


def test_place_of_a_process():
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    torchrun |= {"MASTER_ADDR": "a", "MASTER_PORT": "29"}
    assert place(torchrun) == Place(3, 4, 1, 2, "a", 29, hosts=False)
    assert place({**torchrun, "RANK": "0"}).hosts
    assert not place({**torchrun, "RANK": "0", "TORCHELASTIC_USE_AGENT_STORE": "True"}).hosts
    slurm = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3", "SLURM_LOCALID": "0", "SLURM_JOB_ID": "5", "SLURM_NODEID": "1"}
    slurm |= {"SLURM_STEP_TASKS_PER_NODE": "2,1", "SLURM_STEP_NODELIST": "gpu[03-04]"}
    found = place(slurm)
    assert (found.rank, found.size, found.local_rank, found.local_size, found.address) == (2, 3, 0, 1, "gpu03")
    assert place({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "5"}) == Place()  # a batch script, not srun
    assert place({}) == Place()


def patient(rank, size, port, folder):
    """Rank 0 works alone for longer than a process may be silent: loggers at the start, a report, a large checkpoint."""
    distributed.SILENCE = 3.0

    def emit(record):
        if rank == 0 and record["event"] in ("start", "epoch"):
            time.sleep(6)

    with joined(Place(rank, size, rank, size, "127.0.0.1", port, hosts=rank == 0), "cpu") as group:
        run = RunDir(Path(folder) / "run") if rank == 0 else RunFiles(Path(folder) / "run")
        Trainer(tiny.config(backend="reference", epochs=1), tiny.bundle(), CPU, run, emit, StopRequest(), group=group).train()
        if rank == 0:
            time.sleep(6)
            (Path(folder) / "saved").touch()
        raise Stopped("stopped")


@pytest.mark.slow
def test_processes_that_wait_for_rank_0_do_not_count_it_as_hanging(tmp_path):
    assert start(patient, 2, str(tmp_path), wait=60) == [1, Stopped.exit_code]  # rank 0 reports it, here to multiprocessing
    assert (tmp_path / "saved").exists()
