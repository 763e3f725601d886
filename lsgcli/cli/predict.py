"""``lsg predict``: classify unlabelled recordings and images."""

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Annotated, NamedTuple, TextIO

from typer import Argument, Option

from lsgcli.cli import common
from lsgcli.errors import ConfigError, DataError, LsgError, clean
from lsgcli.report.output import is_abandoned
from lsgcli.system.files import json_text
from lsgcli.system.schema import Record

if TYPE_CHECKING:
    from lsgcli.inference.predict import Answer, Network, Prediction
    from lsgcli.inference.stream import Timestep

LISTED = 1 << 26  # bytes of a list of paths
UNSURE = "?"


class Output(NamedTuple):
    """What is printed for each file or timestep: columns, or JSON."""

    top: Annotated[
        int | None, Option(min=1, help="Print the N most probable classes and their probabilities, most probable first.")
    ] = None
    by_step: Annotated[bool, Option("--by-step", help="Also print the class after each timestep.")] = False
    min_probability: Annotated[
        float, Option(min=0.0, max=1.0, help='Print ? for a class with a lower probability; in JSON, "unsure": true.')
    ] = 0.0
    logits: Annotated[bool, Option("--logits", help="With --json: also print the logits of each timestep.")] = False
    as_json: common.Json = False

    def prediction(self, answer: "Prediction") -> str:
        """The line for a file."""
        record = self._record(answer)
        if self.by_step:
            probabilities, indices = answer.by_step.max(-1)
            record["by_step"] = [answer.classes[i] for i in indices.tolist()]
            record["by_step_probability"] = probabilities.tolist()
        return self._line(record)

    def timestep(self, answer: "Timestep") -> str:
        """The line for a timestep of a stream."""
        record = self._record(answer)
        record |= {"window": answer.window, "step": answer.step, "events": answer.events, "t_us": list(answer.t_us)}
        return self._line(record)

    def _record(self, answer: "Answer") -> Record:
        best = answer.top(self.top or 1)
        name, probability = best[0]
        record = {"path": answer.path, "class": name, "probability": probability}
        record["probabilities"] = dict(best if self.top else zip(answer.classes, answer.probabilities.tolist(), strict=True))
        if self.min_probability:
            record["unsure"] = probability < self.min_probability
        if self.logits:
            record["logits"] = answer.logits.tolist()
        return record

    def _line(self, record: Record) -> str:
        if self.as_json:
            return json_text(record)
        columns = [clean(record["path"], column=True)]
        shown = record["probabilities"] if self.top else {record["class"]: record["probability"]}
        for name, probability in shown.items():
            columns += [self._class(name, probability), f"{probability:.4f}"]
        if self.by_step:
            columns += map(self._class, record["by_step"], record["by_step_probability"])
        if "step" in record:
            columns.append(str(record["step"]))
        return "\t".join(columns)

    def _class(self, name: str, probability: float) -> str:
        return clean(name, column=True) if probability >= self.min_probability else UNSURE


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
    output: Output,
    stream: Stream,
    compute: common.Compute,
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
    if not output.as_json:
        common.require("--json", {"--logits": output.logits})
    if stream.stream:
        common.exclude("--stream", {"--by-step": output.by_step, "--batch-size": compute.batch_size})
        if len(paths) != 1:
            raise ConfigError(f"--stream: found {len(paths)} paths, expected one recording", "Start one process per recording.")
        if paths == ["-"]:  # which ends when its writer closes it
            common.exclude("-", {"--idle": stream.idle})
    else:
        common.require("--stream", {"--per-slice": stream.per_slice, "--idle": stream.idle})
        paths = _listed(paths)
    from lsgcli.store import hub

    path = hub.local(checkpoint)
    from lsgcli.inference.predict import Network

    network = Network.open(path, **common.around(compute._asdict()))
    if network.exported:
        compute.check_on_cpu()
    if stream.stream:
        _stream(network, paths[0], output, stream)
    else:
        _files(network, paths, output)


def _stream(network: "Network", path: str, output: Output, options: Stream) -> None:
    """Print a line for each timestep."""
    from lsgcli.inference.stream import IDLE, stream
    from lsgcli.training.signals import stop_on_signals

    idle = IDLE if options.idle is None else options.idle
    with stop_on_signals() as stop:
        found = stream(network, path, per_slice=options.per_slice, idle=idle, stop=lambda: bool(stop) or is_abandoned())
        with contextlib.closing(found) as timesteps:
            for timestep in timesteps:
                _print(output.timestep(timestep))
    if not stop and is_abandoned():
        raise BrokenPipeError


def _files(network: "Network", paths: list[str], output: Output) -> None:
    """Print a line for each file, on stderr for those that cannot be read.

    Raises:
        SystemExit: with the status of a DataError, if some cannot be read.
    """
    from lsgcli.inference.predict import predict

    failed = []

    def on_error(path: str, error: LsgError) -> None:
        failed.append(path)
        _print(f"error: {clean(error.message, column=True)}", file=sys.stderr)

    with contextlib.closing(predict(network, paths, on_error=on_error)) as predictions:
        for prediction in predictions:
            _print(output.prediction(prediction))
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
