"""``lsg eval``: what a checkpoint says about test data."""

import json
import sys
from typing import Annotated

import typer

from lsgcli.cli.common import (
    BatchSize,
    CacheDir,
    CheckpointPath,
    DataDir,
    Device,
    Json,
    Precision,
    Quiet,
    Verbose,
    messages,
    open_checkpoint,
)


def evaluate(
    checkpoint: CheckpointPath,
    dataset: Annotated[str | None, typer.Option(help="Another data set, of the same classes and shape.")] = None,
    data_dir: DataDir = None,
    cache_dir: CacheDir = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    precision: Precision = None,
    synops: Annotated[
        bool, typer.Option("--synops", help="Also count synaptic operations, and estimate the energy of their arithmetic.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Evaluate a checkpoint: accuracy, per class, confusion, loss, firing rate per layer, throughput.

    Data set and preparation come from the checkpoint; --data-dir may point elsewhere, and only a test part need be there.
    """
    messages(quiet, verbose)
    changes = {"dataset": dataset, "data_dir": data_dir, "cache_dir": cache_dir, "batch_size": batch_size}
    changes |= {"device": device, "precision": precision}
    opened = open_checkpoint(checkpoint, changes, ("test",), quiet)
    from lsgcli.report import terminal
    from lsgcli.training.evaluate import evaluate as run

    with terminal.progress_bar() as bar:
        task = bar.add_task("evaluating", total=None, note="", visible=not quiet)
        result = run(
            opened.model,
            opened.bundle.test,
            opened.bundle,
            opened.compute,
            batch_size=opened.config.batch_size,
            workers=opened.config.workers,
            firing_rate=True,
            synops=synops,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    record = result.record(opened.bundle.classes)
    if as_json:
        print(json.dumps(record))
        return
    out = terminal.console(sys.stdout)
    parts = terminal.evaluation_tables(record)
    if synops:
        from lsgcli.report.energy import synops_table

        parts += synops_table(record["synops"])
    for part in parts:
        out.print(part)
