"""``lsg compare``: runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from lsgcli.cli import common
from lsgcli.report.output import check_output, print_json
from lsgcli.system import files


def compare(
    *,
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Run directories, checkpoints in run directories, or folders that contain runs.",
        ),
    ],
    as_json: common.Json = False,
    html: common.Html = None,
    force: common.Force = False,
    verbosity: common.Verbosity,
) -> None:
    """Compare runs: differing settings, final results and gradient flow, with one column per run. Runs that differ only in
    their seed or fold share a column, with mean and standard deviation.

    Paths without a run are skipped. Stopped, diverged and running runs are marked and shown with their results so far. Layers with a
    verdict other than ok are marked with `!`. Reads only run directories, neither data nor checkpoints.
    """
    common.messages(verbosity)
    from lsgcli.report import comparison as report
    from lsgcli.report.terminal import show
    from lsgcli.runs import compare as comparison

    directories = comparison.find(runs)
    if not html:
        common.require("--html", {"--force": force})
    for target in html or ():
        check_output(target, "--html", suffixes=(".html",), inputs=directories, force=force)
    record = comparison.compare(directories)
    if as_json:
        print_json(record)
    else:
        show(report.parts(record))
    for target in html or ():
        files.write_text(target, report.page(record))
