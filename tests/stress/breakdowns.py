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

import numpy as np
import torch

from lsgcli import checkpoint, files, registry, rundir
from lsgcli.data import parallel
from lsgcli.training import evaluate, step
from lsgcli.training.loop import Trainer
from tests.stress.commands import EPOCHS, STEPS, Runs, difference, limit_memory, lsg, on_step, unlike
from tests.stress.rows import Case, row

# Row 19

VALUES = (math.nan, math.inf, -math.inf)


def spoilt(x: torch.Tensor, value: float) -> torch.Tensor:
    """x with one element replaced."""
    x = x.clone(memory_format=torch.contiguous_format)
    x.view(-1)[x.numel() // 2] = value
    return x


def spoil(kind: str, name: str, value: float, number: int, note: Path) -> None:
    """In this process, replace an element by ``value`` in step ``number``, and note the parameters before it."""

    def once(trainer: Trainer, *arguments: Any, **named: Any) -> None:
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
            original = registry.get
            step.registry.get = lambda kind, which: (
                (lambda y, labels, config: original(kind, which)(y, labels, config) * value)
                if kind == "loss"
                else original(kind, which)
            )

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
        runs.clear()
        outcome = lsg([*runs.words, *more, "--epochs", "1", "--out", str(runs.run)], runs.output)
        assert outcome.status == 0, outcome.text
        model = checkpoint.load(runs.run / rundir.LAST)[0]
        places += [(more, kind, name, value) for kind, name in sites(model) for value in VALUES]
    chance.shuffle(places)
    turns = [[place for place in places if place[1] == kind] for kind in ("loss", "evaluation", "gradient", "output")]
    mixed = [place for turn in itertools.zip_longest(*turns) for place in turn if place]  # some of each kind with --quick
    for more, kind, name, value in mixed[:count]:
        runs.clear()
        number = chance.randrange(1, STEPS * EPOCHS)

        def change(kind=kind, name=name, value=value, number=number) -> None:
            spoil(kind, name, value, number, note)

        outcome = lsg([*runs.words, *more, "--out", str(runs.run)], runs.output, change)
        problem = spread(runs.run)
        if not problem and not (kind == "output" and outcome.status == 0):
            problem = unlike(outcome, 5, "Likely cause") or _stop_problem(runs.run, kind, number, note)
        without = ", without effect" if outcome.status == 0 else ""
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
    line = files.read_json_lines(run / rundir.GRADIENT_FLOW)[-1]
    epoch, index = divmod(number, STEPS)
    if line.get("event") != "diverged" or line["epoch"] != epoch or not line["layers"]:
        return f"the last line of {rundir.GRADIENT_FLOW} is {str(line)[:200]}"
    if (rundir.read_result(run) or {}).get("accuracy", 0) is not None:
        return f"{rundir.RESULT} does not say that the run diverged"
    epochs = [line["epoch"] for line in files.read_json_lines(run / rundir.METRICS)]
    if epochs != [*range(epoch)]:
        return f"epochs {epochs} were recorded"
    if kind == "evaluation":
        return ""
    model, _ = checkpoint.load(run / rundir.DIVERGED)
    digest = checkpoint.tensor_digest({name: p.detach() for name, p in model.named_parameters()})
    return "" if line["step"] == index and digest == note.read_text() else "the step was made"


# Rows 20 and 21


@row(20, fault="out of memory", promise="exit status 8 with a hint, without a traceback", quick=6, full=60)
def out_of_memory(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A training that needs 300 MiB gets up to 250 MiB of address space (RLIMIT_AS), from its start or from a random step on."""
    runs = Runs(folder)
    for _ in range(count):
        runs.clear()
        more, number = chance.randrange(250 << 20), chance.choice((None, 0, 1))

        def change(more=more, number=number) -> None:
            if number is None:
                limit_memory(more)
            else:
                on_step(number, lambda *_, **__: limit_memory(more))

        words = [*runs.words, "--width-multiplier", "16", "--epochs", "1", "--out", str(runs.run)]
        outcome = lsg(words, runs.output, change)
        kind = "from the start" if number is None else f"from step {number}"
        problem = unlike(outcome, 8, "not enough memory", "\n  ")
        yield Case(kind, problem and f"{more >> 20} MiB: {problem}")


def recordings(folder: Path) -> Path:
    """A folder of recordings in the layout of :func:`tests.stress.commands.images`."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for label, name in enumerate(("left", "middle", "right")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                x, y = (rng.integers(0, 8, 60).astype(np.uint16) + (4 * label, 0)[i] for i in (0, 1))
                events = {"x": x, "y": y, "t": np.arange(60) * 1000, "p": rng.integers(0, 2, 60).astype(bool)}
                np.savez(folder / split / name / f"{number:02}.npz", **events, sensor=[16, 16])
    return folder


@row(
    21,
    fault="a worker raises, or is killed",
    promise="exit status 3 names the sample; without a killed worker the same bits; no hang",
    quick=3,
    full=60,
)
def workers(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Two processes prepare the data. A random file is damaged (cut, empty, of another kind); or one of the processes is killed (SIGKILL) up
    to a second after it was started. And a recording is damaged while threads read it again for each epoch."""
    runs, source_of_events = Runs(folder), recordings(folder / "recordings")
    whole = runs.whole(0)
    damage: tuple[Callable[[bytes], bytes], ...] = (lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\0" * len(b))
    events = ["--dataset", "event-folder", "--data-dir", str(source_of_events), "--augment", "drop-events"]
    events += [
        "--val-fraction",
        "0",
        "--batch-size",
        "12",
    ]  # each epoch reads each recording; those for evaluation are read once
    for case in range(count):
        runs.clear()
        shutil.rmtree(folder / "cache", ignore_errors=True)
        kind = ("process raises", "process is killed", "thread raises")[case % 3]
        source = folder / ("recordings" if kind.startswith("thread") else "images") / "train"
        victim = chance.choice(sorted(source.rglob("*.*")))
        content, broken, delay = victim.read_bytes(), chance.choice(damage), chance.random()

        def spoil_file(*arguments: Any, victim=victim, content=content, broken=broken, **named: Any) -> None:
            victim.write_bytes(broken(content))

        def in_processes(delay=delay, kind=kind) -> None:
            parallel.PROBE = parallel.WORTH = parallel.BUSY = -1.0
            if kind == "process is killed":
                threading.Thread(target=kill_child, args=(delay,), daemon=True).start()

        output, words = runs.output, [*whole.words, "--workers", "2", "--out", str(runs.run)]
        try:
            if kind == "process raises":
                spoil_file()
                problem = unlike(lsg(words, output, in_processes), 3, victim)
            elif kind == "process is killed":
                outcome = lsg(words, output, in_processes)
                kind += "" if "worker processes ended unexpectedly" in outcome.text else " after its work"
                problem = unlike(outcome, 0) or difference(runs.run, whole.bits)
            else:
                words += events
                problem = unlike(lsg(words, output, lambda spoil=spoil_file: on_step(STEPS - 1, spoil)), 3, victim)
        finally:
            victim.write_bytes(content)
        yield Case(kind, problem)


def kill_child(delay: float) -> None:
    """Kill the first process that this one starts, after a delay."""
    while not (children := multiprocessing.active_children()):
        time.sleep(0.01)
    time.sleep(delay)
    children[0].kill()
