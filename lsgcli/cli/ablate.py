"""``lsg ablate``: variants of a run over several seeds, and a table of their results."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsgcli import config as settings_of
from lsgcli import files
from lsgcli.cli import completion
from lsgcli.cli.common import ConfigFile, Force, Quiet, Verbose, log, messages
from lsgcli.cli.options import with_settings
from lsgcli.errors import ConfigError, Stopped
from lsgcli.output import print_result

if TYPE_CHECKING:
    from lsgcli.ablation.collect import Collection
    from lsgcli.ablation.plan import Cell, Plan, Row, Variant
    from lsgcli.config import RunConfig

SEEDS = "0-2"
MOST = 10_000  # runs of an ablation
TAKES = settings_of.FIELDS.keys() - {"seed"}


def _formats(incomplete: str) -> list[str]:
    from lsgcli.report.tables import FORMATS

    return completion.of(FORMATS)(incomplete)


@with_settings(leave_out=settings_of.FIELDS.keys() - TAKES)
def ablate(
    settings: dict[str, Any],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=V,V...]", help="Additional axes of --grid.", show_default=False)
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            help="The paper's table 1 (methods), 2 (fixed widths) or 3 (timesteps). Default: 1.",
            autocompletion=completion.of("123"),
        ),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=V,V...", help="All combinations of settings, such as method=lsg,none T=2,4, instead of a --table."
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help=f"Seeds, such as 0-4 or 0,1,7. Default: {SEEDS}.", show_default=False)
    ] = None,
    config: ConfigFile = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the runs. Default: a directory below runs/, derived from the settings.")
    ] = None,
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
    form: Annotated[
        str | None,
        typer.Option("--format", help="Output format: table (default), markdown, csv, latex or json.", autocompletion=_formats),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Same as --format json.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write charts of accuracy, loss, and coverage, alpha and beta per layer over training, as SVG, PNG, and PDF "
            "(with lsgcli[pdf]).",
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run variants over several seeds, and print mean, spread and paired difference to the first row.

    Each cell is an ordinary run in its own directory. Repeating the command skips finished cells and resumes stopped ones; processes
    started with the same command share the cells. With --print-commands another program runs the cells, and --collect makes
    the table.
    """
    messages(quiet, verbose, TAKES)
    if as_json and form not in (None, "json"):
        raise ConfigError(f"found both --json and --format {form}, expected one of them")
    chosen, form = form, "json" if as_json else form or "table"
    from lsgcli.report.tables import FORMATS

    if form not in FORMATS:
        raise ConfigError(f"--format: found {form!r}, expected one of {', '.join(FORMATS)}")
    if plot is not None:
        from lsgcli.report.drawing import SUFFIXES

        files.check_output(plot, "--plot", suffixes=SUFFIXES, folder=True, force=force)
    axes = [text for text in [grid, *(more or [])] if text]
    others = {"--table": table, "--grid": axes, "--seeds": seeds, "--config": config, "--out": out}
    if collect is not None:
        _refuse("--collect", {**others, "--print-commands": print_commands, **_named(settings)})
        from lsgcli.ablation.collect import collect as find

        found = find(collect)
    else:
        if print_commands:
            _refuse("--print-commands", {"--plot": plot, "--json": as_json, "--format": chosen})
        plan = _plan(settings, table, axes, _seeds(SEEDS if seeds is None else seeds), config, out)
        if print_commands:
            _print_commands(plan, quiet)
            return
        found = _run(plan, quiet)
    summary = found.summary()
    print_result(FORMATS[form](summary))
    if plot is not None:
        _plot(found, summary, plot)


def _run(plan: "Plan", quiet: bool) -> "Collection":
    """Run all cells, except those that other processes are running."""
    from lsgcli.ablation.cells import complete, run_cell
    from lsgcli.ablation.collect import Collection
    from lsgcli.report.terminal import TrainingDisplay
    from lsgcli.training.signals import stop_on_signals

    cells = plan.cells()

    def attempt(cell: "Cell") -> dict[str, Any]:
        with TrainingDisplay(quiet=quiet) as display:
            display.heading(f"[{cells.index(cell) + 1}/{len(cells)}] {cell.path}")

            def emit(record: dict[str, Any]) -> None:
                if record["event"] == "start":  # written only once a run has started
                    plan.save()
                display(record)

            return run_cell(cell, emit, stop)

    def waiting(left: "Sequence[Cell]") -> None:
        log.info("waiting for %d runs in other processes: %s", len(left), ", ".join(str(c.path) for c in left))

    with stop_on_signals() as stop:
        try:
            return Collection(cells, list(complete(cells, attempt, stop, waiting)), plan.table)
        except Stopped as error:
            raise Stopped(error.message, hint="Repeat the command to continue.") from None


def _print_commands(plan: "Plan", quiet: bool) -> None:
    """Print a command for each cell that is neither finished nor running."""
    import shlex
    import shutil

    from lsgcli.ablation.cells import command, is_plain
    from lsgcli.rundir import in_use, read_result

    plan.save()
    cells = plan.cells()
    left = [cell for cell in cells if read_result(cell.path) is None and not in_use(cell.path)]
    lines = [command(cell, ("-q",) if quiet else ()) for cell in left]
    if len(left) < len(cells):
        log.info("%d of %d runs are finished or running", len(cells) - len(left), len(cells))
    if not all(map(is_plain, lines)):
        log.warning(
            "some commands contain quotes, which xargs removes; use: ... | tr '\\n' '\\0' | xargs -0 -P2 -I{} sh -c '{}'"
        )
    if shutil.which("lsg") is None:
        log.warning("lsg is not on the PATH; activate its environment in the shell that runs these commands")
    for words in lines:
        print_result(shlex.join(words))
    log.info("to make the table: lsg ablate --collect %s", shlex.quote(str(plan.root)))


