"""``lsg runs``: the runs below a folder; ``lsg compare``: runs side by side."""

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from lsgcli.cli import common
from lsgcli.errors import clean, log
from lsgcli.report.output import check_output, print_json, print_result
from lsgcli.store.names import canonical
from lsgcli.store.rundir import RUNS, tell_not_installed
from lsgcli.system import files


def runs(
    *,
    folder: Annotated[Path, Argument(metavar="FOLDER", help="Folder that contains runs.")] = RUNS,
    where: Annotated[
        list[str] | None,
        Option(
            metavar="KEY=VALUE",
            help="Only runs with this value of a column or setting, or a larger or smaller one: 'val_accuracy > 0.4'; repeatable.",
        ),
    ] = None,
    sort: Annotated[str, Option(metavar="KEY", help="Column or setting to sort by, ascending; -KEY: descending.")] = "started",
    as_json: Annotated[bool, Option("--json", help="Print a line of JSON for each run.")] = False,
    verbosity: common.Verbosity,
) -> None:
    """List runs: state, data set, network, method, seed, fold, epochs, validation and test accuracy, start, and path.

    A state is running, finished, stopped, diverged or damaged. Off a terminal, columns are separated by tabs: state, dataset, arch,
    method, seed, fold, epoch, epochs, val_accuracy, test_accuracy, started, path. The validation accuracy is that of the best epoch.
    """
    common.messages(verbosity)
    from lsgcli.runs import table

    found = table.ordered(table.where(table.overview(folder), where or ()), sort)
    for run in found:
        if run.problem:
            log.warning("damaged: %s", run.problem.message)
    tell_not_installed(run.lacking for run in found)
    if not found:
        log.info("%s: no runs%s", folder, f" with {' '.join(where)}" if where else "")
    elif as_json:
        for run in found:
            print_json(canonical(run.overview, "runs"))
    else:
        rows = [[_text(value) for value in run.overview.values()] for run in found]
        if not sys.stdout.isatty():
            print_result("\n".join(map("\t".join, rows)))
            return
        from lsgcli.report import terminal

        terminal.show([terminal.table(table.COLUMNS, rows, left=len(table.COLUMNS))])


def _text(value: object) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else clean(str(value), column=True)


def compare(
    *,
    runs: Annotated[
        list[Path],
        Argument(
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
    verdict other than ok are marked with `!`. Reads only run directories, neither data nor checkpoints. The page of --html has the
    gradient flow of at most 12 runs, first of one in each column.
    """
    common.messages(verbosity)
    from lsgcli.report import comparison as report
    from lsgcli.report.terminal import show
    from lsgcli.runs import compare as comparison

    found = comparison.find(runs)
    if html:
        check_output(html, "--html", suffixes=(".html",), inputs=[run.path for run in found], force=force)
    record = comparison.compare(found)
    if as_json:
        print_json(record)
    else:
        show(report.parts(record))
    if html:
        files.write_text(html, report.page(record))
