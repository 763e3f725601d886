"""``lsg ablate``: variants of a run over several seeds, and a table of their results."""

from pathlib import Path
from typing import Annotated, NamedTuple

from typer import Argument, Option

from lsgcli.cli import common
from lsgcli.cli.launcher import LauncherOptions
from lsgcli.cli.options import Chosen
from lsgcli.config.run import FIELDS, option_name
from lsgcli.errors import ConfigError, log
from lsgcli.report.output import check_plot, print_exact, print_result
from lsgcli.store.rundir import in_use, read_result
from lsgcli.sweeps.plan import Plan
from lsgcli.system.schema import Record

SEEDS = "0-2"


class Rows(NamedTuple):
    """Which runs belong to the table, and where they are."""

    more: Annotated[list[str] | None, Argument(metavar="KEY=V,V", help="Additional axes of --grid.")] = None
    table: Annotated[
        str | None,
        Option(
            help="The paper's table 1 (methods), 2 (fixed widths) or 3 (timesteps). Default: 1.",
        ),
    ] = None
    grid: Annotated[
        str | None,
        Option(
            metavar="KEY=V,V...", help="All combinations of settings, such as method=lsg,fixed T=2,4, instead of a --table."
        ),
    ] = None
    seeds: Annotated[str | None, Option(help=f"Seeds, such as 0-4 or 0,1,7. Default: {SEEDS}.")] = None
    folds: Annotated[
        int | None,
        Option(
            min=2,
            help="Run each row and seed on this many stratified folds of a data set without a published test part; see --fold.",
        ),
    ] = None
    config: common.ConfigFile = None
    out: Annotated[
        Path | None, Option(help="Directory of the runs. Default: a directory below runs/, derived from the settings.")
    ] = None


class Output(NamedTuple):
    """How the table is shown."""

    form: Annotated[
        str | None,
        Option("--format", help="Output format: table (default), markdown, csv, latex or json."),
    ] = None
    as_json: Annotated[bool, Option("--json", help="Same as --format json.")] = False
    margin: Annotated[
        float | None,
        Option(
            min=1e-9,
            help="Also test whether each row is equivalent to the first: within this many percentage points of accuracy.",
        ),
    ] = None
    plot: Annotated[
        Path | None,
        Option(
            metavar="DIR|FILE",
            help="Also write charts of accuracy and loss by epoch, coverage by layer, and alpha and beta over training, as SVG, PNG, "
            "and PDF for one column of a journal; or accuracy and loss as FILE.pdf, .svg or .png for two columns.",
        ),
    ] = None


def ablate(
    *,
    rows: Rows,
    print_commands: Annotated[
        bool,
        Option(
            "--print-commands",
            help="Do not run; print one `lsg train` command per line for each unfinished run, for xargs or a scheduler.",
        ),
    ] = False,
    folder: Annotated[
        Path | None,
        Option(
            "--collect",
            metavar="DIR",
            help="Do not run; make the table from the finished runs below DIR, and report missing runs.",
        ),
    ] = None,
    output: Output,
    where: LauncherOptions,
    force: common.Force = False,
    verbosity: common.Verbosity,
    settings: Annotated[Record, Chosen(FIELDS.keys() - {"seed"})],
) -> None:
    """Run variants over several seeds, and with --folds over folds of the data, and print mean, spread and paired difference to the first row.

    Each cell is an ordinary run in its own directory. Repeating the command skips finished cells and resumes stopped ones; processes
    started with the same command share the cells. With --launcher, cells are jobs on the devices of this machine or of a cluster,
    and repeating the command follows them. With --print-commands another program runs the cells, and --collect makes the table.
    """
    common.messages(verbosity, FIELDS.keys() - {"seed"})
    if output.as_json and output.form != "json":
        common.exclude("--json", {"--format": output.form})
    from lsgcli.report.tables import FORMATS

    margin = output.margin
    format_name = "json" if output.as_json else output.form or "table"
    if format_name not in FORMATS:
        raise ConfigError(f"--format: found {format_name!r}, expected one of {', '.join(FORMATS)}")
    if output.plot:
        check_plot(output.plot, folder=None, force=force)
    axes = [text for text in [rows.grid, *(rows.more or [])] if text]
    of_table = {"--plot": output.plot, "--json": output.as_json, "--format": output.form, "--margin": margin}
    where.check()
    if where.cancel:
        common.exclude("--cancel", of_table)
    if folder is not None:
        others = {
            "--table": rows.table,
            "--grid": axes or None,
            "--seeds": rows.seeds,
            "--folds": rows.folds,
            "--config": rows.config,
            "--out": rows.out,
            "--print-commands": print_commands,
            "--launcher": where.launcher,
            **{option_name(name): True for name in settings},
        }
        common.exclude("--collect", others)
        from lsgcli.sweeps.collect import collect

        found = collect(folder)
    else:
        if print_commands:
            common.exclude("--print-commands", {**of_table, "--launcher": where.launcher})
        from lsgcli.sweeps.arguments import plan

        seeds = SEEDS if rows.seeds is None else rows.seeds
        planned = plan(settings, rows.table, axes, seeds, rows.config, rows.out, rows.folds, print_commands)
        if where.cancel:
            where.cancel_jobs(planned.root)
            return
        from lsgcli.sweeps.cells import check_data
        from lsgcli.sweeps.collect import Collection
        from lsgcli.sweeps.schedule import Strategy

        every = planned.cells()
        check_data(every)
        if print_commands:
            _print_commands(planned, verbosity.quiet)
            return
        hint = "Repeat the command to run them again; --collect shows the other runs."
        where.run(Strategy(planned.root, every, hint), verbosity.quiet, planned.save)
        check_data(every)  # other processes may have run some of them
        found = Collection.read(every, planned.table)
    summary = found.summary(None if margin is None else margin / 100)
    print_result(FORMATS[format_name](summary))
    if output.plot:
        from lsgcli.report.comparison import draw, finished

        runs = finished(found, [row["label"] for row in summary["rows"]])
        written = draw(runs, output.plot)
        log.info("\n".join(f"wrote {path}" for path in written) or "no run has finished; no charts written")
    if folder is None:
        common.say_next("lsg", "compare", planned.root, "--html", "runs.html")


def _print_commands(plan: Plan, quiet: bool) -> None:
    """Print a command for each cell that is neither finished nor running."""
    import shlex

    from lsgcli.sweeps.cells import command

    plan.save()
    cells = plan.cells()
    left = [cell for cell in cells if read_result(cell.path) is None and not in_use(cell.path)]
    if len(left) < len(cells):
        log.info("%d of %d runs are finished or running", len(cells) - len(left), len(cells))
    for cell in left:
        print_exact(shlex.join(command(cell, ("-q",) if quiet else ())))
    log.info("to make the table: lsg ablate --collect %s", shlex.quote(str(plan.root)))
