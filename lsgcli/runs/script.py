"""Run a training script as Python would, watch it, and return what was found."""

import builtins
import io
import math
import os
import runpy
import sys
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import NamedTuple, TextIO

from lsgcli.analysis.advice import judge
from lsgcli.analysis.rules.base import Evidence
from lsgcli.analysis.watch import guard, recorded
from lsgcli.analysis.watch import watch as watching
from lsgcli.analysis.watch.seen import Seen
from lsgcli.analysis.watch.watch import EVALUATION_TIMEOUT, StopWatching, Watch
from lsgcli.errors import ConfigError
from lsgcli.system import schema
from lsgcli.system.files import finite
from lsgcli.system.interpreter import unfilter_warnings
from lsgcli.system.schema import Record

SCHEMA = "lsg.diagnosis/1"
OBSERVING = {__file__, guard.__file__, watching.__file__}  # files whose frames are not the script's


class Diagnosis(NamedTuple):
    """What a watched script did.

    Attributes:
        record: findings and measures, of JSON types.
        status: exit status of the script; 0 if it was ended after its last step that was to be watched.
        stdout: for results: what the script still prints at exit goes to stderr.
        seen: what the record was made of.
    """

    record: Record
    status: int
    stdout: TextIO
    seen: Seen


def diagnose(
    script: str,
    arguments: Sequence[str] = (),
    *,
    module: bool = False,
    steps: int | None = 200,
    every: int | None = None,
    limits: Mapping[str, float] | None = None,
    patience: float = EVALUATION_TIMEOUT,
) -> Diagnosis:
    """Run a script in this process, watch it, and diagnose what it trains. What it prints goes to stderr.

    Args:
        script: path of the script, or name of a module.
        arguments: its arguments.
        module: whether ``script`` is the name of a module, as for ``python -m``.
        steps: number of steps of the optimiser after which it is ended; None to let it finish.
        every: steps between further measurements.
        limits: of rules, by name.
        patience: seconds after the last step in which an evaluation of a network that learns is waited for.
    """
    watch = Watch(steps, every, patience=patience)
    status = 0
    stdout = _put_stdout_on_stderr()
    with _as_main(script, arguments, module):
        try:
            with watch:
                if module:
                    runpy.run_module(script, run_name="__main__", alter_sys=True)
                else:
                    _run_file(script)
        except StopWatching:
            pass
        except SystemExit as ending:
            status = _status(ending.code)
        except BaseException as error:
            _remove_own_frames(error)
            sys.excepthook(type(error), error, error.__traceback__)
            status = 130 if isinstance(error, KeyboardInterrupt) else 1
        if os.getpid() != watch.guard.process:  # a process that the script has forked
            raise SystemExit(status)
    return Diagnosis(record_of(watch.seen, limits, [script, *arguments]), status, stdout, watch.seen)


def judged(path: Path, limits: Mapping[str, float] | None = None) -> Diagnosis:
    """The diagnosis of what was seen before, from a file of ``lsg diagnose --record``.

    Raises:
        ConfigError: the file is not such a record.
    """
    record = schema.read(path, dict, ConfigError)
    try:
        seen = recorded.seen_of(record)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}") from error
    return Diagnosis(record_of(seen, limits, [str(path)]), 0, sys.stdout, seen)


def record_of(seen: Seen, limits: Mapping[str, float] | None = None, command: Sequence[str] = ()) -> Record:
    """The record of a training that was watched: ``{"schema", "findings", "layers", ...}``."""
    layers = list(seen.layers.values())
    losses = seen.numbers()
    flow: Record = finite(
        {
            "schema": SCHEMA,
            "command": command,
            "steps": seen.steps,
            "networks": seen.networks,
            "threshold": layers[0].threshold if layers else 1.0,
            "T": seen.timesteps,
            "loss": losses[-1] if losses else None,
            "losses": losses,
            "accuracy": seen.recent(seen.accuracy),
            "evaluation_accuracy": seen.held_out,
            "input": seen.input,
            "layers": seen.records,
            "unseen": _unseen(seen),
        }
    )
    judge(Evidence(flow, classes=seen.classes, seen=seen), limits)
    return flow


