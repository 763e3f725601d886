"""``lsg diagnose --try`` and ``lsg.experiments``: which changes are tried, in which order, until it is known what makes a network learn."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import torch

from lsgcli import registry
from lsgcli.analysis.experiments.base import Intervention
from lsgcli.analysis.experiments.verdict import NOTHING, Experiment, Outcome, confirm, does_well, is_better, sentence
from lsgcli.analysis.watch.seen import Seen
from lsgcli.analysis.watch.watch import StopWatching, Watch
from lsgcli.errors import ConfigError
from lsgcli.runs.experiment import PATIENCE, Script, changed, end_group, outcome_of, run
from lsgcli.runs.script import record_of
from lsgcli.system import cpus
from lsgcli.system.files import finite
from lsgcli.system.schema import Record

STEPS = 200  # of an experiment, if the script was watched to its end
Tell = Callable[[Experiment], None]


class Question(msgspec.Struct):
    """What was seen without a change, and what may be tried.

    Attributes:
        unchanged: how the training went.
        steps: of each experiment.
        waiting: the experiments, in the order in which they are tried.
    """

    unchanged: Outcome
    steps: int
    waiting: list[Experiment]


def question_of(record: Record, seen: Seen, seconds: float, status: int = 0) -> Question:
    """What may be tried on a training that was seen; nothing if it learns and has no error or warning."""
    unchanged = outcome_of(seen, seconds, status)
    serious = [finding for finding in record["findings"] if finding["severity"] != "note"]
    steps = STEPS if seen.error is not None else min(seen.steps, STEPS) or STEPS
    return Question(unchanged, steps, [] if does_well(unchanged) and not serious else possible(serious, seen))


def possible(serious: Sequence[Record], seen: Seen) -> list[Experiment]:
    """The experiments that would change what was seen, in the order in which they are tried.

    Remedies of findings that are changes of lines come first, then interventions by which findings are confirmed, in the order of the findings, then
    specific ones, then general ones, and those that no rule stands for.
    """
    rules = [finding["rule"] for finding in serious]
    made = []
    for finding in serious:
        edits = finding["remedy"].get("edits", [])
        if edits and all(edit["old"] for edit in edits):
            change = " and ".join(dict.fromkeys(f"{edit['old']} is {edit['said'].partition('-> ')[2]}" for edit in edits))
            made.append(
                Experiment("edit", change, (finding["rule"],), remedy=finding["remedy"]["text"], edits=edits, named=True)
            )
    ranked = []
    for number, name in enumerate(registry.names("intervention")):
        kind: Intervention = registry.get("intervention", name)()
        try:
            fits = kind.is_possible(seen)
            values = kind.values(seen)
            names = kind.names(seen)
        except Exception:  # of what a script that failed has not come to
            continue
        named = min((rules.index(rule) for rule in names if rule in rules), default=len(rules))
        is_named = named < len(rules)
        if seen.error is not None and not is_named:
            continue
        if not fits and not (is_named and names[0] in rules):
            continue
        line = seen.lines.get(kind.at)
        change = (kind.__doc__ or "").strip()
        place = line and line._asdict()
        one = Experiment(name, change, names, kind.general, kind.remedy, place, values, named=is_named)
        ranked.append((not names, named, kind.general, number, one))
    return made + [one for *_, one in sorted(ranked, key=lambda row: row[:-1])]


def of_script(
    script: Script, question: Question, seconds: float, jobs: int | None = None, tell: Tell | None = None
) -> list[Experiment]:
    """Try changes to a script until it is known what makes it learn.

    Args:
        script: that was watched, which took some seconds.
        question: what may be tried.
        seconds: after which no experiment begins, and those that run are ended.
        jobs: experiments at a time; by default one for each core.
        tell: called with each experiment when it ends.

    Returns:
        The experiments in the order in which they ended.
    """

    def one(experiment: Experiment, end: float, at_once: int, running: set[int]) -> Outcome:
        return run(script, question.steps, experiment, end, at_once, running)

    return _carry_out(question, seconds, one, jobs, tell)


def of_function(
    train: Callable[[], Any], seconds: float, jobs: int = 1, tell: Tell | None = None, limits: Mapping[str, float] | None = None
) -> Record:
    """The record of a training function, with experiments; each runs in a forked process, so that what it changes is not seen here.

    Raises:
        ConfigError: this system cannot fork processes.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        raise ConfigError(
            "experiments: found a system that cannot fork processes, expected one", "Use lsg diagnose --try SCRIPT."
        )
    never: set[int] = set()
    answer = _forked(_watched, (train, limits), time.monotonic() + max(seconds, 60.0), never)
    if not isinstance(answer, tuple):
        raise ConfigError(f"experiments: the training function ended without an answer: {answer}")
    record, question = answer
    question.waiting = [one for one in question.waiting if not one.edits]

    def one(experiment: Experiment, end: float, at_once: int, running: set[int]) -> Outcome:
        found = _forked(_with_change, (train, experiment, question.steps), end, running)
        return found if isinstance(found, Outcome) else Outcome(error=str(found))

    add(record, _carry_out(question, seconds, one, jobs, tell), question.unchanged)
    return record


