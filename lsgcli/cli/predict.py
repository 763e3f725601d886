"""``lsg predict``: classify unlabelled recordings and images."""

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TextIO

from typer import Argument, Option

from lsgcli.cli import common
from lsgcli.errors import ConfigError, DataError
from lsgcli.report.output import is_abandoned
from lsgcli.system.files import json_text
from lsgcli.system.text import clean

if TYPE_CHECKING:
    from lsgcli.inference.predict import Answer, Network, Prediction
    from lsgcli.inference.stream import Timestep

LISTED = 1 << 26  # bytes of a list of paths
UNSURE = "?"


@dataclass(frozen=True)
class Lines:
    """Formatting of predictions.

    Attributes:
        as_json: JSON instead of columns.
        top: number of classes; None for the most probable one, and in JSON the probabilities of all.
        by_step: include the class after each timestep.
        threshold: a class with lower probability is unsure: ``?`` in a column, ``unsure`` in JSON.
        logits: include the logits, in JSON.
    """

    as_json: bool = False
    top: int | None = None
    by_step: bool = False
    threshold: float = 0.0
    logits: bool = False

    def prediction(self, answer: "Prediction") -> str:
        """The line for a file."""
        record, columns = self._answer(answer)
        if self.by_step:
            values, indices = answer.by_step.max(-1)
            record["by_step"] = [answer.classes[i] for i in indices.tolist()]
            record["by_step_probability"] = values.tolist()
            columns += [self._class(name, p) for name, p in zip(record["by_step"], values.tolist(), strict=True)]
        return json_text(record) if self.as_json else "\t".join(columns)

    def timestep(self, answer: "Timestep") -> str:
        """The line for a timestep of a stream."""
        record, columns = self._answer(answer)
        record |= {"window": answer.window, "step": answer.step, "events": answer.events, "t_us": list(answer.t_us)}
        return json_text(record) if self.as_json else "\t".join([*columns, str(answer.step)])

    def _answer(self, answer: "Answer") -> tuple[dict[str, Any], list[str]]:
        found = answer.top(self.top or 1)
        (name, probability), *_ = found
        every = found if self.top else zip(answer.classes, answer.probabilities.tolist(), strict=True)
        record = {
            "path": answer.path,
            "class": name,
            "probability": probability,
            "probabilities": dict(every),
            **({"unsure": probability < self.threshold} if self.threshold else {}),
            **({"logits": answer.logits.tolist()} if self.logits else {}),
        }
        pairs = [column for name, p in found for column in (self._class(name, p), f"{p:.4f}")]
        return record, [clean(answer.path, column=True), *pairs]

    def _class(self, name: str, probability: float) -> str:
        return clean(name, column=True) if probability >= self.threshold else UNSURE


class Columns(NamedTuple):
    """What is printed for each file or timestep."""

    top: Annotated[
        int | None, Option(min=1, help="Print the N most probable classes and their probabilities, most probable first.")
    ] = None
    by_step: Annotated[bool, Option("--by-step", help="Also print the class after each timestep.")] = False
    min_probability: Annotated[
        float, Option(min=0.0, max=1.0, help='Print ? for a class with a lower probability; in JSON, "unsure": true.')
    ] = 0.0
    logits: Annotated[bool, Option("--logits", help="With --json: also print the logits of each timestep.")] = False


class Stream(NamedTuple):
    """A recording that is still being written."""

    stream: Annotated[
        bool,
        Option("--stream", help="PATH is a recording that is still being written: - for stdin, or a growing file."),
    ] = False
    per_slice: Annotated[
        int | None,
        Option(
            min=1,
            help="With --stream: events (--slicing count) or microseconds (--slicing time) per slice. Default: from the median "
            "training recording.",
        ),
    ] = None
    idle: Annotated[
        float | None,
        Option(min=0.0, help="With --stream: seconds without growth after which a file is complete. Default: 2."),
    ] = None


