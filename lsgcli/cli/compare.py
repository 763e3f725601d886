"""``lsg compare``: runs side by side."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lsgcli.cli import common, completion
from lsgcli.report.output import check_output, print_json, print_result
from lsgcli.system import files


def compare(
    *,
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run directories, checkpoints in run directories, or folders that contain runs.",
            autocompletion=completion.runs,
        ),
    ],
    as_json: common.Json = False,
    html: common.Html = None,
    force: common.Force = False,
    verbosity: common.Verbosity,
) -> None:
    """Compare runs: differing settings, final results and gradient flow, with one column per run.

    Paths without a run are skipped. Stopped, diverged and running runs are marked and shown with their results so far. Layers with a
    verdict other than ok are marked with `!`. Reads only run directories, neither data nor checkpoints.
    """
    common.messages(verbosity)
    from lsgcli.report import comparison as report
    from lsgcli.report.terminal import console
    from lsgcli.runs import compare as comparison

    found = comparison.find(runs)
    if html is None:
        common.require("--html", {"--force": force})
    else:
        check_output(html, "--html", suffixes=(".html",), inputs=found, force=force)
    record = comparison.compare(found)
    if as_json:
        print_json(record)
    else:
        print_result("\n".join(report.lines(record, console(sys.stdout).width)))
    if html is not None:
        files.write_text(html, report.page(record))
