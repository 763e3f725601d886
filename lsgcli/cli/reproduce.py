"""``lsg reproduce``: published figures and tables, made again. Each is a TOML file in ``figures``:

title = "..."
source = "README.md"          # where it is published
commands = ["ablate ..."]     # of lsg, which make it in the folder {out}; or
draws = "..."                 # a function of lsgcli.report.paper; or
[[runs]]
settings = {epochs = 2}       # as in files for --config
measure = "accuracy"          # a field of result.json
expected = 0.98
tolerance = 0.02              # the largest difference that meets it
data = "..."                  # data_digest in config.json
"""

import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from lsgcli import registry
from lsgcli.cli import common
from lsgcli.errors import CheckpointError, ConfigError, GateError, log
from lsgcli.report.output import print_json, print_result
from lsgcli.store.rundir import RESULT, read_facts, read_result
from lsgcli.system.files import make_folder
from lsgcli.system.schema import Record

FIGURES = {file.stem: tomllib.loads(file.read_text()) for file in sorted(Path(__file__).parent.glob("figures/*.toml"))}


def reproduce(
    *,
    name: Annotated[str | None, Argument(metavar="NAME", help="Name of a figure or table.")] = None,
    out: Annotated[Path, Option(help="Directory of the runs, in which finished ones are kept.")] = Path("runs/reproduce"),
    as_json: common.Json = False,
    verbosity: common.Verbosity,
) -> None:
    """Make a published figure or table again; without NAME, list them.

    Those of the paper (Lian et al., IJCAI 2023) are drawn, or made by the commands that the list shows, of full size; change their
    settings for a smaller one. For others, runs are trained and compared with the expected values, which are those of this version, like
    settings, digest of the data and tolerances. If a value is not met, the exit status is 9.
    """
    common.messages(verbosity)
    if name is None:
        for each, figure in FIGURES.items():
            print_result(f"{each}\t{figure['title']} ({figure['source']})")
            for command in figure.get("commands", ()):
                print_result(f"\tlsg {command.format(out=out)}")
        return
    if name not in FIGURES:
        raise ConfigError(registry.unknown("figure", name, list(FIGURES)), "`lsg reproduce` lists them.")
    if "draws" in FIGURES[name]:
        _draw(name, out, as_json)
    elif "commands" in FIGURES[name]:
        _run(FIGURES[name]["commands"], out, as_json, verbosity.quiet)
    else:
        _train(name, out, as_json, verbosity.quiet)


def _draw(name: str, out: Path, as_json: bool) -> None:
    """Draw a figure that needs no training, and print its files."""
    from lsgcli.report import paper
    from lsgcli.report.drawing import save

    drawing = getattr(paper, FIGURES[name]["draws"])()
    files = [str(path) for path in save({name: drawing}, out)]
    if as_json:
        print_json({"figure": name, "files": files})
    else:
        print_result("\n".join(files))


def _run(commands: Sequence[str], out: Path, as_json: bool, quiet: bool) -> None:
    """Run commands of lsg, one after the other."""
    from lsgcli.cli.app import app

    make_folder(out)
    more = ["--json"] * as_json + ["-q"] * quiet
    for command in commands:
        words = [word.format(out=out) for word in shlex.split(command)]
        log.info("%s", shlex.join(["lsg", *words]))
        app([*words, *more], prog_name="lsg", standalone_mode=False)


def _train(name: str, out: Path, as_json: bool, quiet: bool) -> None:
    """Train the runs of a figure, and say whether each expected value is met."""
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
            with stop_on_signals() as stop, TrainingDisplay(quiet) as display:
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
