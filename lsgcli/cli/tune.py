"""``lsg tune``: search for the settings with the highest validation accuracy."""

import sys
from pathlib import Path
from typing import Annotated, NamedTuple

from typer import Argument, Option

from lsgcli.cli import common
from lsgcli.cli.launcher import LauncherOptions
from lsgcli.cli.options import Chosen
from lsgcli.config.run import FIELDS
from lsgcli.errors import log
from lsgcli.report.output import print_exact, print_json
from lsgcli.system.schema import Record


class Study(NamedTuple):
    """A study of Optuna."""

    trials: Annotated[int, Option(min=1, help="Number of trials, including those of earlier commands.")] = 20
    prune: Annotated[
        bool,
        Option(
            "--prune/--no-prune",
            help="Stop a trial after an epoch if its best validation accuracy so far is below the median of the finished trials at that "
            "epoch, once five have finished.",
        ),
    ] = True
    out: Annotated[
        Path | None, Option(help="Directory of the study. Default: a directory below runs/, derived from the settings.")
    ] = None


def tune(
    *,
    search: Annotated[
        list[str],
        Option(
            metavar="KEY=VALUES",
            help="Settings to search: a range (width=0.5:2), a range on a logarithmic scale (lr=log:1e-3:0.3), or a list of values "
            "(method=lsg,fixed).",
        ),
    ],
    more: Annotated[list[str] | None, Argument(metavar="KEY=VALUES", help="Additional settings of --search.")] = None,
    study: Study,
    config: common.ConfigFile = None,
    where: LauncherOptions,
    as_json: common.Json = False,
    verbosity: common.Verbosity,
    settings: Annotated[Record, Chosen(FIELDS)],
) -> None:
    """Search for the settings with the highest validation accuracy, and print the path of a TOML file for `lsg train --config`.

    Each trial is an ordinary run in its own directory, which neither reads nor evaluates the test part. Repeating the command
    continues the study. With --launcher, trials are jobs on the devices of this machine or of a cluster. Needs lsgcli[tune].
    """
    common.messages(verbosity, FIELDS)
    where.check()
    from lsgcli.report.terminal import show, table
    from lsgcli.sweeps.cells import check_data
    from lsgcli.sweeps.search import plan
    from lsgcli.sweeps.tune import Trials, conclude, open_study

    planned = plan(settings, [*search, *(more or [])], config)
    root = study.out or planned.folder()
    if where.cancel:
        where.cancel_jobs(root)
        return
    check_data(planned.trials(root))
    opened = open_study(planned, root, study.prune)
    where.run(Trials(opened, planned, root, study.trials), verbosity.quiet)
    found = conclude(opened, planned, root)
    best = found["best"]
    columns = ("trial", "state", "epochs", "val_accuracy", "settings")
    rows = [[record[column] for column in columns] for record in found["trials"]]
    if not verbosity.quiet:
        show([table(columns, rows, left=len(columns))], sys.stderr)
    log.info("best: trial %d, validation accuracy %.4f, %s", best["trial"], best["val_accuracy"], best["run"])
    print_json(found) if as_json else print_exact(found["config"])
    common.say_next("lsg", "train", "--config", found["config"])
