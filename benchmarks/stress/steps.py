"""Rows of training steps: accumulated gradients, several processes, and the loss scaler."""

import functools
import itertools
import os
import random
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from benchmarks.stress.contract import METHODS, NEURONS, described, network, sequence, valid
from benchmarks.stress.program import Command
from benchmarks.stress.ranks import environments, start
from benchmarks.stress.rows import Case, fork, refused, row
from lsgcli import registry
from lsgcli.data.batches import Batch
from lsgcli.errors import ConfigError, DivergedError, Stopped
from lsgcli.store import checkpoint
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.system import ranks
from lsgcli.system.device import Compute
from lsgcli.training.distributed import joined
from lsgcli.training.initialise import new_model
from lsgcli.training.losses import gradients
from lsgcli.training.optim import Optimizers
from tests import tiny
from tests.unit.training.test_loop import run as train

CPU = Compute(torch.device("cpu"))

# Row 37


@row(
    37,
    fault="gradients accumulated over parts of a batch",
    promise="those of the whole batch within 1e-6, where no normalisation looks at the batch",
    quick=5,
    full=120,
)
def accumulation(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """64 samples at once, and in 2, 4, 5 or 64 parts; each network, and neuron, method (but those whose threshold or width depends on the batch) and
    loss at random, in float64, with dropout and labels mixed in some; normalisations use their running statistics."""
    archs, losses = registry.names("arch"), registry.names("loss")
    methods = [name for name in METHODS if not name.startswith(("ds-atgo", "deeptage"))]
    for number in range(count):
        parts, arch = (4, 2, 5, 64)[number % 4], archs[number % len(archs)]
        settings = {"neuron": chance.choice(NEURONS), "method": chance.choice(methods), "dropout": chance.choice((0.0, 0.4))}
        config = tiny.config(loss=chance.choice(losses), tet_lambda=0.1)
        generator = torch.Generator().manual_seed(number)
        y = torch.randint(3, (64,), generator=generator)
        labels = torch.nn.functional.one_hot(y, 3).double().roll(1, 0) if chance.random() < 0.3 else y
        numbers = torch.randint(1 << 60, (64,), generator=generator)

        def judge(net: Any, config: Any = config, labels: Tensor = labels, numbers: Tensor = numbers, parts: int = parts):
            batch, results = Batch(sequence(net, 64), labels, 0, samples=numbers), []
            for accumulate in (1, parts):
                net.train()
                for module in net.modules():
                    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                        module.eval()
                net.zero_grad()
                sums = gradients(net, batch, config.replace(accumulate=accumulate), CPU)
                results.append([sums, *(p.grad for p in net.parameters())])
            largest = max(float(grad.abs().max()) for grad in results[0][1:])
            far = max(float((a - b).abs().max()) for a, b in zip(*results, strict=True)) / largest
            yield Case(f"{parts} parts", "" if far <= 1e-6 else f"{net.spec}, {config.loss}: by {far:.1e} of the largest")

        yield from valid("network", functools.partial(network, arch, backend="reference", T=2, **settings), judge)


# Row 38

COMPLETE = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
INCOMPLETE = [{name: value for name, value in COMPLETE.items() if name != left_out} for left_out in list(COMPLETE)[1:]]
INCOMPLETE += [{**COMPLETE, "RANK": value} for value in ("2", "-1", "", "x", "1.0")]
INCOMPLETE += [{**COMPLETE, "WORLD_SIZE": value} for value in ("0", "-2", "two", "2.0")]
INCOMPLETE += [{**COMPLETE, "MASTER_PORT": value} for value in ("0", "65536", "port")]
INCOMPLETE += [{**COMPLETE, "MASTER_ADDR": ""}, {**COMPLETE, "LOCAL_RANK": "2"}, {**COMPLETE, "LOCAL_WORLD_SIZE": "3"}]
TRAIN = shlex.split(
    "train --dataset digits --arch mlp -T 2 --size 8 --width-multiplier 0.03125 --epochs 1 --workers 0 --threads 1 "
    "--backend reference --precision fp32 --batch-size 256 --augment none"
)


@row(
    38,
    fault="WORLD_SIZE above 1",
    promise="the processes train together; an incomplete description is refused with exit status 2, before anything is written",
    quick=1,
    full=12,
)
def world_size(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Environments of 1 to 8 processes, and some of which a variable is missing or wrong. Two and three processes meet as such an
    environment says, and gather their ranks; `lsg train` runs in two, and is refused in an incomplete one."""
    for size, local in itertools.product(range(1, 9), repeat=2):
        for rank in range(size if local <= size and size % local == 0 else 0):
            given = {**COMPLETE, "WORLD_SIZE": str(size), "RANK": str(rank)}
            given |= {"LOCAL_WORLD_SIZE": str(local), "LOCAL_RANK": str(rank % local)}
            found = ranks.place(given)
            right = (found.rank, found.size, found.problem) == (rank, size, "") and found.hosts == (rank == 0 and size > 1)
            yield Case("complete", "" if right else f"{given}: {found}")

    def join(place: ranks.Place) -> None:
        with joined(place, "cpu"):
            pass

    for given in INCOMPLETE:
        case = refused("incomplete", lambda given=given: join(ranks.place(given)), ConfigError, "WORLD_SIZE", "RANK")
        yield Case(case.kind, case.problem and f"{given}: {case.problem}")
    for number in range(count):
        yield _meet(number % 2 + 2)
    for number in range(count // 4):
        one = Command([*TRAIN, "--out", "run"], folder / f"refused-{number}", INCOMPLETE[number]).run()
        problem = one.ended(2) or ("a run was begun" if (one.at / "run").exists() else "")
        yield Case("lsg train, incomplete", problem and f"{one.environment}: {problem}")
        yield _together(folder / f"together-{number}", 2)


def _meet(size: int) -> Case:
    """Processes that meet, and gather their ranks."""

    def work(given: dict[str, str]) -> None:
        with joined(ranks.place(given), "cpu") as group:
            assert group.gather(torch.tensor(group.rank)).tolist() == list(range(size))

    pids = [fork(functools.partial(work, given)) for given in environments(size)]
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    return Case("processes meet", f"statuses {statuses}" if any(statuses) else "")


def _together(folder: Path, size: int) -> Case:
    """`lsg train` in several processes of this machine."""
    processes = start([*TRAIN, "--json", "--out", "run"], folder, size)
    for one in processes:
        one.wait()
    problem = "; ".join(filter(None, [one.ended(0) for one in processes]))
    if not problem and f"{size} processes" not in processes[0].out + processes[0].err:
        problem = f"trained alone: {processes[0].err}"
    return Case("lsg train, together", problem)


# Row 39


@row(
    39,
    fault="the state of the loss scaler is lost",
    promise="saved and restored exactly; a resumed run skips and scales the steps that an undisturbed one does",
    quick=8,
    full=120,
)
def loss_scaler(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """On the CPU, in fp16, where the first gradients overflow: training that is stopped after one to three numbers of steps and resumed must
    end bit-identical to an undisturbed one, scaler included, or diverge at the same step. And scalers of random state."""
    for number in range(count):
        scale, interval = 2.0 ** chance.choice((20, 24, 26, 28, 60)), chance.choice((2, 3, 1000))
        scaler = functools.partial(GradScaler, init_scale=scale, growth_interval=interval)
        stops = sorted(chance.sample(range(1, 18), chance.choice((1, 2, 3))))
        with mock.patch("lsgcli.training.state.GradScaler", scaler):
            whole, parts = folder / f"{number}-whole", folder / f"{number}-parts"
            expected, found = _trained(whole, ()), _trained(parts, stops)
        yield Case(
            "diverges" if "epoch" in expected else "training",
            "" if found == expected else f"scale {scale:g}, stops {stops}: {expected[:60]}, then {found[:60]}",
        )

        model = new_model(tiny.config(arch="mlp"), 3, 2)
        first, second = (Optimizers(model, tiny.config(), GradScaler("cpu")) for _ in range(2))
        state = {"scale": 2.0 ** chance.uniform(-20, 60), "growth_factor": chance.choice((2.0, 1.5)), "backoff_factor": 0.5}
        state = {k: float(torch.tensor(v)) for k, v in state.items()}
        first.scaler.load_state_dict(
            {**state, "growth_interval": chance.randrange(1, 5000), "_growth_tracker": chance.randrange(2000)}
        )
        path = folder / "scaler.safetensors"
        checkpoint.save(path, Checkpoint({}, described(model), {}, first.tensors()))
        second.load(checkpoint.read(path).extra)
        equal = first.scaler.state_dict() == second.scaler.state_dict()
        yield Case("state", "" if equal else f"{first.scaler.state_dict()}, then {second.scaler.state_dict()}")


def _trained(path: Path, stops: Any) -> str:
    """Train in fp16, stopped after so many steps; the digest of the last checkpoint, or the message of divergence."""
    config, compute = tiny.config(arch="mlp", backend="reference", epochs=3, augment="none"), Compute(CPU.device, "fp16")
    for before, stop in itertools.pairwise([0, *stops, None]):
        steps = None if stop is None else stop - before
        try:
            train(path, config, tiny.bundle(), steps, resume=path.exists(), compute=compute)
        except Stopped:
            continue
        except DivergedError as error:
            return error.message
    content = checkpoint.read(path / "last.safetensors")
    return checkpoint.tensor_digest({**content.weights, **content.extra})
