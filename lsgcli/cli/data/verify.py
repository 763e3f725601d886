"""``lsg data verify``: check the integrity of a data set."""

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
        Path | None, typer.Argument(metavar="PATH", help="A folder of recordings, instead of a data set.", show_default=False)
    ] = None,
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="If all files can be read, write their checksums to SHA256SUMS, replacing existing ones.",
        ),
    ] = False,
    workers: Workers = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Check all files of a data set against SHA256SUMS in its folder and one level below, and read all recordings.

    Missing, changed and unreadable files are listed, with exit status 3. Warns about files that are not in SHA256SUMS, and about
    counts that differ from the published ones.
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
        from lsgcli.report.records import verification_text

        print_result(verification_text(verdict.record()))
    for warning in verdict.warnings:
        log.warning("%s: %s", verdict.path, warning)
    if verdict.faults:
        raise DataError(
            f"{verdict.path}: {len(verdict.faults)} fault(s):\n  " + "\n  ".join(verdict.faults), hint=_advice(verdict)
        )


def _advice(verdict: "Verdict") -> str:
    again = "Download or create these files again."
    if verdict.unreadable:
        return f"{again} To skip unreadable files, use --skip-bad of `lsg data prepare` and `lsg train`."
    return f"{again} If the changes are intended, --write updates SHA256SUMS."
