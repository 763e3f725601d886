"""Rows of trainings that stop by themselves: with numbers that are not finite, without memory, without a worker."""

import itertools
import math
import multiprocessing
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.stress.rows import Case, limit_memory, row
from benchmarks.stress.runs import EPOCHS, STEPS, Runs, difference, on_step
from lsgcli.data import parallel
from lsgcli.store import checkpoint, rundir
from lsgcli.system import schema
from lsgcli.training import evaluate
from lsgcli.training.loop import Trainer

# Row 19

VALUES = (math.nan, math.inf, -math.inf)


def spoilt(x: torch.Tensor, value: float) -> torch.Tensor:
    x = x.clone(memory_format=torch.contiguous_format)
    x.view(-1)[x.numel() // 2] = value
    return x


def spoil(kind: str, name: str, value: float, number: int, note: Path) -> None:
    """In this process, replace an element by ``value`` in step ``number``, and note the parameters before it."""

    def once(trainer: Trainer) -> None:
        model = trainer.model
        note.write_text(checkpoint.tensor_digest({n: p.detach() for n, p in model.named_parameters()}))
        if kind == "gradient":
            parameter = model.get_parameter(name)
            parameter.register_hook(lambda gradient: spoilt(gradient, value))
        elif kind == "output":
            module = model.get_submodule(name)

            def replace(module: torch.nn.Module, x: Any, y: torch.Tensor) -> torch.Tensor:
                hook.remove()
                return spoilt(y, value)

            hook = module.register_forward_hook(replace)
        else:
            original = trainer.loss
            trainer.loss = lambda logits, labels: original(logits, labels) * value

    if kind == "evaluation":
        original, numbers = evaluate.measure, itertools.count()
        evaluate.measure = lambda logits, *arguments, **named: original(
            (lambda x: spoilt(logits(x), value)) if next(numbers) == number // STEPS else logits, *arguments, **named
        )
    else:
        on_step(number, once)


def sites(model: torch.nn.Module) -> list[tuple[str, str]]:
    """Where a value can be replaced: the loss, the logits of an evaluation, each gradient, the output of each module."""
    modules = [name for name, module in model.named_modules() if name and not isinstance(module, torch.nn.ModuleList)]
    return [
        ("loss", ""),
        ("evaluation", ""),
        *(("gradient", name) for name, _ in model.named_parameters()),
        *(("output", name) for name in modules),
    ]


@row(
    19,
    fault="NaN or infinity in the loss, a gradient, an activation, an evaluation",
    promise="exit status 5 before the step, with a gradient table and the parameters from before it; never in a saved checkpoint",
    quick=8,
    full=200,
)
def not_finite(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """One element is replaced by NaN, infinity or -infinity in a random step: of the loss, of the logits of an evaluation, of each gradient, of
    the output of each module, of an MLP with compiled and a VGGSNN with reference neurons. Neurons do not pass on NaN, and a logit of
    -infinity is a probability of 0, so a replaced activation may also be without effect; then all that is saved must be finite."""
    runs, note = Runs(folder), folder / "note"
    networks: list[list[str]] = [[], ["--arch", "vggsnn", "--size", "16", "--backend", "reference"]]
    places = []
    for more in networks:
        one = runs.train([*runs.words, *more, "--epochs", "1"])
        assert one.status == 0, one.err
        model = checkpoint.load(runs.run / rundir.LAST)[0]
        places += [(more, kind, name, value) for kind, name in sites(model) for value in VALUES]
    chance.shuffle(places)
    turns = [[place for place in places if place[1] == kind] for kind in ("loss", "evaluation", "gradient", "output")]
    mixed = [place for turn in itertools.zip_longest(*turns) for place in turn if place]  # some of each kind with --quick
    for more, kind, name, value in mixed[:count]:
        number = chance.randrange(1, STEPS * EPOCHS)

        def change(kind=kind, name=name, value=value, number=number) -> None:
            spoil(kind, name, value, number, note)

        one = runs.train([*runs.words, *more], change)
        problem = spread(runs.run)
        if not problem and not (kind == "output" and one.status == 0):
            problem = one.ended(5, "Likely cause") or _stop_problem(runs.run, kind, number, note)
        without = ", without effect" if one.status == 0 else ""
        yield Case(f"{kind}{without}", problem and f"{name} {value} in step {number} of {more}: {problem}")


def spread(run: Path) -> str:
    """Checkpoints of a run that are not finite."""
    found = []
    for file in (run / rundir.LAST, run / rundir.BEST):
        if file.exists():
            content = checkpoint.read(file)
            found += [f"{file.name}: {n}" for n, x in {**content.weights, **content.extra}.items() if not x.isfinite().all()]
    return f"not finite: {found}" if found else ""


def _stop_problem(run: Path, kind: str, number: int, note: Path) -> str:
    """What is wrong with a run that stopped in this step."""
    line = schema.read_lines(run / rundir.GRADIENT_FLOW)[-1]
    epoch, index = divmod(number, STEPS)
    if line.get("event") != "diverged" or line["epoch"] != epoch or not line["layers"]:
        return f"the last line of {rundir.GRADIENT_FLOW} is {str(line)[:200]}"
    if (rundir.read_result(run) or {}).get("accuracy", 0) is not None:
        return f"{rundir.RESULT} does not say that the run diverged"
    epochs = [line["epoch"] for line in schema.read_lines(run / rundir.METRICS)]
    if epochs != [*range(epoch)]:
        return f"epochs {epochs} were recorded"
    if kind == "evaluation":
        return ""
    model, _ = checkpoint.load(run / rundir.DIVERGED, buffers_finite=False)
    digest = checkpoint.tensor_digest({name: p.detach() for name, p in model.named_parameters()})
    return "" if line["step"] == index and digest == note.read_text() else "the step was made"


# Rows 20 and 21


@row(20, fault="out of memory", promise="exit status 8 with a hint, without a traceback", quick=6, full=60)
def out_of_memory(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A training that needs 300 MiB gets up to 250 MiB of address space (RLIMIT_AS), from its start or from a random step on."""
    runs = Runs(folder)
    for _ in range(count):
        more, number = chance.randrange(250 << 20), chance.choice((None, 0, 1))

        def change(more=more, number=number) -> None:
            if number is None:
                limit_memory(more)
            else:
                on_step(number, lambda _: limit_memory(more))

        one = runs.train([*runs.words, "--width-multiplier", "16", "--epochs", "1"], change)
        kind = "from the start" if number is None else f"from step {number}"
        problem = one.ended(8, "not enough memory", "\n  ")
        yield Case(kind, problem and f"{more >> 20} MiB: {problem}")


@row(
    21,
    fault="a worker raises, or is killed",
    promise="exit status 3 names the sample; without a killed worker the same bits; no hang",
    quick=3,
    full=60,
)
def workers(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Two processes prepare the data. A random file is damaged (cut, empty, of another kind); or one of the processes is killed (SIGKILL) up
    to a second after it was started."""
    runs = Runs(folder)
    whole = runs.whole(0)
    damage: tuple[Callable[[bytes], bytes], ...] = (lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\0" * len(b))
    for case in range(count):
        shutil.rmtree(folder / "cache", ignore_errors=True)
        kind = ("process raises", "process is killed")[case % 2]
        victim = chance.choice(sorted((folder / "data" / "train").rglob("*.*")))
        content, delay = victim.read_bytes(), chance.random()
        damaged = chance.choice(damage)(content)

        def in_processes(delay=delay, kind=kind) -> None:
            parallel.PROBE = parallel.WORTH = parallel.BUSY = -1.0
            if kind == "process is killed":
                threading.Thread(target=kill_child, args=(delay,), daemon=True).start()

        words = [*whole.words, "--workers", "2"]
        if kind == "process raises":
            victim.write_bytes(damaged)
            problem = runs.train(words, in_processes).ended(3, victim)
        else:
            one = runs.train(words, in_processes)
            kind += "" if "worker processes ended unexpectedly" in one.err else " after its work"
            problem = one.ended(0) or difference(runs.run, whole.bits)
        victim.write_bytes(content)
        yield Case(kind, problem)


def kill_child(delay: float) -> None:
    while not (children := multiprocessing.active_children()):
        time.sleep(0.01)
    time.sleep(delay)
    children[0].kill()