def _watched(train: Callable[[], Any], limits: Mapping[str, float] | None) -> tuple[Record, Question]:
    start = time.monotonic()
    watch = _watch(train, STEPS)
    record = record_of(watch.seen, limits)
    return record, question_of(record, watch.seen, time.monotonic() - start)


def _with_change(train: Callable[[], Any], experiment: Experiment, steps: int) -> Outcome:
    start = time.monotonic()
    with changed(experiment.intervention, experiment.values) as change:
        watch = _watch(train, steps)
    return outcome_of(watch.seen, time.monotonic() - start, 0, change.scores)


def _watch(train: Callable[[], Any], steps: int) -> Watch:
    """Watch a training function until so many steps, or its end or error."""
    watch = Watch(steps, patience=PATIENCE)
    try:
        with watch:
            train()
    except (StopWatching, Exception):
        pass  # the watch has kept the error
    return watch


def _forked(function: Callable[..., Any], arguments: Sequence[Any], end: float, running: set[int]) -> Any:
    """What a function returns in a forked process, or a message if it does not return in time."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments), daemon=True)
    start = time.monotonic()
    process.start()
    running.add(process.pid or 0)
    sender.close()
    answer: Any = "not finished in time"
    try:
        if receiver.poll(max(1.0, end - time.monotonic())):
            answer = receiver.recv()
    except EOFError:
        answer = "the process ended"
    process.kill()
    process.join()
    running.discard(process.pid or 0)
    if isinstance(answer, Outcome):
        answer.seconds = round(time.monotonic() - start, 1)
    return answer


def _answer(sender: Any, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    torch.set_num_threads(1)  # those of the parent do not exist in a forked process
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    sender.send(function(*arguments))


def _carry_out(
    question: Question,
    seconds: float,
    run_one: Callable[[Experiment, float, int, set[int]], Outcome],
    jobs: int | None,
    tell: Tell | None,
) -> list[Experiment]:
    """Run experiments, some at a time, until enough is known or time is over; an interrupt ends them."""
    end = time.monotonic() + seconds
    waiting = question.waiting
    done: list[Experiment] = []
    at_once = 1 if torch.cuda.is_initialized() else cpus.usable()[0]  # a GPU may have memory for one alone
    jobs = max(1, min(jobs or at_once, len(waiting)))
    lock = threading.Lock()
    running: set[int] = set()

    def work() -> None:
        while time.monotonic() < end:
            with lock:
                one = next_of(waiting, done)
            if one is None:
                return
            one.outcome = run_one(one, end, jobs, running)
            one.learns = is_better(one.outcome, question.unchanged)
            if one.outcome.losses and one.outcome.losses == question.unchanged.losses and not one.learns:
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
    return done


def next_of(waiting: list[Experiment], done: Sequence[Experiment]) -> Experiment | None:
    """The next experiment; None if enough is known. It is taken out of those that wait."""
    learning = [one for one in done if one.learns and one.rules]
    decided = any(not one.general for one in learning)
    while waiting:
        one = waiting.pop(0)
        if not learning or (one.named and not (decided and one.general)):
            return one
    return None


def add(record: Record, done: Sequence[Experiment], unchanged: Outcome) -> None:
    """Add experiments to the record of a diagnosis, and to each of its findings whether they confirm it."""
    rows = []
    for one in done:
        named = {
            "intervention": one.intervention,
            "change": one.change,
            "line": one.line,
            "edits": one.edits,
            "values": one.values,
            "learns": one.learns,
        }
        rows.append(finite(named | msgspec.structs.asdict(one.outcome)))
    record["unchanged"] = finite(msgspec.structs.asdict(unchanged))
    record["experiments"] = rows
    record["conclusion"] = sentence(done, unchanged)
    record["findings"] = confirm(record["findings"], done)
