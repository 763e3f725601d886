"""``lsg eval``: evaluate a checkpoint on test data."""

import functools
from typing import Annotated

import typer

from lsgcli.cli import common
from lsgcli.errors import ConfigError
from lsgcli.report.output import print_json


def evaluate(
    *,
    checkpoint: common.CheckpointPath,
    data: common.Data,
    folders: common.Folders,
    compute: common.Compute,
    synops: Annotated[bool, typer.Option("--synops", help="Also count synaptic operations and estimate their energy.")] = False,
    as_json: common.Json = False,
    verbosity: common.Verbosity,
) -> None:
    """Evaluate a checkpoint: accuracy, accuracy per class, confusion matrix, loss, firing rate per layer, throughput.

    Data set and preparation are taken from the checkpoint; only the test part of the data is required. Outputs of `lsg export`
    other than `.safetensors` and `.pt2` are evaluated with the runtime of their format, on the CPU in float32.
    """
    common.messages(verbosity, common.AROUND)
    from lsgcli.export.base import open_exported
    from lsgcli.report import terminal
    from lsgcli.runs.open import open_checkpoint, open_data
    from lsgcli.store import hub

    changes = {**data._asdict(), **folders._asdict(), **compute._asdict()}
    path = hub.local(checkpoint)
    runner = open_exported(path)
    if runner is None:
        from lsgcli.analysis import running
        from lsgcli.training.evaluate import evaluate as of_model

        with terminal.preparing(verbosity.quiet) as progress:
            opened = open_checkpoint(path, changes, ("test",), environment=common.around(), progress=progress)
        config, bundle = opened.config, opened.bundle
        also = ("firing_rate", *(("synops",) if synops else ()))
        run = functools.partial(of_model, opened.model, compute=opened.compute, also=also)
    else:
        from lsgcli.export.runners import evaluate as of_export

        compute.check_on_cpu()
        if synops:
            raise ConfigError(
                "--synops: found an exported file, expected a checkpoint",
                hint="Synaptic operations are counted inside lsg's own networks.",
            )
        if data.T not in (None, runner.T):
            raise ConfigError(
                f"-T: found {data.T}, expected {runner.T}, the timesteps of {checkpoint}",
                hint="Export the checkpoint again with this -T.",
            )
        changes["device"] = "cpu"
        with terminal.preparing(verbosity.quiet) as progress:
            config, bundle, _ = open_data(
                path, runner.config, changes, ("test",), environment=common.around(), progress=progress
            )
        run = functools.partial(of_export, runner)
    from lsgcli.report import records

    with terminal.progress_bar() as bar:
        task = bar.add_task("evaluating", total=None, note="", visible=not verbosity.quiet)
        result = run(
            split=bundle.parts["test"],
            bundle=bundle,
            batch_size=config.batch_size,
            workers=config.workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if runner is None:
        running.check(opened.model, bundle, opened.compute, config.batch_size, result.accuracy)
    record = result.record(bundle.classes)
    if as_json:
        print_json(record)
        return
    terminal.show([*records.evaluation_tables(record), *(records.synops_parts(record["synops"]) if synops else ())])