def _unseen(seen: Seen) -> list[str]:
    """What could not be seen, in sentences."""
    said = []
    names = ", ".join(seen.networks)
    if not (seen.networks or seen.layers):
        said.append("no network was trained: no module with parameters ran before a step of an optimiser")
    elif not seen.layers and (seen.steps or seen.error is None):
        said.append(f"no spiking neurons found in {names}: no module or function put out spikes")
    if seen.compiled:
        said.append("code that torch.compile has compiled: layers and steps inside it are not observed")
    said += [f"{what} could not be observed: {why}" for what, why in seen.failed.items()]
    if len(seen.networks) > 1:
        said.append(f"several networks: {names}; findings concern all of them")
    if not seen.steps:
        said.append("no optimiser stepped")
    elif not seen.runs[False]:
        said.append(
            "no evaluation seen: no network ran without gradients, so nothing is known of test data and metrics (--steps all: of all steps)"
        )
    elif not seen.evaluated and math.isnan(seen.evaluated_explained) and math.isnan(seen.ranked):
        said.append(
            "what the evaluation counts as correct was not seen: no tensors of classes were compared, nor scores of scikit-learn computed"
        )
    return said


@contextmanager
def _as_main(script: str, arguments: Sequence[str], module: bool) -> Iterator[None]:
    """Arguments, path, warnings and main module as ``python script arguments`` has them.

    What the script replaces in the interpreter is put back: the result is printed after it.
    """
    own = (sys.argv, list(sys.path), sys.stdout, sys.stderr, sys.excepthook, sys.modules["__main__"], vars(builtins).copy())
    folder = os.getcwd()
    if not sys.flags.safe_path:  # lsg's own, for processes that it starts
        os.environ.pop("PYTHONSAFEPATH", None)
    sys.argv = [script, *arguments]
    sys.path.insert(0, folder if module else str(Path(script).resolve().parent))
    sys.excepthook = sys.__excepthook__  # instead of typer's
    try:
        with warnings.catch_warnings():
            unfilter_warnings()
            yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # closed or replaced by the script
                stream.flush()
        sys.argv, sys.path[:], sys.stdout, sys.stderr, sys.excepthook, sys.modules["__main__"], names = own
        vars(builtins).update(names)
        with suppress(OSError):
            os.chdir(folder)


def _put_stdout_on_stderr() -> TextIO:
    """Let what this process, and those that it starts, write to stdout go to stderr; returns the stream for results."""
    stdout = sys.stdout
    try:
        is_descriptor = stdout.fileno() == 1
    except io.UnsupportedOperation:
        is_descriptor = False
    if not is_descriptor:
        sys.stdout = sys.stderr
        return stdout
    stdout.flush()
    results = open(os.dup(1), "w", encoding=stdout.encoding, errors=stdout.errors)  # noqa: SIM115 (open until the program exits)
    os.dup2(2, 1)
    return results


def _run_file(script: str) -> None:
    """Run a file as the interpreter runs its main module."""
    path = os.path.abspath(script)
    main = types.ModuleType("__main__")
    loader = SourceFileLoader("__main__", path)
    vars(main).update(
        __file__=path, __builtins__=builtins, __loader__=loader, __package__=None, __cached__=None, __annotations__={}
    )
    sys.modules["__main__"] = main
    code = loader.source_to_code(Path(path).read_bytes(), path)
    exec(code, vars(main))


def _status(code: object) -> int:
    """The exit status that Python gives for ``sys.exit(code)``."""
    if isinstance(code, int | None):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def _remove_own_frames(error: BaseException | None) -> None:
    """Leave the script's own frames in the traceback of an error, and of those that it followed from."""
    if error is None:
        return
    frames = []
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file not in OBSERVING and file != "<frozen runpy>":
            frames.append(trace)
        trace = trace.tb_next
    kept = None
    for one in reversed(frames):
        kept = types.TracebackType(kept, one.tb_frame, one.tb_lasti, one.tb_lineno)
    error.__traceback__ = kept
    for before in (error.__cause__, error.__context__):
        _remove_own_frames(before)
