"""Rows of files that the program writes, in which the writing is killed, fails, or meets an older file."""

import builtins
import contextlib
import io
import itertools
import json
import os
import random
import resource
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.stress.reading import same, small
from benchmarks.stress.rows import Case, fork, forked, killed_after, refused, row
from lsgcli.data import cache
from lsgcli.errors import CheckpointError, StorageError
from lsgcli.store import checkpoint
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.store.rundir import RunDir, RunFiles, write_config
from lsgcli.system import files, schema
from lsgcli.system.device import Compute
from lsgcli.training.loop import Emit, Trainer
from lsgcli.training.signals import StopRequest
from tests import tiny
from tests.exports import saved
from tests.unit.models.helpers import SMALL

DIRECT = (
    "a direct write was broken by 47 of 200 kills, a temporary file with fsync and rename by 0 of 500; safetensors has no fsync"
)


def numbered(content: Checkpoint, epoch: int) -> Checkpoint:
    return Checkpoint(content.weights, content.config, {**content.state, "epoch": epoch}, content.extra)


# Rows 1 and 15


def killed_between_reports(pid: int, reader: int, chance: random.Random) -> int:
    """SIGKILL a child that reports numbers through a pipe, at a random moment after the second one and before a third one is due.

    Returns:
        The last number, 0 if there was none.
    """
    with os.fdopen(reader, "rb") as stream:
        first = os.read(reader, 8)
        begin = time.monotonic()
        last = os.read(reader, 8) or first
        killed_after(chance.uniform(0, time.monotonic() - begin), pid)
        return int.from_bytes(stream.read()[-8:] or last, "little")


