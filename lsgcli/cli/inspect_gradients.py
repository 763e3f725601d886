"""``lsg inspect-gradients``: measure signal and gradient of each layer."""

import math
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from lsgcli.analysis.verdicts import VERDICTS, parse_limits, parse_verdicts
from lsgcli.cli import common, completion
from lsgcli.errors import ConfigError, GateError
from lsgcli.report.output import check_output, print_json, print_result
from lsgcli.system import files


class Mismatch(NamedTuple):
    """The comparison with finite differences."""

    mismatch: Annotated[
        int,
        typer.Option(
            min=0, help="Number of weights per layer to compare with finite differences; each takes two forward passes."
        ),
    ] = 0
    mismatch_step: Annotated[
        float | None,
        typer.Option(
            help="Step of the finite differences, relative to the root mean square of the layer's weights. Default: 0.1."
        ),
    ] = None


class Compute(NamedTuple):
    """How the network of a checkpoint is computed; without int8, which has no gradients."""

    batch_size: common.BatchSize = None
    device: common.Device = "auto"
    precision: Annotated[
        str | None,
        typer.Option(
            help="Precision: auto, fp32, bf16 or fp16. Default: as in training.",
            autocompletion=completion.of(("auto", "fp32", "bf16", "fp16")),
        ),
    ] = None


class Gate(NamedTuple):
    """The verdicts, and those that fail the command."""

    fail_on: Annotated[
        str | None,
        typer.Option(
            help=f"Exit with status 9 if a layer has one of the given verdicts (comma-separated): {', '.join(VERDICTS)}."
        ),
    ] = None
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="VERDICT=X", help="Threshold of a verdict, such as vanishing=1e-4; repeatable."),
    ] = None


class Output(NamedTuple):
    """Where gradient flow is shown."""

    as_json: common.Json = False
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the result as CSV, one row per checkpoint and layer.")] = False
    html: common.Html = None
    plot: Annotated[
        list[Path] | None,
        typer.Option(help="Can be repeated. Also write figures to this folder, as SVG, PNG, and PDF (with lsgcli[pdf])."),
    ] = None
    sample: Annotated[int, typer.Option(min=0, help="Training sample whose spikes and membrane potentials are shown.")] = 0
    force: common.Force = False


def inspect_gradients(
    *,
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="CKPT...",
            help="Checkpoints written by lsg: paths, hf:USER/NAME[@REVISION], or https://...",
            autocompletion=completion.checkpoints,
        ),
    ],
    batches: Annotated[int, typer.Option(min=1, help="Number of mini-batches of training data.")] = 4,
    mismatch: Mismatch,
    folders: common.Folders,
    compute: Compute,
    gate: Gate,
    output: Output,
    verbosity: common.Verbosity,
) -> None:
    """Measure gradient flow per layer on mini-batches of training data, with the loss and batch statistics of training.

    Per layer and timestep: decay beta, surrogate width alpha, coverage (fraction of neurons with u inside the surrogate's interval),
    mean surrogate E[h], firing rate, moments of u and their prediction, correlation rho of successive currents, gradient norms,
    gain (factor on the mean square of the gradient) and its prediction, fraction of the gradient that flows through time, gradient
    signal-to-noise ratio, and a verdict. Several checkpoints are shown side by side.
    """
    common.messages(verbosity, common.AROUND)
    if output.as_json and output.as_csv:
        raise ConfigError("found both --json and --csv, expected one of them")
    step = mismatch.mismatch_step
    if step is not None and not (mismatch.mismatch and 0 < step < math.inf):
        expected = "a number above 0" if mismatch.mismatch else "--mismatch N, because it has no effect otherwise"
        raise ConfigError(f"--mismatch-step: found {step:g}, expected {expected}")
    from lsgcli.store import hub

    paths = [hub.local(checkpoint) for checkpoint in checkpoints]
    if not (output.html or output.plot):
        common.require("--html", {"--force": output.force})
    for target in output.html or ():
        check_output(target, "--html", suffixes=(".html",), inputs=paths, force=output.force)
    for target in output.plot or ():
        from lsgcli.report.drawing import SUFFIXES

        check_output(target, "--plot", suffixes=SUFFIXES, folder=True, inputs=paths, force=output.force)
    gates = parse_verdicts(gate.fail_on) if gate.fail_on is not None else set()
    thresholds = parse_limits(gate.limit or [])
    from lsgcli.analysis import Sample, measures
    from lsgcli.report import drawing, figures, flow_terminal, page, terminal
    from lsgcli.runs.open import open_checkpoint
    from lsgcli.runs.run import full_flow
    from lsgcli.store.checkpoint import check_unfolded
    from lsgcli.store.flows import history

    sample = Sample(mismatch.mismatch, step or 0.1) if mismatch.mismatch else None
    changes = {**folders._asdict(), **compute._asdict()}
    flows: list[dict[str, Any]] = []
    for checkpoint, path in zip(checkpoints, paths, strict=True):
        with terminal.preparing(verbosity.quiet) as progress:
            opened = open_checkpoint(path, changes, environment=common.around(), progress=progress)
        check_unfolded(path, opened.stored, "Gradient flow is measured as in training, with batch statistics.")
        flow = full_flow(opened.model, opened.bundle, opened.config, opened.compute, batches, thresholds, sample, output.sample)
        names = {"checkpoint": checkpoint, "method": opened.config.method}
        flows.append({**flow, **names, "history": history(path)})
    if output.as_json:
        print_json(flows[0] if len(flows) == 1 else flows)
    elif output.as_csv:
        print_result(measures.csv_text(flows).rstrip("\n"))
    else:
        terminal.show(flow_terminal.lines(flows, terminal.console(sys.stdout)))
    for target in output.html or ():
        files.write_text(target, page.flow_page(flows))
    for target in output.plot or ():
        drawing.save(figures.sheets(flows), target)
    failed = [
        f"{flow['checkpoint']}: {layer['name']} is {layer['verdict']} ({layer['reason']})"
        for flow in flows
        for layer in flow["layers"]
        if layer["verdict"] in gates
    ]
    if failed:
        raise GateError("\n".join(failed), hint="These verdicts are listed in --fail-on.")
