"""``lsg diagnose --try``: the script again with one change at a time, each in a process and a working directory of its own.

``python -m lsgcli.runs.experiments SPEC`` runs one experiment; SPEC is a file that this module has written.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import torch

from lsgcli import registry
from lsgcli.analysis.experiments.base import Intervention, Values, replace_calls
from lsgcli.analysis.experiments.verdict import NOTHING, Experiment, Outcome, confirm, does_well, is_better, sentence, thinned
from lsgcli.analysis.watch.guard import Guard
from lsgcli.analysis.watch.seen import Seen
from lsgcli.runs.script import Diagnosis, diagnose
from lsgcli.system import interpreter
from lsgcli.system.files import finite
from lsgcli.system.schema import Record

COPIED = 10e6  # bytes of a file that is copied into the working directory of an experiment; larger ones are links
MOST_FILES = 2000  # of a folder, which is a link if it has more
STEPS = 200  # of an experiment, if the script was watched to its end
PATIENCE = 5  # seconds in which an experiment waits for an evaluation
CHANGING = ("os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree", "shutil.move")  # events that change files
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


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


class Script(msgspec.Struct):
    """A script that was watched: its path or module, its arguments, and the seconds that it took."""

    script: str
    arguments: Sequence[str] = ()
    module: bool = False
    seconds: float = 0.0


def outcome_of(seen: Seen, seconds: float, status: int = 0, scores: Sequence[Any] = ()) -> Outcome:
    """How a training went, from what was seen of it; accuracies from ``scores`` if there are any."""
    losses = seen.numbers()
    if scores:
        seen.accuracy = [(int(step), float(share), int(count)) for step, share, count in scores]
    skill = seen.skill
    if skill != skill and not (seen.classes or seen.explained):
        skill = seen.progress
    held_out = held_out_skill = seen.evaluated_explained
    if seen.classes and seen.evaluated:
        held_out = seen.held_out
        held_out_skill = (held_out - seen.chance) / (1 - seen.chance + 1e-9)
    error = ""
    if seen.error is not None:
        error = f"{type(seen.error).__name__}: {str(seen.error).partition(chr(10))[0]}"
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


def serious(found: Diagnosis) -> list[Record]:
    """The errors and warnings."""
    return [finding for finding in found.record["findings"] if finding["severity"] != "note"]


def possible(found: Diagnosis) -> list[Experiment]:
    """The experiments that would change what was seen, in the order in which they are tried.

    Remedies of findings that are changes of lines come first, then interventions by which findings are confirmed, in the order of the findings, then
    specific ones, then general ones, and those that no rule stands for.
    """
    named_by = serious(found)
    rules = [finding["rule"] for finding in named_by]
    made = []
    for finding in named_by:
        edits = finding["remedy"].get("edits", [])
        if edits and all(edit["old"] for edit in edits):
            change = " and ".join(dict.fromkeys(f"{edit['old']} is {edit['said'].partition('-> ')[2]}" for edit in edits))
            made.append(
                Experiment("edit", change, (finding["rule"],), remedy=finding["remedy"]["text"], edits=edits, named=True)
            )
    ranked = []
    for number, name in enumerate(registry.names("intervention")):
        kind: type[Intervention] = registry.get("intervention", name)
        named = min((rules.index(rule) for rule in kind.rules if rule in rules), default=len(rules))
        try:
            fits = kind().is_possible(found.seen)
            values = kind().values(found.seen)
        except Exception:  # of what a script that failed has not come to
            continue
        is_named = named < len(rules)
        if found.seen.error is not None and not is_named:
            continue
        if not fits and not (is_named and kind.rules[0] in rules):
            continue
        line = found.seen.lines.get(kind.at)
        one = Experiment(
            name, (kind.__doc__ or "").strip(), kind.rules, kind.general, kind.remedy, line and line._asdict(), values
        )
        one.named = is_named
        ranked.append((not kind.rules, named, kind.general, number, one))
    return made + [one for *_, one in sorted(ranked, key=lambda row: row[:-1])]


def experiments(
    script: Script,
    found: Diagnosis,
    seconds: float,
    jobs: int | None = None,
    tell: Callable[[Experiment], None] | None = None,
) -> tuple[list[Experiment], Outcome]:
    """Try changes to a script until it is known what makes it learn.

    Args:
        script: that was watched.
        found: what was seen of it.
        seconds: after which no experiment begins, and those that run are ended.
        jobs: experiments at a time; by default one for each core.
        tell: called with each experiment when it ends.

    Returns:
        The experiments in the order in which they ended, and how the training went without a change.
    """
    unchanged = outcome_of(found.seen, script.seconds, found.status)
    end = time.monotonic() + seconds
    steps = STEPS if found.seen.error is not None else min(found.seen.steps, STEPS) or STEPS
    waiting = [] if does_well(unchanged) and not serious(found) else possible(found)
    done: list[Experiment] = []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = max(1, min(jobs or cores, len(waiting)))
    lock = threading.Lock()
    running: set[int] = set()

    def work() -> None:
        while time.monotonic() < end:
            with lock:
                one = next_of(waiting, done)
            if one is None:
                return
            one.outcome = run(script, steps, one, end, max(1, cores // jobs), running)
            one.learns = is_better(one.outcome, unchanged)
            if one.outcome.losses and one.outcome.losses == unchanged.losses and not one.learns:
                one.outcome.error = NOTHING
            with lock:
                done.append(one)
                if tell is not None:
                    tell(one)

    pool = ThreadPoolExecutor(jobs)
    try:
        for future in [pool.submit(work) for _ in range(jobs)]:
            future.result()
    except KeyboardInterrupt:
        waiting.clear()
        for process in list(running):
            end_group(process)
    finally:
        pool.shutdown()
    return done, unchanged


def next_of(waiting: list[Experiment], done: Sequence[Experiment]) -> Experiment | None:
    """The next experiment; None if enough is known. It is taken out of those that wait."""
    learning = [one for one in done if one.learns and one.rules]
    decided = any(not one.general for one in learning)
    while waiting:
        one = waiting.pop(0)
        if not learning or (one.named and not (decided and one.general)):
            return one
    return None


def run(script: Script, steps: int, experiment: Experiment, end: float, threads: int, running: set[int]) -> Outcome:
    """One experiment, in a process of its own."""
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
                interpreter.command("lsgcli.runs.experiments", str(Path(own, "spec.json"))),
                cwd=folder,
                env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONDONTWRITEBYTECODE": "1"},
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
    """A working directory for an experiment: small files are copied, large ones and large or hidden folders are links."""
    target.mkdir()
    for entry in os.scandir(source):
        own = target / entry.name
        try:
            hidden = entry.name.startswith(".")
            if entry.is_dir() and not entry.is_symlink() and not hidden and _is_small(Path(entry.path)):
                shutil.copytree(entry.path, own, symlinks=True)
            elif entry.is_file() and entry.stat().st_size < COPIED:
                shutil.copy2(entry.path, own)
            else:
                own.symlink_to(entry.path)
        except OSError:
            continue  # a file that cannot be read, or is gone


def _is_small(folder: Path) -> bool:
    count = 0
    size = 0
    for root, _, files in os.walk(folder):
        count += len(files)
        if count > MOST_FILES:
            return False
        for name in files:
            with contextlib.suppress(OSError):
                size += os.stat(os.path.join(root, name)).st_size
        if size > 10 * COPIED:
            return False
    return True


def protect(folders: Sequence[str]) -> None:
    """Refuse to change files of these folders, in this process, until its end."""
    real = [os.path.realpath(folder) + os.sep for folder in folders]

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            changes = bool(flags & WRITES) if isinstance(flags, int) else any(letter in str(mode) for letter in "wax+")
        elif event in CHANGING:
            path, changes = arguments[0], True
        else:
            return
        if not changes or not isinstance(path, str | bytes | os.PathLike):
            return
        where = os.path.realpath(os.fsdecode(path))
        if any(where.startswith(folder) for folder in real):
            raise PermissionError(f"{where}: an experiment of lsg diagnose --try may not change it")

    sys.addaudithook(check)


def _save(original: Callable[..., Any], value: Any, file: Any, *arguments: Any, **options: Any) -> None:
    """Save a checkpoint, where files may be changed: torch opens it without telling Python."""
    if isinstance(file, str | os.PathLike):
        sys.audit("open", file, "w", WRITES)
    original(value, file, *arguments, **options)


@contextlib.contextmanager
def _changed(name: str, values: Values) -> Iterator[Intervention]:
    """The time in which an intervention changes a training."""
    change: Intervention = registry.get("intervention", name)() if name else Unchanged()
    guard = Guard()
    change.begin(guard, values)
    replace_calls(guard, torch, ["save"], _save)
    try:
        yield change
    finally:
        guard.close()


def main(path: str) -> None:
    """Run one experiment."""
    spec = msgspec.json.decode(Path(path).read_bytes(), type=Spec)
    protect(spec.protected)
    start = time.monotonic()
    with _changed(spec.intervention, spec.values) as change:
        found = diagnose(spec.script, spec.arguments, module=spec.module, steps=spec.steps, patience=PATIENCE)
    outcome = outcome_of(found.seen, time.monotonic() - start, found.status, change.scores)
    Path(spec.result).write_text(json.dumps(msgspec.structs.asdict(outcome)), encoding="utf-8")


def add(record: Record, done: Sequence[Experiment], unchanged: Outcome) -> None:
    """Add experiments to the record of a diagnosis, and to each of its findings whether they confirm it."""
    rows = []
    for one in done:
        named = {
            "intervention": one.intervention,
            "change": one.change,
            "line": one.line,
            "edits": one.edits,
            "learns": one.learns,
        }
        rows.append(finite(named | msgspec.structs.asdict(one.outcome)))
    record["unchanged"] = finite(msgspec.structs.asdict(unchanged))
    record["experiments"] = rows
    record["conclusion"] = sentence(done, unchanged)
    record["findings"] = confirm(record["findings"], done)


if __name__ == "__main__":
    main(sys.argv[1])
