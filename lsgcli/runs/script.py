"""Run a training script as Python would, watch it, and return what was found."""

import math
import os
import runpy
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from lsgcli.analysis.advice import judge
from lsgcli.analysis.rules.base import Evidence
from lsgcli.analysis.watch.seen import Seen
from lsgcli.analysis.watch.watch import Enough, Watch
from lsgcli.system.files import finite
from lsgcli.system.schema import Record

SCHEMA = "lsg.diagnosis/1"


class Diagnosis(NamedTuple):
    """What a watched script did.

    Attributes:
        record: findings and measures, of JSON types.
        status: exit status of the script; 0 if it was ended after its last step that was to be watched.
    """

    record: Record
    status: int


def diagnose(
    script: str,
    arguments: Sequence[str] = (),
    *,
    module: bool = False,
    steps: int | None = 200,
    every: int | None = None,
    limits: Mapping[str, float] | None = None,
) -> Diagnosis:
    """Run a script in this process, watch it, and diagnose what it trains. What it prints goes to stderr.

    Args:
        script: path of the script, or name of a module.
        arguments: its arguments.
        module: whether ``script`` is the name of a module, as for ``python -m``.
        steps: number of steps of the optimiser after which it is ended; None to let it finish.
        every: steps between further measurements.
        limits: of rules, by name.

    """
    watch = Watch(steps, every)
    status = 0
    with _as_main(script, arguments, module):
        try:
            with watch:
                if module:
                    runpy.run_module(script, run_name="__main__", alter_sys=True)
                else:
                    runpy.run_path(script, run_name="__main__")
        except Enough:
            pass
        except SystemExit as ending:
            status = _status(ending.code)
        except KeyboardInterrupt:
            status = 130
        except BaseException as error:
            traceback.print_exception(_without_own_frames(error))
            status = 1
    return Diagnosis(record_of(watch.seen, limits, [script, *arguments]), status)


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
    """Arguments, path and streams as ``python script arguments`` has them, but with its stdout on stderr."""
    argv = sys.argv
    path = list(sys.path)
    kept = os.dup(1)
    if not sys.flags.safe_path:  # lsg's own, for processes that it starts
        os.environ.pop("PYTHONSAFEPATH", None)
    sys.argv = [script, *arguments]
    sys.path.insert(0, os.getcwd() if module else str(Path(script).resolve().parent))
    sys.stdout.flush()
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 1)
        os.close(kept)
        sys.argv = argv
        sys.path[:] = path


def _status(code: object) -> int:
    """The exit status that Python gives for ``sys.exit(code)``."""
    if isinstance(code, int | None):
        return (code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def _without_own_frames(error: BaseException) -> BaseException:
    """The error with a traceback that begins in the script."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, "<frozen runpy>"):
        trace = trace.tb_next
    return error.with_traceback(trace) if trace is not None else error
