"""``lsg inspect-gradients``: what each layer does to the signal and to the gradient."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from lsgcli.cli.common import BatchSize, CacheDir, DataDir, Device, Json, Quiet, Verbose, messages, open_checkpoint
from lsgcli.errors import CheckpointError, ConfigError, GateError

VERDICTS = ("blocked", "silent", "saturated", "vanishing", "exploding")


def inspect_gradients(
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CKPT...", help="Checkpoints that lsg wrote.")],
    batches: Annotated[int, typer.Option(min=1, help="Mini-batches of training data to measure over.")] = 4,
    data_dir: DataDir = None,
    cache_dir: CacheDir = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    fail_on: Annotated[
        str | None, typer.Option(help=f"End with status 9 if a layer has one of these verdicts: {', '.join(VERDICTS)}.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="VERDICT=X", help="Move the threshold of a verdict, such as vanishing=1e-4; repeatable."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure gradient flow, layer by layer, over mini-batches of real data, forward and backward as in training.

    Per layer: decay beta, surrogate width alpha, coverage (share of neurons with u inside the surrogate's interval), mean
    surrogate E[h], firing rate, moments of u, correlation rho of successive currents, gradient norms, and a verdict.
    """
    messages(quiet, verbose)
    gates, limits = _gates(fail_on), _limits(limit or [])
    flows = []
    for path in checkpoints:
        changes = {"data_dir": data_dir, "cache_dir": cache_dir, "batch_size": batch_size, "device": device}
        opened = open_checkpoint(path, changes, ("train", "test"), quiet)
        if opened.stored["folded"]:
            raise CheckpointError(
                f"{path}: is an export whose tdBN is folded away, expected a checkpoint as training wrote it",
                hint="Gradient flow is measured as in training, with batch statistics.",
            )
        from lsgcli.analysis.gradflow import Thresholds
        from lsgcli.run import full_flow

        flow = full_flow(opened.model, opened.bundle, opened.config, opened.compute, batches, Thresholds(**limits))
        flows.append({**flow, "checkpoint": str(path), "method": opened.config.method})
    if as_json:
        print(json.dumps(flows[0] if len(flows) == 1 else flows))
    else:
        from lsgcli.report import terminal

        out = terminal.console(sys.stdout)
        for flow in flows:
            out.print(
                f"{flow['checkpoint']}: method {flow['method']}, T={flow['T']}, loss {flow['loss']:.4f}",
                soft_wrap=True,
                markup=False,
            )
            for part in terminal.gradient_flow_lines(flow, out):
                out.print(part)
    found = [
        f"{f['checkpoint']}: {r['name']} is {r['verdict']} ({r['reason']})"
        for f in flows
        for r in f["layers"]
        if r["verdict"] in gates
    ]
    if found:
        raise GateError("\n".join(found), hint="--fail-on asked for this.")


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
        if name not in VERDICTS:
            problems.append(f"--limit: found {text!r}, expected NAME=NUMBER with one of {', '.join(VERDICTS)}")
    if problems:
        raise ConfigError("\n".join(problems))
    return limits
