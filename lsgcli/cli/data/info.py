"""``lsg data info``: summarise recordings."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lsgcli.cli.common import Json, Quiet, Verbose, log, messages
from lsgcli.cli.data.common import NOT_WHERE, WHERE, Workers, counting, one_of, open_dataset
from lsgcli.cli.options import with_settings
from lsgcli.errors import DataError
from lsgcli.output import print_json


@with_settings(leave_out=NOT_WHERE)
def info(
    settings: dict[str, Any],
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="A recording, or a folder of recordings.", show_default=False)
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 3 if a recording cannot be read.")] = False,
    workers: Workers = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Summarise a recording, a folder of recordings or a data set.

    Prints counts per class, durations, event rates, sensor size, format, the release of CIFAR10-DVS, and a digest. Unreadable
    recordings are counted and listed.
    """
    messages(quiet, verbose, WHERE)
    one_of(path, settings)
    from lsgcli.data import facts

    opened = open_dataset(settings) if path is None else None
    with counting(quiet) as bar:
        progress = bar("reading", "recordings")
        if opened is not None:
            record = facts.of_dataset(opened, workers=workers, progress=progress)
        elif path is not None:
            record = facts.of_path(path, workers=workers, progress=progress)
    if as_json:
        print_json(record)
    else:
        from lsgcli.report import terminal
        from lsgcli.report.records import info_parts

        terminal.show(info_parts(record))
    bad = record.get("unreadable", [])
    if bad:
        log.warning("%d recordings cannot be read:\n  %s", len(bad), "\n  ".join(one["problem"] for one in bad))
    if bad and strict:
        raise DataError(
            f"{len(bad)} of {len(bad) + record['recordings']} recordings cannot be read",
            hint="Without --strict this is only a warning.",
        )
