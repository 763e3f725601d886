"""``lsg ablate``: variants of a run over several seeds, and a table of what came out."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsgcli import config as settings_of
from lsgcli.cli.common import Quiet, Verbose, messages
from lsgcli.cli.options import with_settings
from lsgcli.errors import ConfigError

if TYPE_CHECKING:
    from lsgcli.ablation import Variant


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
    from lsgcli import ablation
    from lsgcli.report.terminal import TrainingDisplay
    from lsgcli.resolve import resolve

    variants = _variants(table, axes, ablation.TABLES)
    cells = ablation.cells(resolve(settings, file=config), variants, seed_list, out)
    records = []
    for number, cell in enumerate(cells, start=1):
        with TrainingDisplay(quiet=quiet) as display:
            display.heading(f"[{number}/{len(cells)}] {cell.path}")
            records.append(ablation.run_cell(cell, display))
    print(FORMATS[form](ablation.rows(cells, records)), flush=True)


def _variants(table: str | None, axes: list[str], tables: "dict[str, tuple[Variant, ...]]") -> "tuple[Variant, ...]":
    from lsgcli.ablation import grid

    if axes:
        if table is not None:
            raise ConfigError("--table and --grid: found both, expected one of them")
        return grid(_axes(axes))
    if (table or "1") not in tables:
        raise ConfigError(f"--table: found {table!r}, expected one of {', '.join(tables)}")
    return tables[table or "1"]


def _axes(texts: list[str]) -> dict[str, list[Any]]:
    axes: dict[str, list[Any]] = {}
    problems = []
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.replace("-", "_")
        if not equals or not values:
            problems.append(f"--grid: found {text!r}, expected KEY=VALUE,VALUE,...")
        elif name not in settings_of.FIELDS:
            problems += settings_of.check({name: None})
        else:
            axes[name] = [_value(name, value) for value in values.split(",")]
            problems += [line for value in axes[name] for line in settings_of.check({name: value})]
    if problems:
        raise ConfigError("\n".join(problems))
    return axes


def _value(name: str, text: str) -> Any:
    try:
        return settings_of.base_type(name)(text)
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