def predict(
    *,
    checkpoint: common.CheckpointPath,
    paths: Annotated[
        list[str],
        Argument(
            metavar="PATH",
            help="Recordings, images, or folders; - reads a list of paths from stdin.",
        ),
    ],
    columns: Columns,
    stream: Stream,
    compute: common.Compute,
    as_json: common.Json = False,
    verbosity: common.Verbosity,
) -> None:
    """Classify recordings or images: one line each with path, class and probability, separated by tabs.

    Files are prepared as in training. Lines are printed in the order given, as soon as each batch is ready. A file that cannot be
    read gives an error line on stderr; the other files are classified, and the exit status is 3. CKPT is a checkpoint or an output
    of `lsg export`.

    With --stream, each timestep gives one line as soon as its events have arrived; the last column is the timestep, 1 to T.
    SIGINT and SIGTERM end the stream with status 0.
    """
    common.messages(verbosity, common.AROUND)
    if not as_json:
        common.require("--json", {"--logits": columns.logits})
    if stream.stream:
        common.exclude("--stream", {"--by-step": columns.by_step, "--batch-size": compute.batch_size})
        if len(paths) != 1:
            raise ConfigError(f"--stream: found {len(paths)} paths, expected one recording", "Start one process per recording.")
        if stream.idle is not None and paths == ["-"]:
            raise ConfigError("--idle: found with -, expected a file; stdin ends when its writer closes it", "Omit --idle.")
    else:
        common.require("--stream", {"--per-slice": stream.per_slice, "--idle": stream.idle})
        paths = _listed(paths)
    from lsgcli.store import hub

    path = hub.local(checkpoint)
    from lsgcli.inference.predict import Network

    network = Network.open(path, **common.around(compute._asdict()))
    if network.exported:
        compute.check_on_cpu()
    lines = Lines(as_json, columns.top, columns.by_step, columns.min_probability, columns.logits)
    if stream.stream:
        _stream(network, paths[0], lines, stream)
    else:
        _files(network, paths, lines)


def _stream(network: "Network", path: str, lines: Lines, options: Stream) -> None:
    """Print a line for each timestep."""
    from lsgcli.inference.stream import IDLE, stream
    from lsgcli.training.signals import stop_on_signals

    idle = IDLE if options.idle is None else options.idle
    with stop_on_signals() as stop:
        found = stream(network, path, per_slice=options.per_slice, idle=idle, stop=lambda: bool(stop) or is_abandoned())
        with contextlib.closing(found) as timesteps:
            for timestep in timesteps:
                _print(lines.timestep(timestep))
    if not stop and is_abandoned():
        raise BrokenPipeError


def _files(network: "Network", paths: list[str], lines: Lines) -> None:
    """Print a line for each file, on stderr for those that cannot be read.

    Raises:
        SystemExit: with the status of a DataError, if some cannot be read.
    """
    from lsgcli.inference.predict import predict

    failed = []

    def on_error(path: str, error: DataError) -> None:
        failed.append(path)
        _print(f"error: {clean(error.message, column=True)}", file=sys.stderr)

    count, begin = 0, time.perf_counter()
    with contextlib.closing(predict(network, paths, on_error=on_error)) as predictions:
        for count, prediction in enumerate(predictions, 1):  # noqa: B007 (logged below)
            _print(lines.prediction(prediction))
    seconds = time.perf_counter() - begin
    common.log.debug("%d samples in %.1f s, %.1f samples/s", count, seconds, count / seconds)
    if failed:
        raise SystemExit(DataError.exit_code)


def _print(line: str, file: TextIO | None = None) -> None:
    """Print a whole line at once, so that lines of several processes (`xargs -P`) do not mix."""
    print(f"{line}\n", end="", file=file, flush=True)


def _listed(paths: list[str]) -> list[str]:
    """The given paths, with - replaced by a list from stdin, one path per line or NUL-separated as from `find -print0`."""
    if paths.count("-") > 1:
        raise ConfigError("PATH: found - twice, expected it once; stdin can be read only once", "Give - once.")
    listed = []
    for path in paths:
        if path != "-":
            listed.append(path)
            continue
        content = sys.stdin.buffer.read(LISTED + 1) if sys.stdin else b""  # closed by <&-
        if len(content) > LISTED:
            raise DataError(
                f"-: found more than {LISTED:,} bytes on stdin, expected a list of paths",
                "Give parts of the list, as xargs does.",
            )
        lines = content.split(b"\0") if b"\0" in content else content.splitlines()
        listed += [os.fsdecode(line) for line in lines if line]
    if not listed:
        raise DataError(
            "-: found no paths on stdin, expected one per line",
            "Pipe a list of paths into it, such as the output of find.",
        )
    return listed
