"""One experiment of ``lsg diagnose --try``: a script with one change, in a process and a working directory of its own.

``python -m lsgcli.runs.experiment SPEC`` runs it; SPEC is a file that :func:`run` has written.
"""

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from lsgcli import registry
from lsgcli.analysis.experiments.base import Intervention, Values, replace_calls
from lsgcli.analysis.experiments.verdict import Experiment, Outcome, thinned
from lsgcli.analysis.watch.guard import Guard
from lsgcli.analysis.watch.seen import Seen
from lsgcli.runs.script import diagnose
from lsgcli.system import cpus, interpreter
from lsgcli.system.schema import Record

COPIED = 10e6  # bytes of a file that is copied into the working directory of an experiment; larger ones are links
MOST_COPIED = 200e6  # bytes in all
MOST_FILES = 2000  # of a folder, which is a link if it has more
# So that an experiment writes no run to a server, and a script can tell that it is one.
QUIET = {"WANDB_MODE": "disabled", "PYTHONDONTWRITEBYTECODE": "1"}
PATIENCE = 5  # seconds in which an experiment waits for an evaluation
CHANGING = ("os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree", "shutil.move")  # events that change files
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Script(msgspec.Struct):
    """A script that was watched: its path or module, and its arguments."""

    script: str
    arguments: Sequence[str] = ()
    module: bool = False


class Spec(msgspec.Struct):
    """What one process runs: a script, in a folder, with a change. The outcome is written to ``result``.

    Attributes:
        protected: folders of the user, in which nothing may be written.
    """

    script: str
    arguments: list[str]
    module: bool
    steps: int
    intervention: str
    values: Values
    result: str
    protected: list[str]


class Unchanged(Intervention):
    """nothing is changed while it runs"""

    def is_possible(self, seen: Seen) -> bool:
        return True

    def begin(self, guard: Guard, values: Values) -> None:
        return None


def run(script: Script, steps: int, experiment: Experiment, end: float, at_once: int, running: set[int]) -> Outcome:
    """One experiment, in a process of its own, of which so many run at once."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lsg-try-", ignore_cleanup_errors=True) as own:
        here = Path.cwd()
        folder = Path(own, "work")
        copy_folder(here, folder)
        protected = [str(here)]
        path = script.script
        if not script.module:
            absolute = Path(script.script).resolve()
            protected.append(str(absolute.parent))
            path = str(folder / absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
        if not all(apply(edit, here, folder) for edit in experiment.edits):
            return Outcome(error="the line is not in a file of the working directory")
        result = Path(own, "outcome.json")
        spec = Spec(
            script=path,
            arguments=list(script.arguments),
            module=script.module,
            steps=steps,
            intervention="" if experiment.edits else experiment.intervention,
            values=experiment.values,
            result=str(result),
            protected=protected,
        )
        Path(own, "spec.json").write_bytes(msgspec.json.encode(spec))
        errors = Path(own, "stderr.txt")
        with errors.open("wb") as stream:
            process = subprocess.Popen(
                interpreter.command("lsgcli.runs.experiment", str(Path(own, "spec.json"))),
                cwd=folder,
                env=os.environ | QUIET | cpus.share(at_once) | {"LSG_EXPERIMENT": experiment.intervention},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # Ctrl-C interrupts this command only, which ends its experiments
            )
            running.add(process.pid)
            try:
                process.wait(max(1.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                end_group(process.pid)
                process.wait()
            running.discard(process.pid)
        seconds = round(time.monotonic() - start, 1)
        if result.exists():
            outcome = Outcome(**json.loads(result.read_text(encoding="utf-8")))  # which may have NaN
            outcome.seconds = seconds
            return outcome
        if time.monotonic() >= end:
            return Outcome(seconds=seconds, error="not finished in time")
        said = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return Outcome(seconds=seconds, error=said[-1] if said else f"exit status {process.returncode}")


def apply(edit: Record, here: Path, folder: Path) -> bool:
    """Change a line of a file of the working directory in its copy; returns whether it is there."""
    file = Path(edit["file"]).resolve()
    if not file.is_relative_to(here):
        return False
    copied = folder / file.relative_to(here)
    if copied.is_symlink() or not copied.resolve().is_relative_to(folder.resolve()):
        return False
    lines = copied.read_text(encoding="utf-8").splitlines(keepends=True)
    before = lines[edit["line"] - 1]
    lines[edit["line"] - 1] = before.replace(edit["old"], edit["new"], 1)
    copied.write_text("".join(lines), encoding="utf-8")
    return edit["old"] in before


def end_group(process: int) -> None:
    """End a process and those that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def copy_folder(source: Path, target: Path) -> None:
    """A working directory for an experiment: what is small is copied; large files, hidden folders and what exceeds ``MOST_COPIED`` are links."""
    target.mkdir()
    left = MOST_COPIED
    for entry in sorted(os.scandir(source), key=lambda entry: entry.is_dir()):
        own = target / entry.name
        size = _size_of(entry, left)
        try:
            if size > left:
                own.symlink_to(entry.path)
            elif entry.is_dir():
                shutil.copytree(entry.path, own, symlinks=True)
            else:
                shutil.copy2(entry.path, own)
        except OSError:
            continue  # a file that cannot be read, or is gone
        left -= size if size <= left else 0


