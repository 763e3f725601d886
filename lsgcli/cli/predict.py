"""``lsg predict``: classify unlabelled recordings and images."""

import contextlib
import logging
import os
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from lsgcli.cli.common import (
    AROUND,
    BatchSize,
    CheckpointPath,
    Device,
    Json,
    Precision,
    Quiet,
    Verbose,
    around,
    messages,
    on_cpu,
)
from lsgcli.errors import ConfigError, DataError
from lsgcli.output import clean

if TYPE_CHECKING:
    from lsgcli.predict import Network
    from lsgcli.report.predictions import Lines

LATENCIES = 100_000  # kept for the median

log = logging.getLogger("lsg")


def predict(
    checkpoint: CheckpointPath,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Recordings, images, or folders; - reads a list of paths from stdin."),
    ],
    top: Annotated[
        int | None, typer.Option(min=1, help="Print the N most probable classes and their probabilities, most probable first.")
    ] = None,
    by_step: Annotated[bool, typer.Option("--by-step", help="Also print the class after each timestep.")] = False,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help='Print ? for a class with a lower probability; in JSON, "unsure": true.')
    ] = 0.0,
    logits: Annotated[bool, typer.Option("--logits", help="With --json: also print the logits of each timestep.")] = False,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="PATH is a recording that is still being written: - for stdin, or a growing file."),
    ] = False,
    per_slice: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --stream: events (--slicing count) or microseconds (--slicing time) per slice. Default: from the median "
            "training recording.",
        ),
    ] = None,
    idle: Annotated[
        float | None,
        typer.Option(min=0.0, help="With --stream: seconds without growth after which a file is complete. Default: 2."),
    ] = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    precision: Precision = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Classify recordings or images: one line each with path, class and probability, separated by tabs.

    Files are prepared as in training. Lines are printed in the order given, as soon as each batch is ready. A file that cannot be
    read gives an error line on stderr; the other files are classified, and the exit status is 3. CKPT is a checkpoint or an output
    of `lsg export`.

    With --stream, each timestep gives one line as soon as its events have arrived; the fourth column is the timestep, 1 to T. -v
    reports the latency at the end. SIGINT and SIGTERM end the stream with status 0.
    """
    messages(quiet, verbose, AROUND)
    if not as_json:
        _check_without("--json", {"--logits": logits or None})
    if stream:
        _check_stream(paths, {"--by-step": by_step or None, "--batch-size": batch_size}, idle)
    else:
        _check_without("--stream", {"--per-slice": per_slice, "--idle": idle})
    given = paths if stream else _listed(paths)
    from lsgcli.predict import Network
    from lsgcli.report.predictions import Lines

    changes = around({"batch_size": batch_size, "device": device, "precision": precision})
    network = Network.open(checkpoint, **changes)
    if network.exported:
        on_cpu(device, precision)
    lines = Lines(as_json, top, by_step, threshold, logits)
    if stream:
        _stream(network, given[0], lines, {"per_slice": per_slice, **({} if idle is None else {"idle": idle})})
    else:
        _files(network, given, lines)


def _check_stream(paths: list[str], of_files: dict[str, Any], idle: float | None) -> None:
    if len(paths) != 1:
        raise ConfigError(
            f"--stream: found {len(paths)} paths, expected one recording", hint="Start one process per recording."
        )
    for flag, value in of_files.items():
        if value is not None:
            raise ConfigError(
                f"{flag}: cannot be combined with --stream, which processes timesteps one by one", hint=f"Omit {flag}."
            )
    if idle is not None and paths == ["-"]:
        raise ConfigError("--idle: found with -, expected a file; stdin ends when its writer closes it", hint="Omit --idle.")


def _check_without(missing: str, given: dict[str, Any]) -> None:
    for flag, value in given.items():
        if value is not None:
            raise ConfigError(f"{flag}: found without {missing}, expected both", hint=f"Add {missing}, or omit {flag}.")


def _stream(network: "Network", path: str, lines: "Lines", options: dict[str, Any]) -> None:
    from lsgcli.streaming import stream as run
    from lsgcli.training.signals import stop_on_signals

    late: deque[float] = deque(maxlen=LATENCIES)
    try:
        with stop_on_signals() as stop, contextlib.closing(run(network, path, stop=lambda: stop, **options)) as answers:
            for answer in answers:
                _write(lines.timestep(answer), sys.stdout)
                late.append(1e3 * (time.perf_counter() - answer.ready))
    finally:
        if late:
            ordered = sorted(late)
            log.debug(
                "latency from slice to line: median %.1f ms, 99th percentile %.1f ms, of %s%d timesteps",
                ordered[len(ordered) // 2],
                ordered[len(ordered) * 99 // 100],
                "the last " if len(late) == LATENCIES else "",
                len(late),
            )


def _files(network: "Network", paths: list[str], lines: "Lines") -> None:
    from lsgcli.predict import predict as run

    failed: list[str] = []

    def on_error(path: str, error: DataError) -> None:
        failed.append(path)
        _write(f"error: {clean(error.message, column=True)}", sys.stderr)

    answered, begin = 0, time.perf_counter()
    with contextlib.closing(run(network, paths, on_error=on_error)) as predictions:
        for prediction in predictions:
            _write(lines.prediction(prediction), sys.stdout)
            answered += 1
    seconds = time.perf_counter() - begin
    log.debug("%d samples in %.1f s, %.1f samples/s", answered, seconds, answered / seconds)
    if failed:
        raise SystemExit(DataError.exit_code)


def _write(line: str, stream: TextIO) -> None:
    """Write and flush a whole line, so that lines of several processes (`xargs -P`) do not mix."""
    stream.write(f"{line}\n")
    stream.flush()


def _listed(paths: list[str]) -> list[str]:
    """The given paths, with - replaced by a list from stdin, one path per line or NUL-separated as from `find -print0`."""
    if paths.count("-") > 1:
        raise ConfigError("PATH: found - twice, expected it once; stdin can be read only once", hint="Give - once.")
    found: list[str] = []
    for path in paths:
        if path != "-":
            found.append(path)
            continue
        content = sys.stdin.buffer.read() if sys.stdin else b""  # closed by <&-
        separator = b"\0" if b"\0" in content else b"\n"
        found += [os.fsdecode(line) for line in content.split(separator) if line]
    if not found:
        raise DataError(
            "-: found no paths on stdin, expected one per line",
            hint="Pipe a list of paths into it, such as the output of find.",
        )
    return found