@row(
    1,
    fault="SIGKILL while a checkpoint is saved",
    promise="the newest acknowledged checkpoint loads; temporary files are removed by the next run",
    peers=DIRECT,
    quick=40,
    full=1000,
)
def killed_while_saving(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """A forked process saves again and again, and reports each save that has returned. It is killed at a random moment within the time that
    a save takes; the file must then load and be no older than the last save reported."""
    with RunDir(folder / "run") as run:
        write_config(run, tiny.config(), {})
    content, epoch = small(run.last), 0
    content.extra = {"optim/large": torch.rand(1 << 20)}  # so that writing takes a good part of the time

    for _ in range(count):
        reader, writer = os.pipe()

        def save(first: int = epoch + 1, writer: int = writer) -> None:
            for number in itertools.count(first):
                checkpoint.save(run.last, numbered(content, number))
                os.write(writer, number.to_bytes(8, "little"))

        pid = fork(save)
        os.close(writer)
        acknowledged = killed_between_reports(pid, reader, chance)
        in_file = len(list(run.path.iterdir())) > 2
        with RunDir(run.path, resume=True):
            pass
        strays = [path.name for path in run.path.iterdir() if path not in (run.config_file, run.last)]
        epoch, problem = acknowledged, ""
        try:
            epoch = checkpoint.read(run.last).state["epoch"]
        except CheckpointError as error:
            problem = f"broken: {error}"
        if epoch < acknowledged:
            problem = f"epoch {acknowledged} was acknowledged, found {epoch}"
        yield Case("in the middle of a file" if in_file else "between files", problem or (f"left {strays}" if strays else ""))


# Rows 15, 29 and 30


@row(
    15,
    fault="SIGKILL while checkpoints replace one another",
    promise="never fewer than one valid checkpoint; best is the best of the epochs that last knows, or of the next one",
    quick=20,
    full=500,
)
def rotation(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """The training loop, without steps and with random accuracies, saves best and last after each epoch in a forked process, and reports
    each epoch. It is killed at a random moment within the time that an epoch takes."""
    config, bundle = tiny.config(arch="mlp", epochs=10_000), tiny.bundle(n=16)
    for _ in range(count):
        accuracies = [chance.random() for _ in range(config.epochs)]
        reader, writer = os.pipe()
        run = RunFiles(folder / "run")
        shutil.rmtree(run.path, ignore_errors=True)

        def report(record: dict[str, Any], writer: int = writer) -> None:
            if record["event"] == "epoch":
                os.write(writer, (record["epoch"] + 1).to_bytes(8, "little"))

        def train(path: Path = run.path, accuracies: list[float] = accuracies, report: Emit = report) -> None:
            with RunDir(path) as opened:
                trainer = Trainer(config, bundle, Compute(torch.device("cpu")), opened, report, StopRequest())

                def no_step(*arguments: Any, **named: Any) -> Any:
                    trainer.state.seen = 1
                    return list  # which makes an empty record

                trainer._step = no_step
                trainer._batches = lambda start=0: [SimpleNamespace(index=trainer.steps - 1)]
                trainer._evaluate = lambda *_: SimpleNamespace(
                    accuracy=accuracies[trainer.state.epoch], loss=1.0, averages=dict
                )
                trainer.train()

        pid = fork(train)
        os.close(writer)
        epoch, problem = killed_between_reports(pid, reader, chance), ""
        try:
            newest, chosen = (checkpoint.read(path).state for path in (run.last, run.best))
            expected = {max(range(n), key=accuracies.__getitem__) for n in (newest["epoch"], newest["epoch"] + 1)}
            if newest["epoch"] < max(epoch, 1) or chosen["best_epoch"] not in expected:
                problem = f"epoch {epoch} was acknowledged, found last {newest} and best {chosen}, expected {expected}"
        except CheckpointError as error:
            problem = f"broken: {error}"
        yield Case("kill", problem)


# Rows 2 and 3

CALLS = [(os, "replace"), (os, "fsync"), (os, "open"), (os, "close"), (os, "unlink"), (os, "chmod"), (os, "mkdir")]
CALLS += [(io, "open"), (builtins, "open"), (checkpoint, "save_file")]
Action = Callable[[int, str, Callable[[], Any], tuple[Any, ...]], Any]


@contextlib.contextmanager
def calls_replaced(action: Action) -> Iterator[None]:
    """Each call that opens, writes, syncs, renames or removes a file is ``action(number, name, call, arguments)`` instead."""
    numbers = itertools.count()

    def replaced(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            return action(next(numbers), name, lambda: original(*arguments, **named), arguments)

        return call

    with contextlib.ExitStack() as stack:
        for module, name in CALLS:
            stack.enter_context(mock.patch.object(module, name, replaced(name, getattr(module, name))))
        yield


def written(folder: Path, content: Checkpoint) -> dict[str, tuple[Callable[[int], object], Callable[[], int]]]:
    """What the program writes: the write of version n, and the version that is there now, which raises if it is broken."""

    def write_folder(n: int) -> None:
        with files.replacing(folder / f"net-{n}", folder=True) as temporary:
            (temporary / "config.json").write_text(str(n))
            checkpoint.write(temporary / "net.safetensors", content)

    def read_folder() -> int:
        found = [path for path in folder.iterdir() if path.name.startswith("net-")]
        return max(int((path / "config.json").read_text()) for path in found if checkpoint.read(path / "net.safetensors"))

    return {
        "checkpoint": (
            lambda n: checkpoint.save(folder / "last.safetensors", numbered(content, n)),
            lambda: int(checkpoint.read(folder / "last.safetensors").state["epoch"]),
        ),
        "JSON": (
            lambda n: files.write_json(folder / "result.json", {"n": n}),
            lambda: int(json.loads((folder / "result.json").read_text())["n"]),
        ),
        "line": (
            lambda n: files.append_json_line(folder / "metrics.jsonl", {"n": n}),
            lambda: int(schema.read_lines(folder / "metrics.jsonl")[-1]["n"]),
        ),
        "folder": (write_folder, read_folder),
    }


def calls_of(write: Callable[[int], object]) -> list[str]:
    names = []

    def noted(number: int, name: str, call: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        names.append(name)
        return call()

    with calls_replaced(noted):
        write(0)
    return names


@row(2, fault="a crash at any call that writes", promise="the old or the new file, whole", peers=DIRECT, quick=1, full=10)
def crash_at_each_call(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """open, write, fsync, chmod, rename, unlink and mkdir are counted in the writing of a checkpoint, a JSON file, a line and a folder.
    For each call k, a forked process ends without warning before call k, after it, and with the file of call k cut at a random byte."""
    content = small(folder / "source")
    for kind, (write, version) in written(folder, content).items():
        for k, name in enumerate(calls_of(write)):
            for when in ("before", "after", *(["cut"] * count if name == "save_file" else [])):
                share = chance.random()

                def crash(
                    number: int, name: str, call: Callable[[], Any], arguments: tuple[Any, ...], k=k, when=when, share=share
                ):
                    if number != k:
                        return call()
                    with contextlib.suppress(OSError):  # the removal of what was renamed
                        if when != "before":
                            call()
                    if when == "cut":
                        os.truncate(arguments[1], int(share * os.path.getsize(arguments[1])))
                    os._exit(9)

                def crashing(write=write, crash=crash) -> None:
                    with calls_replaced(crash):
                        write(1)

                before = version()
                status = os.waitstatus_to_exitcode(os.waitpid(fork(crashing), 0)[1])
                files.remove_partial(folder)
                yield Case(
                    f"{kind}, {when}", _version_problem(version, {before, 1}) or ("" if status == 9 else f"status {status}")
                )


def _version_problem(version: Callable[[], int], expected: set[int]) -> str:
    try:
        found = version()
    except Exception as error:
        return f"broken: {type(error).__name__}: {error}"
    return "" if found in expected else f"found version {found}, expected one of {expected}"


@row(
    3,
    fault="a full disk or an I/O error at any call that writes",
    promise="exit status 7, the old file unchanged, no temporary file left",
    quick=10,
    full=1000,
)
def full_disk(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Call k of the writing, counted as in row 2, raises ENOSPC or EIO, once or from then on, for all k; and a limit on the size of
    files (RLIMIT_FSIZE) stops the writing of a checkpoint at a random byte."""
    content = small(folder / "source")
    for kind, (write, version) in written(folder, content).items():
        for k, failing in enumerate(calls_of(write)):
            if failing == "close":  # of a descriptor that was only synced
                continue
            for code, lasting in itertools.product((28, 5), (False, True)):

                def fail(
                    number: int, name: str, call: Callable[[], Any], arguments: tuple[Any, ...], k=k, code=code, lasting=lasting
                ):
                    flags = arguments[1] if len(arguments) > 1 else os.O_RDONLY
                    reads = name == "open" and isinstance(flags, int) and not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                    harmless = reads or name in ("unlink", "close")
                    if number != k and (number < k or not lasting or harmless):
                        return call()
                    raise OSError(code, os.strerror(code), str(arguments[0]))

                before, number = version(), version() + 1
                with calls_replaced(fail):
                    case = _stored_or_refused(kind, lambda write=write, number=number: write(number))
                expected = {before} if case.problem == "refused" else {number}
                problem = case.problem if case.problem not in ("", "refused") else _version_problem(version, expected)
                left = [path.name for path in folder.glob(f"{files.PARTIAL}*")]
                if left and failing != "unlink" and not problem:
                    problem = f"left {left} after {os.strerror(code)} at call {k}, {failing}"
                files.remove_partial(folder)
                yield Case(kind, problem)

    path, size = folder / "last.safetensors", (folder / "last.safetensors").stat().st_size
    limits, before = [chance.randrange(size) for _ in range(count)], (folder / "last.safetensors").read_bytes()

    def limited() -> Iterator[Case]:
        for limit in limits:
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
            case = refused("size limit", lambda: checkpoint.save(path, content), StorageError, path)
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            left = [one.name for one in folder.glob(f"{files.PARTIAL}*")]
            if not case.problem and (left or path.read_bytes() != before):
                case = Case("size limit", f"left {left}" if left else "the old file changed")
            yield case

    yield from forked(limited)


def _stored_or_refused(kind: str, write: Callable[[], object]) -> Case:
    """A case whose problem is "refused" after a StorageError."""
    try:
        write()
    except StorageError:
        return Case(kind, "refused")
    except BaseException as error:
        return Case(kind, f"{type(error).__name__}: {error}")
    return Case(kind)


# Rows 29 and 30


@row(29, fault="the mode of new files", promise="0666 & ~umask", quick=1, full=1)
def modes(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Each kind of file that the program writes, new and over an existing file of another mode, under five umasks."""
    content = small(folder / "source")
    ways: dict[str, Callable[[Path], object]] = {
        "checkpoint": lambda path: checkpoint.save(path, content),
        "JSON": lambda path: files.write_json(path, {}),
        "text": lambda path: files.write_text(path, "text"),
        "line": lambda path: files.append_json_line(path, {}),
        "frames": lambda path: cache.load(path.with_suffix(".npy"), (2, 2), np.dtype(np.uint8), lambda array: {}),
    }
    for umask in (0o022, 0o027, 0o077, 0o002, 0o000):
        for kind, write in ways.items():
            before = os.umask(umask)
            try:
                path = folder / f"{kind}-{umask:03o}"
                write(path)
                if kind not in ("line", "frames"):
                    path.chmod(0o600)
                    write(path)
                made = sorted(folder.glob(f"{path.name}*"))
            finally:
                os.umask(before)
            wrong = [
                f"{p.name}: {stat.S_IMODE(p.stat().st_mode):o}"
                for p in made
                if stat.S_IMODE(p.stat().st_mode) != 0o666 & ~umask
            ]
            yield Case(kind, f"umask {umask:o}: {wrong}" if wrong or not made else "")


@row(30, fault="a checkpoint saved over the file it was read from", promise="the same content", quick=1, full=20)
def over_its_source(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Four small networks, read and saved to the same path, to a symbolic link to it, which is refused, and with a second hard link to the
    old file; the tensors in memory, the new file and the other link must keep their bits."""
    for _ in range(count):
        for which in SMALL:
            for kind in ("path", "symbolic link", "hard link"):
                path = saved(which, folder / f"{which}-{kind}")
                whole = checkpoint.read(path)
                target = folder / "target"
                target.unlink(missing_ok=True)
                if kind == "symbolic link":
                    target.symlink_to(path)
                elif kind == "hard link":
                    target.hardlink_to(path)
                content = checkpoint.read(path)
                with contextlib.suppress(StorageError) if kind == "symbolic link" else contextlib.nullcontext():
                    checkpoint.save(path if kind == "path" else target, content)
                equal = [
                    same(one, whole)
                    for one in (content, checkpoint.read(path), checkpoint.read(target if target.exists() else path))
                ]
                yield Case(kind, "" if all(equal) else f"{which}: memory, source, target equal: {equal}")
