"""``lsg inspect-gradients``: measure signal and gradient of each layer."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsgcli import files
from lsgcli.cli import completion
from lsgcli.cli.common import (
    AROUND,
    BatchSize,
    CacheDir,
    DataDir,
    Device,
    Force,
    Json,
    Precision,
    Quiet,
    Verbose,
    messages,
    open_checkpoint,
)
from lsgcli.errors import ConfigError, GateError
from lsgcli.output import print_json, print_result
from lsgcli.verdicts import VERDICTS, Thresholds

if TYPE_CHECKING:
    from lsgcli.analysis import Sample


def inspect_gradients(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(metavar="CKPT...", help="Checkpoints written by lsg.", autocompletion=completion.checkpoints),
    ],
    batches: Annotated[int, typer.Option(min=1, help="Number of mini-batches of training data.")] = 4,
    mismatch: Annotated[
        int,
        typer.Option(
            min=0, help="Number of weights per layer to compare with finite differences; each takes two forward passes."
        ),
    ] = 0,
    mismatch_step: Annotated[
        float | None,
        typer.Option(
            help="Step of the finite differences, relative to the root mean square of the layer's weights. Default: 0.1."
        ),
    ] = None,
    data_dir: DataDir = None,
    cache_dir: CacheDir = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    precision: Precision = None,
    fail_on: Annotated[
        str | None,
        typer.Option(
            help=f"Exit with status 9 if a layer has one of the given verdicts (comma-separated): {', '.join(VERDICTS)}."
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="VERDICT=X", help="Threshold of a verdict, such as vanishing=1e-4; repeatable."),
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the result as CSV, one row per checkpoint and layer.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a self-contained HTML page.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also write figures to this folder, as SVG, PNG, and PDF (with lsgcli[pdf]).")
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure gradient flow per layer on mini-batches of training data, with forward and backward passes as in training.

    Per layer and timestep: decay beta, surrogate width alpha, coverage (fraction of neurons with u inside the surrogate's interval),
    mean surrogate E[h], firing rate, moments of u and their prediction, correlation rho of successive currents, gradient norms,
    fraction of the gradient that flows through time, gradient signal-to-noise ratio, and a verdict. Several checkpoints are shown
    side by side.
    """
    messages(quiet, verbose, AROUND)
    if as_json and as_csv:
        raise ConfigError("found both --json and --csv, expected one of them")
    if mismatch_step is not None and not (mismatch and 0 < mismatch_step < math.inf):
        expected = "a number above 0" if mismatch else "--mismatch N, because it has no effect otherwise"
        raise ConfigError(f"--mismatch-step: found {mismatch_step:g}, expected {expected}")
    if html is not None:
        files.check_output(html, "--html", suffixes=(".html",), inputs=checkpoints, force=force)
    if plot is not None:
        from lsgcli.report.drawing import SUFFIXES

        files.check_output(plot, "--plot", suffixes=SUFFIXES, folder=True, inputs=checkpoints, force=force)
    gates, limits = _gates(fail_on), _limits(limit or [])
    from lsgcli.analysis import Sample

    sample = Sample(mismatch, mismatch_step or 0.1) if mismatch else None
    changes = {"data_dir": data_dir, "cache_dir": cache_dir, "batch_size": batch_size}
    changes |= {"device": device, "precision": precision}
    flows = [_flow(path, changes, batches, Thresholds(**limits), sample, quiet) for path in checkpoints]
    _print(flows, as_json, as_csv)
    if html is not None:
        from lsgcli.report.flow_page import page

        files.write_text(html, page(flows))
    if plot is not None:
        from lsgcli.report import flow_plots

        flow_plots.write(flows, plot)
    found = [
        f"{f['checkpoint']}: {r['name']} is {r['verdict']} ({r['reason']})"
        for f in flows
        for r in f["layers"]
        if r["verdict"] in gates
    ]
    if found:
        raise GateError("\n".join(found), hint="These verdicts are listed in --fail-on.")


def _flow(
    path: Path, changes: dict[str, Any], batches: int, thresholds: Thresholds, sample: "Sample | None", quiet: bool
) -> dict[str, Any]:
    """The record of one checkpoint."""
    opened = open_checkpoint(path, changes, ("train", "test"), quiet)
    from lsgcli.analysis.measures import history
    from lsgcli.checkpoint import check_unfolded
    from lsgcli.run import full_flow

    check_unfolded(path, opened.stored, "Gradient flow is measured as in training, with batch statistics.")
    flow = full_flow(opened.model, opened.bundle, opened.config, opened.compute, batches, thresholds, sample)
    return {**flow, "checkpoint": str(path), "method": opened.config.method, "history": files.finite(history(path))}


def _print(flows: list[dict[str, Any]], as_json: bool, as_csv: bool) -> None:
    """The result on stdout."""
    if as_json:
        print_json(flows[0] if len(flows) == 1 else flows)
        return
    if as_csv:
        from lsgcli.analysis.measures import csv_text

        print_result(csv_text(flows).rstrip("\n"))
        return
    from lsgcli.report import flow_terminal, terminal

    terminal.show(flow_terminal.lines(flows, terminal.console(sys.stdout)))


def _gates(text: str | None) -> set[str]:
    gates = set() if text is None else {part.strip() for part in text.split(",")}
    if unknown := sorted(gates - set(VERDICTS)):
        raise ConfigError(
            f"--fail-on: found {', '.join(map(repr, unknown))}, expected a comma-separated list of {', '.join(VERDICTS)}"
        )
    return gates


def _limits(texts: list[str]) -> dict[str, float]:
    limits, problems = {}, []
    for text in texts:
        name, _, number = text.partition("=")
        try:
            limits[name] = float(number)
        except ValueError:
            name = ""
        if name not in VERDICTS or not math.isfinite(limits[name]):
            problems.append(f"--limit: found {text!r}, expected NAME=NUMBER with one of {', '.join(VERDICTS)}")
    if problems:
        raise ConfigError("\n".join(problems))
    return limits