def _size_of(entry: os.DirEntry[str], most: float) -> float:
    """Bytes of a file, or of all files of a folder; infinite for what is not copied whatever its size, and beyond ``most``."""
    if entry.is_symlink() or (entry.is_dir() and entry.name.startswith(".")):
        return math.inf
    below = (os.path.join(root, name) for root, _, names in os.walk(entry.path) for name in names)
    size = 0
    for count, path in enumerate(below if entry.is_dir() else [entry.path], start=1):
        with contextlib.suppress(OSError):
            size += os.stat(path).st_size
        if size > most or count > MOST_FILES:
            return math.inf
    return size if entry.is_dir() or size < COPIED else math.inf


def protect(folders: Sequence[str]) -> None:
    """Refuse to change files of these folders, in this process, until its end."""
    real = tuple(os.path.realpath(folder) + os.sep for folder in folders)

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        paths = arguments if event in CHANGING else ()
        if event == "open":
            _, mode, flags = arguments
            changes = flags & WRITES if isinstance(flags, int) else any(letter in str(mode) for letter in "wax+")
            paths = arguments[:1] if changes else ()
        for path in paths:
            where = os.path.realpath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""
            if where.startswith(real):
                raise PermissionError(f"{where}: an experiment of lsg diagnose --try may not change it")

    sys.addaudithook(check)


def _save(original: Callable[..., Any], value: Any, file: Any, *arguments: Any, **options: Any) -> None:
    """Save a checkpoint, where files may be changed: torch opens it without telling Python."""
    if isinstance(file, str | os.PathLike):
        sys.audit("open", file, "w", WRITES)
    original(value, file, *arguments, **options)


@contextlib.contextmanager
def changed(name: str, values: Values) -> Iterator[Intervention]:
    """The time in which an intervention changes a training."""
    change: Intervention = registry.get("intervention", name)() if name else Unchanged()
    guard = Guard()
    change.begin(guard, values)
    replace_calls(guard, torch, ["save"], _save)
    try:
        yield change
    finally:
        guard.close()


def outcome_of(seen: Seen, seconds: float, status: int = 0, scores: Sequence[Any] = ()) -> Outcome:
    """How a training went, from what was seen of it; accuracies from ``scores`` if there are any."""
    losses = seen.numbers()
    if scores:
        known = [(step, share, count) for step, share, count in scores if math.isfinite(share)]
        seen.accuracy, seen.explained = (known, []) if seen.classes else ([], known)
    skill = seen.skill
    if math.isnan(skill) and not (seen.classes or seen.explained):
        skill = seen.progress
    held_out = held_out_skill = seen.evaluated_explained
    if seen.classes and seen.evaluated:
        held_out = seen.held_out
        held_out_skill = (held_out - seen.chance) / (1 - seen.chance + 1e-9)
    error = ""
    if seen.error is not None:
        error = str(seen.error).partition("\n")[0]
    elif status:
        error = f"exit status {status}"
    return Outcome(
        loss=sum(losses[-10:]) / len(losses[-10:]) if losses else float("nan"),
        losses=thinned(losses),
        accuracy=seen.recent(seen.accuracy),
        skill=skill,
        held_out=held_out,
        held_out_skill=held_out_skill,
        steps=seen.steps,
        seconds=round(seconds, 1),
        error=error,
    )


def main(path: str) -> None:
    """Run one experiment."""
    spec = msgspec.json.decode(Path(path).read_bytes(), type=Spec)
    protect(spec.protected)
    start = time.monotonic()
    with changed(spec.intervention, spec.values) as change:
        found = diagnose(spec.script, spec.arguments, module=spec.module, steps=spec.steps, patience=PATIENCE)
    outcome = outcome_of(found.seen, time.monotonic() - start, found.status, change.scores)
    Path(spec.result).write_text(json.dumps(msgspec.structs.asdict(outcome)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
