"""The row of training in several processes: one of them is disturbed, all must end alike, and the run must resume."""

import dataclasses
import functools
import itertools
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch.nn.parallel

from benchmarks.stress.program import Command, tensors, warm
from benchmarks.stress.rows import Case, row
from benchmarks.stress.runs import at
from lsgcli.errors import DataError
from lsgcli.training import loop

SIGNALS = {"SIGTERM": signal.SIGTERM, "dies": signal.SIGKILL, "hangs": signal.SIGSTOP}
STATUSES = {"dies": 1, "SIGTERM": 75, "hangs": 1, "NaN": 5, "raises": 3}  # of the processes that end by themselves
LIMIT = 30.0  # seconds within which all end
STEPS, EPOCHS = 10, 2  # of a run
LOSS = 1e-3  # relative difference of losses between numbers of processes


def disturbed(fault: str, step: int, delay: float) -> Callable[[], None]:
    """Let a fault happen in a process, some seconds after the start of a step, at the latest in the evaluation after the last one."""

    def before() -> None:
        whole, steps, timers = loop.gradients, itertools.count(), list[threading.Timer]()

        def gradients(net, batch, *rest):
            if next(steps) == step:
                if fault == "raises":
                    raise DataError("a sample that cannot be read")
                if fault == "NaN":
                    batch = dataclasses.replace(batch, x=batch.x * torch.nan)
                else:
                    timers.append(threading.Timer(delay, os.kill, (os.getpid(), SIGNALS[fault])))
                    timers[0].start()
            return whole(net, batch, *rest)

        def happened(*_: object) -> None:
            for timer in timers:
                timer.join()

        loop.gradients = gradients  # type: ignore[assignment]
        at(loop.Trainer, "_end_epoch", happened, skip=EPOCHS - 1)

    return before


def environments(size: int) -> list[dict[str, str]]:
    """The variables of each of so many processes on this machine, as srun sets them; none for one process."""
    if size == 1:
        return [{}]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [{**place, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def start(words: list[str], at: Path, size: int, hit: int = -1, before: Callable[[], None] = lambda: None) -> list[Command]:
    """Start a command in so many processes; ``before`` is called in the process ``hit``."""
    befores = [before if rank == hit else lambda: None for rank in range(size)]
    each = enumerate(zip(environments(size), befores, strict=True))
    return [Command(words, at, variables, own, log=f"rank{rank}-").start() for rank, (variables, own) in each]


def hanging(process: Command) -> bool:
    return process.poll() is None and Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def ended(processes: list[Command]) -> float:
    """Seconds from the end of the first process, or from when it hangs, to the end of the last other one."""
    first, until = 0.0, time.monotonic() + 300
    while any(one.poll() is None and not hanging(one) for one in processes):
        if not first and any(one.poll() is not None or hanging(one) for one in processes):
            first = time.monotonic()
            until = first + 2 * LIMIT
        if time.monotonic() > until:
            break
        time.sleep(0.05)
    last = time.monotonic()
    for one in processes:  # as a launcher does
        if one.poll() is None:
            os.kill(one.pid, signal.SIGKILL)
        one.wait()
    return last - (first or last)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["train_loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@row(
    40,
    fault="a rank dies, hangs, gets SIGTERM, meets NaN or an exception",
    promise="all end within 30 s with the same status; the run resumes on 1, 2 or 3 ranks, with the losses of an undisturbed one",
    quick=1,
    full=20,
)
def ranks(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """`lsg train` in two or three processes (Gloo), in one of which the fault happens during a random step: SIGKILL, SIGTERM, SIGSTOP,
    a batch of NaN, or a DataError. The run is resumed on one, two or three ranks. On the same number, its last checkpoint must be that
    of an undisturbed run exactly; on another, its losses must be within 0.1 %."""
    words = warm(folder)

    @functools.cache
    def undisturbed(size: int) -> Path:
        processes = start([*words, "--out", "run"], folder / f"whole{size}", size)
        assert all(one.wait() == 0 for one in processes), processes[0].err
        return folder / f"whole{size}" / "run"

    for number in range(count):
        fault = list(STATUSES)[number % len(STATUSES)]
        size, again = chance.choice((2, 3)), chance.choice((1, 2, 3))
        hit, step, own = chance.randrange(size), chance.randrange(STEPS), folder / str(number)
        processes = start([*words, "--out", "run"], own, size, hit, disturbed(fault, step, chance.uniform(0, 0.2)))
        seconds = ended(processes)
        problem = _unlike(processes, hit, fault, seconds)
        resumed = start(["train", "--resume", "run"], own, again)
        if [one.wait() for one in resumed] != [0] * again:
            problem = problem or f"not resumed: {resumed[0].err[-300:]}"
        elif again == size and tensors(own / "run") != tensors(undisturbed(size)):
            problem = problem or "other bits than of an undisturbed run"
        else:
            pairs = list(zip(losses(own / "run"), losses(undisturbed(size)), strict=True))
            if any(abs(a - b) > LOSS * b for a, b in pairs):
                problem = problem or f"other losses: {pairs}"
        where = f"rank {hit} of {size}, step {step}, resumed on {again}"
        yield Case(fault, f"{where}: {problem}" if problem else "")


def _unlike(processes: list[Command], hit: int, fault: str, seconds: float) -> str:
    others = [one for rank, one in enumerate(processes) if rank != hit or fault not in ("dies", "hangs")]
    statuses = [one.status for one in others]
    if set(statuses) != {STATUSES[fault]}:
        return f"statuses {statuses}: {[one.err[-300:] for one in others]}"
    if seconds > LIMIT:
        return f"the last ended {seconds:.1f} s after the first"
    messages = [line for one in others for line in one.err.splitlines() if line.startswith("error: ")]
    return "" if len(messages) == 1 or (messages and fault in ("dies", "hangs")) else f"messages {messages}"
