"""``lsg eval``: evaluate a checkpoint on test data."""

import functools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsgcli.cli import completion
from lsgcli.cli.common import (
    AROUND,
    BatchSize,
    CacheDir,
    CheckpointPath,
    DataDir,
    Device,
    Json,
    Opened,
    Precision,
    Quiet,
    Verbose,
    messages,
    on_cpu,
    open_checkpoint,
    open_data,
)
from lsgcli.errors import ConfigError
from lsgcli.output import print_json

if TYPE_CHECKING:
    from lsgcli.data.bundle import DataBundle
    from lsgcli.export.runners import Runner
    from lsgcli.training.evaluate import Evaluation


def evaluate(
    checkpoint: CheckpointPath,
    dataset: Annotated[
        str | None,
        typer.Option(help="Another data set with the same classes and shape.", autocompletion=completion.names_of("dataset")),
    ] = None,
    T: Annotated[
        int | None, typer.Option("-T", "--timesteps", min=1, max=1024, help="Timesteps. Default: as in training.")
    ] = None,
    data_dir: DataDir = None,
    cache_dir: CacheDir = None,
    batch_size: BatchSize = None,
    device: Device = "auto",
    precision: Precision = None,
    synops: Annotated[bool, typer.Option("--synops", help="Also count synaptic operations and estimate their energy.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Evaluate a checkpoint: accuracy, accuracy per class, confusion matrix, loss, firing rate per layer, throughput.

    Data set and preparation are taken from the checkpoint; only the test part of the data is required. Outputs of `lsg export`
    are evaluated with the runtime of their format, on the CPU in float32.
    """
    messages(quiet, verbose, AROUND)
    from lsgcli.export import open_exported

    changes = {"dataset": dataset, "T": T, "data_dir": data_dir, "cache_dir": cache_dir, "batch_size": batch_size}
    changes |= {"device": device, "precision": precision}
    runner = open_exported(checkpoint)
    if runner is None:
        opened = open_checkpoint(checkpoint, changes, ("test",), quiet)
        config, bundle = opened.config, opened.bundle
        run = functools.partial(_trained, opened, synops=synops)
    else:
        on_cpu(device, precision)
        if synops:
            raise ConfigError(
                "--synops: found an exported file, expected a checkpoint",
                hint="Synaptic operations are counted inside lsg's own networks.",
            )
        if T not in (None, runner.T):
            raise ConfigError(
                f"-T: found {T}, expected {runner.T}, the timesteps of {checkpoint}",
                hint="Export the checkpoint again with this -T.",
            )
        config, bundle, _ = open_data(runner.config, {**changes, "device": "cpu"}, ("test",), quiet)
        run = functools.partial(_exported, runner, bundle)
    from lsgcli.report import terminal

    with terminal.progress_bar() as bar:
        task = bar.add_task("evaluating", total=None, note="", visible=not quiet)
        result = run(
            batch_size=config.batch_size,
            workers=config.workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    record = result.record(bundle.classes)
    if as_json:
        print_json(record)
        return
    parts = terminal.evaluation_tables(record)
    if synops:
        from lsgcli.report.energy import synops_table

        parts += synops_table(record["synops"])
    terminal.show(parts)


def _trained(opened: Opened, **options: Any) -> "Evaluation":
    from lsgcli.training.evaluate import evaluate as run

    return run(opened.model, opened.bundle.test, opened.bundle, opened.compute, firing_rate=True, **options)


def _exported(runner: "Runner", bundle: "DataBundle", **options: Any) -> "Evaluation":
    from lsgcli.export.runners import evaluate as run

    return run(runner, bundle.test, bundle, **options)
