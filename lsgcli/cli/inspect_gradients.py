"""``lsg inspect-gradients``: measure signal and gradient of each layer."""

import sys
from pathlib import Path
from typing import Annotated, NamedTuple

from typer import Argument, Option

from lsgcli.analysis.advice import gated
from lsgcli.cli import common
from lsgcli.errors import ConfigError, GateError, redacted
from lsgcli.report.output import check_output, check_plot, csv_text, print_json, print_result
from lsgcli.system import files
from lsgcli.system.schema import Record


class Measuring(NamedTuple):
    """How much is measured, and the comparison with finite differences."""

    batches: Annotated[int, Option(min=1, help="Number of mini-batches of training data.")] = 4
    mismatch: Annotated[
        int,
        Option(min=0, help="Number of weights per layer to compare with finite differences; each takes two forward passes."),
    ] = 0
    mismatch_step: Annotated[
        float | None,
        Option(
            min=1e-9,
            max=1e9,
            help="Step of the finite differences, relative to the root mean square of the layer's weights. Default: 0.1.",
        ),
    ] = None


class Advise(NamedTuple):
    """What is wrong, and what to change."""

    advise: Annotated[
        bool,
        Option("--advise", help="Measure in more detail, and list findings: cause, remedy and the command that tries it."),
    ] = False
    epochs: Annotated[
        int | None,
        Option(
            "--try",
            min=1,
            metavar="N",
            help="Train the unchanged run and the first remedies of --advise for N epochs each, below the run; repeat to continue.",
        ),
    ] = None
    jobs: Annotated[int | None, Option(min=1, help="Number of trainings of --try at a time.")] = None


class Output(NamedTuple):
    """Where gradient flow is shown."""

    as_json: common.Json = False
    as_csv: Annotated[bool, Option("--csv", help="Print the result as CSV, one row per checkpoint and layer.")] = False
    html: common.Html = None
    plot: Annotated[
        Path | None,
        Option(metavar="DIR", help="Also write figures to this folder, as SVG, PNG, and PDF."),
    ] = None
    sample: Annotated[int, Option(min=0, help="Training sample whose spikes and membrane potentials are shown.")] = 0
    force: common.Force = False


def inspect_gradients(
    *,
    checkpoints: Annotated[
        list[str],
        Argument(
            metavar="CKPT",
            help="Checkpoints written by lsg, or run directories: paths or hf:USER/NAME[@REVISION]",
        ),
    ],
    measuring: Measuring,
    advice: Advise,
    data: common.Data,
    compute: common.Compute,
    gate: common.Gate,
    output: Output,
    verbosity: common.Verbosity,
) -> None:
    """Measure gradient flow per layer on mini-batches of training data, with the loss and batch statistics of training.

    Per layer and timestep: decay beta, surrogate width alpha, coverage (share of potentials inside the surrogate),
    mean surrogate E[h], firing rate, moments of u and their prediction, correlation rho of successive currents, gradient norms,
    gain (factor on the mean square of the gradient) and its prediction, fraction of the gradient that flows through time, gradient
    signal-to-noise ratio, and a verdict. Several checkpoints have a table each, and stand side by side on the page of --html.
    Downloads no data.
    """
    common.messages(verbosity, common.AROUND)
    if output.as_json:
        common.exclude("--json", {"--csv": output.as_csv})
    if not measuring.mismatch:
        common.require("--mismatch N", {"--mismatch-step": measuring.mismatch_step})
    if not advice.advise:
        common.require("--advise", {"--try": advice.epochs})
    if advice.epochs is None:
        common.require("--try", {"--jobs": advice.jobs})
    elif len(checkpoints) > 1:
        raise ConfigError(f"--try: found {len(checkpoints)} checkpoints, expected one")
    from lsgcli.store import hub

    paths = [hub.local(checkpoint) for checkpoint in checkpoints]
    if output.html:
        check_output(output.html, "--html", suffixes=(".html",), inputs=paths, force=output.force)
    if output.plot:
        check_plot(output.plot, folder=True, inputs=paths, force=output.force)
    gates, limits = gate.parsed()
    from rich.text import Text

    from lsgcli.analysis import Sample, measures
    from lsgcli.report import drawing, figures, findings, page, tables, terminal
    from lsgcli.runs.flow import measured
    from lsgcli.runs.open import open_checkpoint
    from lsgcli.store.flows import history

    sample = Sample(measuring.mismatch, measuring.mismatch_step or 0.1) if measuring.mismatch else None
    changes = {**data.changes(), **compute._asdict()}
    flows = []
    for checkpoint, path in zip(checkpoints, paths, strict=True):
        with terminal.preparing(verbosity.quiet) as progress:
            opened = open_checkpoint(path, changes, buffers_finite=False, environment=common.around(), progress=progress)
        flow = measured(opened, path, measuring.batches, limits, shown=output.sample, sample=sample, detailed=advice.advise)
        flow |= {"checkpoint": redacted(checkpoint), "method": opened.config.method, "history": history(path), "tried": None}
        flows.append(flow)
    if advice.epochs is not None:
        flows[0]["tried"] = _tried(paths[0], flows[0]["findings"], advice.epochs, advice.jobs, verbosity.quiet)
    if output.as_json:
        print_json(flows[0] if len(flows) == 1 else flows)
    elif output.as_csv:
        print_result(csv_text(measures.rows(flows)).rstrip("\n"))
    else:
        terminal.show(findings.flow_lines(flows, terminal.console(sys.stdout)))
        for flow in flows if advice.advise else ():
            terminal.show(
                [
                    Text(""),
                    *([Text(f"{flow['checkpoint']}:")] if len(flows) > 1 else []),
                    *findings.lines(flow["findings"]),
                ]
            )
            terminal.show([Text(""), findings.tried(flow["tried"])] if flow["tried"] else [])
    if output.html:
        files.write_text(output.html, page.flow_page(flows))
    if output.plot:
        drawing.save(figures.sheets(flows), output.plot)
    if not advice.advise:
        common.say_next("lsg", "inspect-gradients", *checkpoints, "--advise")
    failed = [
        f"{flow['checkpoint']}: {found['rule']}{tables.listing(found['layers'])}. {found['cause']}"
        for flow in flows
        for found in gated(flow["findings"], gates)
    ]
    if failed:
        raise GateError("\n".join(failed), "--fail-on names these rules, or their severity.")


def _tried(checkpoint: Path, found: list[Record], epochs: int, jobs: int | None, quiet: bool) -> list[Record]:
    """Train the remedies of findings on a run, and return their table."""
    from lsgcli.cli.launcher import LauncherOptions
    from lsgcli.store.rundir import is_run
    from lsgcli.sweeps import remedies
    from lsgcli.sweeps.cells import check_data

    run = checkpoint.parent
    if not is_run(run):
        raise ConfigError(f"--try: found {checkpoint} outside a run directory, expected the checkpoint of a run")
    trials = remedies.trials(run, found, epochs)
    where = LauncherOptions(launcher=None if jobs is None else "local", jobs=jobs)
    check_data(trials.cells)  # runs of an earlier command
    where.run(trials, quiet)
    return remedies.table(trials)
