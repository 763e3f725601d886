"""``lsg predict``: what a trained network says of recordings and images without a label."""

import contextlib
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from lsgcli.cli.common import BatchSize, CheckpointPath, Device, Json, Precision, Quiet, Verbose, around, messages, on_cpu
from lsgcli.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lsgcli.predict import Network
    from lsgcli.report.predictions import Lines

log = logging.getLogger("lsg")


def predict(
    checkpoint: CheckpointPath,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Recordings, images, or folders of them; - reads a list of paths from stdin."),
    ],
    top: Annotated[
        int | None, typer.Option(min=1, help="The N most probable classes, most probable first, with their probabilities.")
    ] = None,
    by_step: Annotated[bool, typer.Option("--by-step", help="Also the class after each timestep.")] = False,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help='Write ? for a class less probable than this; in JSON, "unsure": true.')
    ] = 0.0,
    logits: Annotated[bool, typer.Option("--logits", help="With --json: also the logits of each timestep.")] = False,
    batch_size: BatchSize = None,
    device: Device = "auto",
    precision: Precision = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Classify recordings or images: path, class and probability a line, separated by tabs.

    Files are prepared as the training data were. Lines come in the order given, as soon as each batch is ready. A file that
    cannot be read is an error line on stderr; the others are answered, and the exit status is 3. Takes a checkpoint, or what
    `lsg export` wrote.
    """
    messages(quiet, verbose)
    if logits and not as_json:
        raise ConfigError("--logits: found without --json, expected both", hint="Add --json.")
    given = _listed(paths)
    from lsgcli.predict import Network
    from lsgcli.report.predictions import Lines

    changes = around({"batch_size": batch_size, "device": device, "precision": precision})
    network = Network.open(checkpoint, **changes)
    if network.exported:
        on_cpu(device, precision)
    _files(network, given, Lines(as_json, top, by_step, threshold, logits))


def _files(network: "Network", paths: list[str], lines: "Lines") -> None:
    from lsgcli.predict import predict as run
    from lsgcli.report.predictions import printable

    failed: list[str] = []

    def on_error(path: str, error: DataError) -> None:
        failed.append(path)
        print(f"error: {printable(error.message)}", file=sys.stderr)

    answered, begin = 0, time.perf_counter()
    with contextlib.closing(run(network, paths, on_error=on_error)) as predictions:
        for prediction in predictions:
            print(lines.prediction(prediction), flush=True)
            answered += 1
    seconds = time.perf_counter() - begin
    log.debug("%d samples in %.1f s, %.1f samples/s", answered, seconds, answered / seconds)
    if failed:
        raise SystemExit(DataError.exit_code)


def _listed(paths: list[str]) -> list[str]:
    """The paths given, and for - those of a list on stdin, one a line, or separated by NUL as `find -print0` does."""
    if paths.count("-") > 1:
        raise ConfigError("PATH: found - twice, expected it once: stdin is read to its end", hint="Give - once.")
    found: list[str] = []
    for path in paths:
        if path != "-":
            found.append(path)
            continue
        content = sys.stdin.buffer.read()
        separator = b"\0" if b"\0" in content else b"\n"
        found += [os.fsdecode(line) for line in content.split(separator) if line]
    if not found:
        raise DataError("-: found no paths on stdin, expected one a line", hint="Pipe a list, such as that of find, into it.")
    return found
