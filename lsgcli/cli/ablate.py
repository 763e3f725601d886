"""``lsg ablate``: variants of a run over several seeds, and a table of what came out."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsgcli import config as settings_of
from lsgcli.cli.common import Quiet, Verbose, messages
from lsgcli.cli.options import with_settings
from lsgcli.errors import ConfigError, Stopped

if TYPE_CHECKING:
    from lsgcli.ablation import Variant
    from lsgcli.config import RunConfig


@with_settings(leave_out={"seed"})
def ablate(
    settings: dict[str, Any],
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=V,V...]", help="Further axes of --grid.", show_default=False)
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="The paper's table 1 (methods), 2 (fixed widths) or 3 (timesteps). Default: 1.")
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(metavar="KEY=V,V...", help="Instead: all combinations of settings, such as method=lsg,none T=2,4."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, such as 0-4 or 0,1,7.")] = "0-2",
    config: Annotated[Path | None, typer.Option(help="TOML file of settings; options and LSG_* variables override it.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the runs; the same settings find theirs again below runs/ if not given.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="table, markdown, csv or json.")] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="Same as --format json.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run variants over seeds, and print mean, spread and paired difference to the first row.

    Every cell is an ordinary run in its own directory. Finished cells are not run again and stopped ones are resumed, so the same
    command, given again, completes the table.
    """
    messages(quiet, verbose)
    form = "json" if as_json else form
    axes = [text for text in [grid, *(more or [])] if text]
    seed_list = _seeds(seeds)
    from lsgcli.report.tables import FORMATS

    if form not in FORMATS:
        raise ConfigError(f"--format: found {form!r}, expected one of {', '.join(FORMATS)}")
    from lsgcli import ablation, run
    from lsgcli.report.terminal import TrainingDisplay
    from lsgcli.training.signals import stop_on_signals

    variants, table = _variants(table, axes, ablation.TABLES)
    cells = ablation.cells(_configs(settings, variants, config), variants, seed_list, out)
    for cell in cells[: len(variants)]:
        run.check(cell.config)
    records = []
    with stop_on_signals() as stop:
        for number, cell in enumerate(cells, start=1):
            with TrainingDisplay(quiet=quiet) as display:
                display.heading(f"[{number}/{len(cells)}] {cell.path}")
                try:
                    if stop:
                        raise Stopped(f"stopped by {stop.signal_name} after {number - 1} of {len(cells)} runs")
                    records.append(ablation.run_cell(cell, display, stop))
                except Stopped as error:
                    raise Stopped(error.message, hint="Give the same command again to go on.") from None
    print(FORMATS[form](ablation.rows(cells, records, table)), flush=True)


def _variants(
    table: str | None, axes: list[str], tables: "dict[str, tuple[Variant, ...]]"
) -> "tuple[tuple[Variant, ...], str | None]":
    """The rows of the table, and which of the paper's tables it is."""
    from lsgcli.ablation import grid

    if axes:
        if table is not None:
            raise ConfigError("--table and --grid: found both, expected one of them")
        return grid(_axes(axes)), None
    if (table or "1") not in tables:
        raise ConfigError(f"--table: found {table!r}, expected one of {', '.join(tables)}")
    return tables[table or "1"], table or "1"


def _configs(settings: dict[str, Any], variants: "tuple[Variant, ...]", file: Path | None) -> "list[RunConfig]":
    """Complete settings of each row; a data set brings its own preset."""
    from lsgcli.resolve import resolve

    both = sorted({name for variant in variants for name in variant} & set(settings))
    if both:
        names = ", ".join(settings_of.option_name(name) for name in both)
        raise ConfigError(
            f"{names}: is given, but is also what the rows of the table differ in", hint="Leave the option away, or use --grid."
        )
    return [resolve({**settings, **variant}, file=file) for variant in variants]


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
            problems.append("--grid: found seed, expected settings; seeds are given by --seeds")
        elif name in axes:
            problems.append(f"--grid: found {name} twice")
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
        return text  # check() says what was expected


def _seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
        if match is None:
            raise ConfigError(f"--seeds: found {text!r}, expected numbers and ranges such as 0-4 or 0,1,7")
        first, last = int(match[1]), int(match[2] or match[1])
        seeds += range(first, last + 1)
    if not seeds:
        raise ConfigError(f"--seeds: found {text!r}, expected at least one seed")
    return list(dict.fromkeys(seeds))