def _plot(found: "Collection", summary: dict[str, Any], folder: Path) -> None:
    from lsgcli.ablation.curves import finished
    from lsgcli.report.ablation_charts import charts
    from lsgcli.report.drawing import save

    rows = finished([row["label"] for row in summary["rows"]], found.cells, found.records)
    written = save(charts(rows), folder)
    log.info("\n".join(f"wrote {path}" for path in written) or "no run has finished; no charts written")


def _refuse(option: str, others: dict[str, Any]) -> None:
    given = [name for name, value in others.items() if value]
    if given:
        raise ConfigError(f"{', '.join(given)}: cannot be combined with {option}")


def _named(settings: dict[str, Any]) -> dict[str, Any]:
    return {settings_of.option_name(name): True for name in settings}


def _plan(
    settings: dict[str, Any], table: str | None, axes: list[str], seeds: list[int], file: Path | None, out: Path | None
) -> "Plan":
    """The runs, after checking their settings and that no directory contains a different run."""
    from lsgcli import run
    from lsgcli.ablation.cells import check_same
    from lsgcli.ablation.plan import Plan, folder_of

    variants, table = _variants(table, axes)
    if len(variants) * len(seeds) > MOST:
        raise ConfigError(f"--seeds: found {len(seeds):,} seeds for {len(variants)} rows, expected at most {MOST:,} runs")
    rows = _distinct(zip(variants, _configs(settings, variants, file), strict=True))
    plan = Plan(out or folder_of([config for _, config in rows]), rows, tuple(seeds), table)
    for _, config in rows:
        run.check(config)
    for cell in plan.cells():
        check_same(cell)
    return plan


def _variants(table: str | None, axes: list[str]) -> "tuple[tuple[Variant, ...], str | None]":
    """The rows of the table, and the number of the paper's table, if it is one."""
    from lsgcli.ablation.paper import TABLES
    from lsgcli.ablation.plan import grid

    if axes:
        if table is not None:
            raise ConfigError("--table and --grid: found both, expected one of them")
        values = _axes(axes)
        if (count := math.prod(map(len, values.values()))) > MOST:
            raise ConfigError(f"--grid: found {count:,} rows, expected at most {MOST:,}")
        return grid(values), None
    if (table or "1") not in TABLES:
        raise ConfigError(f"--table: found {table!r}, expected one of {', '.join(TABLES)}")
    return TABLES[table or "1"], table or "1"


def _configs(settings: dict[str, Any], variants: "tuple[Variant, ...]", file: Path | None) -> "list[RunConfig]":
    """Complete settings of each row, including the preset of its data set."""
    from lsgcli.resolve import resolve_rows

    both = sorted({name for variant in variants for name in variant} & set(settings))
    if both:
        names = ", ".join(settings_of.option_name(name) for name in both)
        raise ConfigError(
            f"{names}: cannot be given, because the rows of the table differ in it", hint="Omit the option, or use --grid."
        )
    return resolve_rows(settings, variants, file=file, takes=TAKES)


def _distinct(rows: "Iterable[Row]") -> "tuple[Row, ...]":
    """The rows without those that have the same computation as an earlier row."""
    from lsgcli.ablation.plan import folder_name

    first: dict[RunConfig, Variant] = {}
    for variant, config in rows:
        if first.setdefault(config, variant) is not variant:
            log.warning("%s: omitted, same computation as %s", folder_name(variant), folder_name(first[config]))
    return tuple((variant, config) for config, variant in first.items())


def _axes(texts: list[str]) -> dict[str, list[Any]]:
    axes: dict[str, list[Any]] = {}
    problems = []
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not values:
            problems.append(f"--grid: found {text!r}, expected KEY=VALUE,VALUE,...")
        elif name not in settings_of.FIELDS:
            problems += settings_of.check({name: None})
        elif name == "seed":
            problems.append("--grid: found seed, expected another setting; use --seeds for seeds")
        elif name in axes:
            problems.append(f"--grid: found {name} twice")
        elif name in settings_of.MAY_CHANGE:
            problems.append(f"--grid: found {name}, which does not affect results")
        else:
            axes[name] = [_value(name, value) for value in values.split(",")]
            problems += [line for value in axes[name] for line in settings_of.check({name: value})]
    if problems:
        raise ConfigError("\n".join(problems))
    return axes


def _value(name: str, text: str) -> Any:
    from lsgcli.resolve import parse

    try:
        return parse(name, text)
    except ValueError:
        return text  # rejected by check()


def _seeds(text: str) -> list[int]:
    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,19})(?:-(\d{1,19}))?", part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ConfigError(f"--seeds: found {text!r}, expected numbers and ranges such as 0-4 or 0,1,7")
        first, last = int(match[1]), int(match[2] or match[1])
        if problems := settings_of.check({"seed": last}):
            raise ConfigError(problems[0].replace("--seed:", "--seeds:"))
        if last - first + len(seeds) >= MOST:
            raise ConfigError(f"--seeds: found {text!r}, expected at most {MOST:,} seeds")
        seeds |= dict.fromkeys(range(first, last + 1))
    return list(seeds)
