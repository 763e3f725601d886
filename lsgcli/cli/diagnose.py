"""``lsg diagnose``: run a training script, watch it, and say why its network does not learn."""

from typing import Annotated

import typer

from lsgcli.analysis.advice import gated, parse_gates, parse_limits
from lsgcli.cli import common
from lsgcli.errors import ConfigError, GateError
from lsgcli.report.output import check_output, print_json
from lsgcli.system import files

ALL = "all"


def diagnose(
    *,
    script: Annotated[str, typer.Argument(metavar="SCRIPT", help="Training script, or with -m a module.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="Arguments of the script.", show_default=False)
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="Run a module, as `python -m` does.")] = False,
    steps: Annotated[
        str,
        typer.Option(metavar="N|all", help="Steps after which the script is ended; all: none."),
    ] = "200",
    every: Annotated[
        int | None,
        typer.Option(min=1, help="Measure layers every so many steps, too."),
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(metavar="NAME=X", help="Limit of a rule, such as silent=1e-3; repeatable.")
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(help="Exit with status 9 on findings of these rules or severities."),
    ] = None,
    as_json: common.Json = False,
    html: common.Html = None,
    force: common.Force = False,
    verbosity: common.Verbosity,
) -> None:
    """Run a training script of any library as `python SCRIPT ARGS` does, and say why its network does not learn.

    It computes the same, to the bit. Findings name cause, remedy and line. Options of lsg stand before SCRIPT, whose output goes to stderr.
    """
    common.messages(verbosity)
    if steps != ALL and not (steps.isdecimal() and int(steps)):
        raise ConfigError(f"--steps: found {steps!r}, expected a number above 0, or all")
    gates = parse_gates(fail_on) if fail_on is not None else set()
    limits = parse_limits(limit or [])
    for target in html or ():
        check_output(target, "--html", suffixes=(".html",), inputs=[], force=force)
    from lsgcli.report import findings, page, terminal
    from lsgcli.runs import script as scripts

    count = None if steps == ALL else int(steps)
    found = scripts.diagnose(script, arguments or [], module=module, steps=count, every=every, limits=limits)
    for target in html or ():
        files.write_text(target, page.diagnosis_page(found.record))
    print_json(found.record) if as_json else terminal.show(findings.diagnosis(found.record))
    if found.status:
        raise SystemExit(found.status)
    if failed := gated(found.record["findings"], gates):
        raise GateError(
            "\n".join(f"{one['rule']}: {one['cause']}" for one in failed),
            hint="--fail-on names these rules, or their severity.",
        )


diagnose.context_settings = {"allow_interspersed_args": False}  # type: ignore[attr-defined]  # what follows SCRIPT is the script's
