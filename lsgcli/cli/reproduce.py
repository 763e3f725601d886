"""``lsg reproduce``: published figures, trained again. Each is a TOML file in ``figures``:

title = "..."
source = "README.md"          # where it is published
[[runs]]
settings = {epochs = 2}       # as in files for --config
measure = "accuracy"          # a field of result.json
expected = 0.98
tolerance = 0.02              # the largest difference that meets it
data = "..."                  # data_digest in config.json
"""

import tomllib
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from lsgcli import registry
from lsgcli.cli import common
from lsgcli.errors import CheckpointError, ConfigError, GateError
from lsgcli.report.output import print_json, print_result
from lsgcli.store.rundir import RESULT, read_facts, read_result
from lsgcli.system.schema import Record

FIGURES = {file.stem: tomllib.loads(file.read_text()) for file in sorted(Path(__file__).parent.glob("figures/*.toml"))}


def reproduce(
    *,
    name: Annotated[str | None, Argument(metavar="NAME", help="Name of a figure.")] = None,
    out: Annotated[Path, Option(help="Directory of the runs, in which finished ones are kept.")] = Path("runs/reproduce"),
    as_json: common.Json = False,
    verbosity: common.Verbosity,
) -> None:
    """Train the runs of a published figure, and say whether each expected value is met; without NAME, list the figures.

    Settings, digest of the data, expected values and their tolerances are those of this version. If a value is not met, the exit
    status is 9.
    """
    common.messages(verbosity)
    if name is None:
        print_result("\n".join(f"{each}\t{figure['title']} ({figure['source']})" for each, figure in FIGURES.items()))
        return
    if name not in FIGURES:
        raise ConfigError(registry.unknown("figure", name, list(FIGURES)), "`lsg reproduce` lists them.")
    from lsgcli.config.resolve import resolve
    from lsgcli.report.display import TrainingDisplay
    from lsgcli.report.run_page import run_page
    from lsgcli.runs.checks import check_same
    from lsgcli.runs.run import train_together
    from lsgcli.training.signals import stop_on_signals

    rows = []
    for number, planned in enumerate(FIGURES[name]["runs"], 1):
        path = out / f"{name}-{number}"
        config = resolve(planned["settings"], environment={})
        if result := _finished(path):
            check_same(path, config)
        else:
            with stop_on_signals() as stop, TrainingDisplay(verbosity.quiet) as display:
                result = train_together(config, display, stop, path=path, page=run_page) or {}
        found = _measured(path, result, planned["measure"])
        data = read_facts(path).get("data_digest")
        met = data == planned["data"] and abs(found - planned["expected"]) <= planned["tolerance"]
        rows.append({**planned, "run": str(path), "found": found, "data_found": data, "met": met})
    if as_json:
        print_json({"figure": name, "runs": rows})
    else:
        for row in rows:
            text = "{run}: {measure} {found:.4f}, expected {expected} +- {tolerance}: ".format(**row)
            print_result(text + ("met" if row["met"] else "not met"))
    if not all(row["met"] for row in rows):
        raise GateError(
            f"{name}: not met",
            "Other data, or a change of lsg, torch or the processor may explain it; --json has the digests.",
        )


def _finished(path: Path) -> Record | None:
    """The result of the run in a directory; None if it has not finished. A CheckpointError if it is damaged."""
    try:
        return read_result(path)
    except ConfigError as error:
        raise CheckpointError(error.message, _train_again(path)) from error


def _measured(path: Path, result: Record, measure: str) -> float:
    """A number of a result. A CheckpointError if the result lacks it, as that of a run that diverged."""
    found: float | None = result.get(measure)
    if found is None:
        because = f" ({result['diverged']})" if "diverged" in result else ""
        what = "null" if measure in result else "no value"
        message = f"{path / RESULT}: {measure}: found {what}, expected a number{because}"
        raise CheckpointError(message, _train_again(path))
    return found


def _train_again(path: Path) -> str:
    return f"Remove {path}, and repeat the command, which trains it again."
