"""``lsg data verify``: is the data whole?"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lsgcli.cli.common import Json, Quiet, Verbose, messages
from lsgcli.cli.data.common import NOT_WHERE, Workers, counting, one_of, open_dataset
from lsgcli.cli.options import with_settings
from lsgcli.errors import DataError


@with_settings(leave_out=NOT_WHERE)
def verify(
    settings: dict[str, Any],
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="Instead of a data set: a folder of recordings.", show_default=False)
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Write SHA256SUMS for what is there now, if all of it can be read.")
    ] = False,
    workers: Workers = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check every file of a data set against SHA256SUMS in its folder, and read every recording.

    A file that is missing, changed or unreadable is listed, and ends with status 3. Files that the manifest does not know, and
    counts other than the published ones, are mentioned.
    """
    messages(quiet, verbose)
    one_of(path, settings)
    from lsgcli.data import verification

    with counting("reading", "recordings", quiet) as progress:
        if path is not None:
            verdict = verification.of_path(path, workers=workers, progress=progress)
        else:
            verdict = verification.of_dataset(*open_dataset(settings), workers=workers, progress=progress)
    if write:
        verdict = verification.written(verdict)
    if as_json:
        print(json.dumps(verdict.record()))
    else:
        from lsgcli.report.recordings import verdict_text

        print(verdict_text(verdict.record()))
    if not quiet:
        for warning in verdict.warnings:
            print(f"{verdict.path}: {warning}", file=sys.stderr)
    if verdict.faults:
        raise DataError(
            f"{verdict.path}: {len(verdict.faults)} faults:\n  " + "\n  ".join(verdict.faults),
            hint="Fetch or make these again; `lsg data verify --write` accepts changes that you meant.",
        )
