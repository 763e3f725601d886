"""``lsg data verify``: is the data whole?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsgcli.cli.common import Json, Quiet, Verbose, log, messages
from lsgcli.cli.data.common import MIB, NOT_WHERE, WHERE, Workers, counting, one_of, open_dataset
from lsgcli.cli.options import with_settings
from lsgcli.errors import DataError
from lsgcli.output import print_json, print_result

if TYPE_CHECKING:
    from lsgcli.data.verification import Verdict


@with_settings(leave_out=NOT_WHERE)
def verify(
    settings: dict[str, Any],
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="Instead of a data set: a folder of recordings.", show_default=False)
    ] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="Write SHA256SUMS for what is there now, if all of it can be read: anew where there is one, or in the folder.",
        ),
    ] = False,
    workers: Workers = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check every file of a data set against SHA256SUMS in its folder and one level below, and read every recording.

    A file that is missing, changed or unreadable is listed, and ends with status 3. Files that no manifest knows, and counts other
    than the published ones, are mentioned.
    """
    messages(quiet, verbose, WHERE)
    one_of(path, settings)
    from lsgcli.data import verification

    opened = open_dataset(settings) if path is None else None
    with counting(quiet) as bar:
        reading, hashing = bar("reading", "recordings"), bar("hashing", "MiB", MIB)
        if opened is not None:
            verdict = verification.of_dataset(opened, workers=workers, progress=reading, hashing=hashing)
        elif path is not None:
            verdict = verification.of_path(path, workers=workers, progress=reading, hashing=hashing)
        if write:
            verdict = verification.written(verdict, hashing)
    if as_json:
        print_json(verdict.record())
    else:
        from lsgcli.report.recordings import verdict_text

        print_result(verdict_text(verdict.record()))
    for warning in verdict.warnings:
        log.warning("%s: %s", verdict.path, warning)
    if verdict.faults:
        raise DataError(
            f"{verdict.path}: {len(verdict.faults)} fault(s):\n  " + "\n  ".join(verdict.faults), hint=_advice(verdict)
        )


def _advice(verdict: "Verdict") -> str:
    again = "Fetch or make these again."
    if verdict.unreadable:
        return f"{again} To leave out what cannot be read, `lsg data prepare` and `lsg train` have --skip-bad."
    return f"{again} If you meant these changes, --write makes SHA256SUMS anew of what is there."
