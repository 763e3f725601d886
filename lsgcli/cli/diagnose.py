"""``lsg diagnose``: run a training script, watch it, and say why its network does not learn."""

import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, NamedTuple

from typer import Argument, Option

from lsgcli.analysis.advice import gated
from lsgcli.cli import common
from lsgcli.config.machine import seconds_of
from lsgcli.errors import ConfigError, GateError, log
from lsgcli.report.output import check_output, print_json
from lsgcli.system import files

OF_LSG = {"--html", "--json", "--fail-on"}  # options that few scripts have


class Watching(NamedTuple):
    """What is run, and how long."""

    module: Annotated[bool, Option("-m", help="Run a module, as `python -m` does.")] = False
    steps: Annotated[str, Option(metavar="N|all", help="Steps after which the script is ended; all: none.")] = "200"
    every: Annotated[int | None, Option(min=1, help="Measure layers every so many steps, too.")] = None


class Trying(NamedTuple):
    """Experiments."""

    trying: Annotated[
        bool, Option("--try", help="Run the script again with one change at a time, until it is known what makes it learn.")
    ] = False
    try_for: Annotated[
        str | None, Option(metavar="TIME", help="Time of all experiments together, such as 90s or 5m; default: 2m.")
    ] = None
    jobs: Annotated[int | None, Option(min=1, help="Experiments at a time; default: one for each core.")] = None


class Output(NamedTuple):
    """Where findings are shown."""

    as_json: common.Json = False
    html: common.Html = None
    record: Annotated[
        Path | None, Option(metavar="FILE", help="Also keep what was seen, as JSON; `lsg diagnose FILE` judges it again.")
    ] = None
    force: common.Force = False


def diagnose(
    *,
    script: Annotated[str, Argument(metavar="SCRIPT", help="Training script, with -m a module, or a record.")],
    arguments: Annotated[list[str] | None, Argument(metavar="ARGS", help="Arguments of the script.")] = None,
    watching: Watching,
    trying: Trying,
    gate: common.Gate,
    output: Output,
    verbosity: common.Verbosity,
) -> None:
    """Run a training script of any library as `python SCRIPT ARGS` does, and say why its network does not learn.

    It computes the same, to the bit. Findings name cause, remedy and line. Options of lsg stand before SCRIPT, whose output goes to stderr.
    """
    common.messages(verbosity)
    steps = watching.steps
    if steps != "all" and not (steps.isdecimal() and int(steps)):
        raise ConfigError(f"--steps: found {steps!r}, expected a number above 0, or all")
    if misplaced := OF_LSG.intersection(arguments or ()):
        log.info("%s: after SCRIPT, so the script's; options of lsg stand before it", ", ".join(sorted(misplaced)))
    if not watching.module and not Path(script).is_file():
        raise ConfigError(f"{script}: found no file, expected a Python script", "For a module, use -m NAME.")
    gates, limits = gate.parsed()
    if output.html:
        check_output(output.html, "--html", suffixes=(".html",), inputs=[], force=output.force)
    if output.record:
        check_output(output.record, "--record", suffixes=(".json",), inputs=[], force=output.force)
    recorded = script.endswith(".json") and not watching.module
    if recorded and (trying.trying or output.record):
        raise ConfigError(f"{script}: found a record with --try or --record, expected a script, which they run")
    if not trying.trying:
        common.require("--try", {"--try-for": trying.try_for, "--jobs": trying.jobs})
    limit = seconds_of(trying.try_for or "2m")
    if not limit:
        raise ConfigError(f"--try-for: found {trying.try_for!r}, expected a time such as 90s or 5m")
    from lsgcli.analysis.watch.recorded import record_of
    from lsgcli.report import findings, page, terminal
    from lsgcli.runs import experiment, experiments
    from lsgcli.runs import script as scripts

    start = time.monotonic()
    if recorded:
        found = scripts.judged(Path(script), limits)
    else:
        count = None if steps == "all" else int(steps)
        found = scripts.diagnose(
            script, arguments or [], module=watching.module, steps=count, every=watching.every, limits=limits
        )
    question = experiments.question_of(found.record, found.seen, time.monotonic() - start, found.status)
    if output.record:
        files.write_json(output.record, record_of(found.seen))
    if trying.trying:
        own = experiment.Script(script, arguments or [], watching.module)
        done = experiments.of_script(own, question, limit, trying.jobs, findings.tell)
        experiments.add(found.record, done, question.unchanged)
    if output.html:
        files.write_text(output.html, page.diagnosis_page(found.record))
    with redirect_stdout(found.stdout):
        if output.as_json:
            print_json(found.record)
        else:
            terminal.show(findings.diagnosis(found.record))
            if question.waiting and not (trying.trying or recorded):
                terminal.show(findings.suggestion(question.waiting, [script, *(arguments or [])]))
    if found.status:
        raise SystemExit(found.status)
    if failed := gated(found.record["findings"], gates):
        raise GateError(
            "\n".join("{rule}: {cause}".format(**finding) for finding in failed),
            "--fail-on names these rules, or their severity.",
        )


diagnose.context_settings = {"allow_interspersed_args": False}  # type: ignore[attr-defined]  # what follows SCRIPT is the script's
