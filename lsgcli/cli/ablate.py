"""``lsg ablate``: variants of a run over several seeds, and a table of their results."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from lsgcli.cli import common, completion
from lsgcli.cli.options import Chosen
from lsgcli.config.run import FIELDS, option_name
from lsgcli.errors import ConfigError, Stopped, counted, require
from lsgcli.report.output import check_output, print_result

if TYPE_CHECKING:
    from lsgcli.sweeps.collect import Collection
    from lsgcli.sweeps.launching import Launch
    from lsgcli.sweeps.plan import Cell, Plan

SEEDS = "0-2"


def _formats() -> list[str]:
    from lsgcli.report.tables import FORMATS

    return list(FORMATS)


class Rows(NamedTuple):
    """Which runs belong to the table, and where they are."""

    more: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=V,V...]", help="Additional axes of --grid.", show_default=False)
    ] = None
    table: Annotated[
        str | None,
        typer.Option(
            help="The paper's table 1 (methods), 2 (fixed widths) or 3 (timesteps). Default: 1.",
            autocompletion=completion.of("123"),
        ),
    ] = None
    grid: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=V,V...", help="All combinations of settings, such as method=lsg,none T=2,4, instead of a --table."
        ),
    ] = None
    seeds: Annotated[str | None, typer.Option(help=f"Seeds, such as 0-4 or 0,1,7. Default: {SEEDS}.", show_default=False)] = (
        None
    )
    config: common.ConfigFile = None
    out: Annotated[
        Path | None, typer.Option(help="Directory of the runs. Default: a directory below runs/, derived from the settings.")
    ] = None


class Output(NamedTuple):
    """How the table is shown."""

    form: Annotated[
        str | None,
        typer.Option("--format", help="Output format: table (default), markdown, csv, latex or json.", autocompletion=_formats),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Same as --format json.")] = False
    margin: Annotated[
        float | None,
        typer.Option(
            help="Also test whether each row is equivalent to the first: within this many percentage points of accuracy.",
        ),
    ] = None
    plot: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR|FILE",
            help="Can be repeated. Also write charts of accuracy, loss, and coverage, alpha and beta per layer over training, as SVG, "
            "PNG, and PDF (with lsgcli[pdf]) for one column of a journal; or accuracy and loss as FILE.pdf, .svg or .png for two columns.",
        ),
    ] = None


class Jobs(NamedTuple):
    """Cells as jobs of a launcher."""

    launcher: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:KEY=V,...]",
            help="Run the cells as jobs: local (processes on this machine), slurm or ray (lsgcli[slurm], lsgcli[ray]). Default: one "
            "after another in this process.",
            autocompletion=completion.names_of("launcher"),
            rich_help_panel="Launcher",
        ),
    ] = None
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --launcher local: cells at a time. Default: one for each of --devices.",
            rich_help_panel="Launcher",
        ),
    ] = None
    devices: Annotated[
        str | None,
        typer.Option(
            help="With --launcher local: GPUs, one cell each: a number of them (4), or which (0-3 or 0,2).",
            rich_help_panel="Launcher",
        ),
    ] = None
    slurm: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=V,...",
            help="With --launcher slurm: options of sbatch, such as partition=gpu,gres=gpu:1,time=4:00:00; also parallel (jobs at a time), "
            "grace (seconds between the signal and the time limit, default 90), setup (a shell command before each cell).",
            rich_help_panel="Launcher",
        ),
    ] = None
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=V,...",
            help="With --launcher ray: address (auto, or HOST:PORT; default: a local cluster that ends with the command); num_cpus "
            "(default 1) and num_gpus (default 1 if the cluster has GPUs) of each cell.",
            rich_help_panel="Launcher",
        ),
    ] = None
    cancel: Annotated[
        bool,
        typer.Option("--cancel", help="Cancel the jobs of the same command with --launcher.", rich_help_panel="Launcher"),
    ] = False


def ablate(
    *,
    rows: Rows,
    print_commands: Annotated[
        bool,
        typer.Option(
            "--print-commands",
            help="Do not run; print one `lsg train` command per line for each unfinished run, for xargs or a scheduler.",
        ),
    ] = False,
    collect: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Do not run; make the table from the finished runs below DIR, and report missing runs."
        ),
    ] = None,
    output: Output,
    jobs: Jobs,
    force: common.Force = False,
    verbosity: common.Verbosity,
    settings: Annotated[dict[str, Any], Chosen(FIELDS.keys() - {"seed"})],
) -> None:
    """Run variants over several seeds, and print mean, spread and paired difference to the first row.

    Each cell is an ordinary run in its own directory. Repeating the command skips finished cells and resumes stopped ones; processes
    started with the same command share the cells. With --launcher, cells are jobs on the devices of this machine or of a cluster,
    and repeating the command follows them. With --print-commands another program runs the cells, and --collect makes the table.
    """
    common.messages(verbosity, FIELDS.keys() - {"seed"})
    if output.as_json and output.form not in (None, "json"):
        raise ConfigError(f"found both --json and --format {output.form}, expected one of them")
    from lsgcli.report.tables import FORMATS

    margin = output.margin
    if margin is not None and not margin > 0:
        raise ConfigError(f"--margin: found {margin:g}, expected a number of percentage points above 0")
    format_name = "json" if output.as_json else output.form or "table"
    if format_name not in FORMATS:
        raise ConfigError(f"--format: found {format_name!r}, expected one of {', '.join(FORMATS)}")
    for target in output.plot or ():
        from lsgcli.report.drawing import SUFFIXES

        check_output(target, "--plot", suffixes=SUFFIXES, folder=target.suffix.lower() not in SUFFIXES, force=force)
        if target.suffix.lower() == ".pdf":
            require(("svglib",), f"--plot {target}", "pdf")
    axes = [text for text in [rows.grid, *(rows.more or [])] if text]
    launched = _launched(
        jobs.launcher,
        {
            "local": {"--jobs": jobs.jobs, "--devices": jobs.devices},
            "slurm": {"--slurm": jobs.slurm},
            "ray": {"--ray": jobs.ray},
        },
    )
    of_table = {"--plot": output.plot or None, "--json": output.as_json, "--format": output.form, "--margin": margin}
    if jobs.launcher is None:
        common.require("--launcher", {"--cancel": jobs.cancel})
    if jobs.cancel:
        common.exclude("--cancel", of_table)
    if not output.plot:
        common.require("--plot", {"--force": force})
    if collect is not None:
        others: dict[str, Any] = {
            "--table": rows.table,
            "--grid": axes or None,
            "--seeds": rows.seeds,
            "--config": rows.config,
            "--out": rows.out,
        }
        others |= {
            "--print-commands": print_commands,
            "--launcher": jobs.launcher,
            **{option_name(name): True for name in settings},
        }
        common.exclude("--collect", others)
        from lsgcli.sweeps.collect import collect as find

        found = find(collect)
    else:
        if print_commands:
            common.exclude("--print-commands", {**of_table, "--launcher": jobs.launcher})
        from lsgcli.sweeps.rows import plan

        planned = plan(settings, rows.table, axes, SEEDS if rows.seeds is None else rows.seeds, rows.config, rows.out)
        if print_commands:
            _print_commands(planned, verbosity.quiet)
            return
        if launched is None:
            found = _run(planned, verbosity.quiet)
        else:
            with _launch(planned, *launched) as launch:
                if jobs.cancel:
                    common.log.info("cancelled jobs: %d", launch.cancel())
                    return
                found = _follow(planned, launch, verbosity.quiet)
    summary = found.summary(None if margin is None else margin / 100)
    print_result(FORMATS[format_name](summary))
    if output.plot:
        from lsgcli.report.ablation_charts import draw
        from lsgcli.sweeps.curves import finished

        runs = finished([row["label"] for row in summary["rows"]], found.cells, found.records)
        written = [path for target in output.plot for path in draw(runs, target)]
        common.log.info("\n".join(f"wrote {path}" for path in written) or "no run has finished; no charts written")


def _launched(launcher: str | None, given: dict[str, dict[str, Any]]) -> tuple[str, str] | None:
    """The name of the launcher and the text of its options, from ``--launcher`` and the options by launcher."""
    name, _, text = (launcher or "").partition(":")
    for other, options in given.items():
        if other != name:
            common.require(f"--launcher {other}", options)
    own = given.get(name, {})
    texts = [f"{option[2:]}={value}" if name == "local" else value for option, value in own.items() if value is not None]
    return (name, ",".join([*filter(None, [text]), *texts])) if launcher is not None else None


@contextlib.contextmanager
def _launch(plan: "Plan", name: str, options: str) -> Iterator["Launch"]:
    """The cells as jobs of a launcher."""
    from lsgcli.sweeps.jobs import FOLDER
    from lsgcli.sweeps.launchers.base import make
    from lsgcli.sweeps.launching import Launch

    with contextlib.closing(make(name, options, plan.root / FOLDER)) as launcher:
        yield Launch(plan, name, launcher)


def _follow(plan: "Plan", launch: "Launch", quiet: bool) -> "Collection":
    """Run all cells as jobs."""
    from lsgcli.report.cells import CellsDisplay
    from lsgcli.sweeps.collect import Collection
    from lsgcli.training.signals import stop_on_signals

    plan.save()
    with stop_on_signals() as stop, CellsDisplay(launch.cells, quiet) as display:
        return Collection(launch.cells, list(launch.follow(display, stop)), plan.table)


def _run(plan: "Plan", quiet: bool) -> "Collection":
    """Run all cells, except those that other processes are running."""
    from lsgcli.loggers.outlets import OUTLETS
    from lsgcli.report.display import TrainingDisplay
    from lsgcli.sweeps.cells import complete, run_cell
    from lsgcli.sweeps.collect import Collection
    from lsgcli.training.signals import stop_on_signals

    cells = plan.cells()

    def attempt(cell: "Cell") -> dict[str, Any]:
        with TrainingDisplay(quiet=quiet) as display:
            display.say(f"[{cells.index(cell) + 1}/{len(cells)}] {cell.path}")

            def emit(record: dict[str, Any]) -> None:
                if record["event"] == "start":  # written only once a run has started
                    plan.save()
                display(record)

            return run_cell(cell, emit, stop, OUTLETS)

    def waiting(left: Sequence["Cell"]) -> None:
        common.log.info(
            "waiting for %s in other processes: %s", counted(len(left), "run"), ", ".join(str(cell.path) for cell in left)
        )

    with stop_on_signals() as stop:
        try:
            return Collection(cells, list(complete(cells, attempt, stop, waiting)), plan.table)
        except Stopped as error:
            raise Stopped(error.message, hint="Repeat the command to continue.") from None


def _print_commands(plan: "Plan", quiet: bool) -> None:
    """Print a command for each cell that is neither finished nor running."""
    import shlex
    import shutil

    from lsgcli.store.rundir import in_use, read_result
    from lsgcli.sweeps.cells import command, is_plain

    plan.save()
    cells = plan.cells()
    left = [cell for cell in cells if read_result(cell.path) is None and not in_use(cell.path)]
    lines = [command(cell, ("-q",) if quiet else ()) for cell in left]
    if len(left) < len(cells):
        common.log.info("%d of %d runs are finished or running", len(cells) - len(left), len(cells))
    if not all(map(is_plain, lines)):
        common.log.warning(
            "some commands contain quotes, which xargs removes; use: ... | tr '\\n' '\\0' | xargs -0 -P2 -I{} sh -c '{}'"
        )
    if shutil.which("lsg") is None:
        common.log.warning("lsg is not on the PATH; activate its environment in the shell that runs these commands")
    for words in lines:
        print_result(shlex.join(words))
    common.log.info("to make the table: lsg ablate --collect %s", shlex.quote(str(plan.root)))
