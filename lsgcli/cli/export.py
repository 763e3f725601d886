"""``lsg export``: take a trained network elsewhere."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lsgcli import registry
from lsgcli.cli.common import CacheDir, CheckpointPath, DataDir, Json, Quiet, Verbose, messages, open_checkpoint
from lsgcli.errors import ConfigError


def export(
    checkpoint: CheckpointPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    form: Annotated[str, typer.Option("--format", help=f"One of: {', '.join(registry.names('format'))}.")] = "safetensors",
    fold_bn: Annotated[bool, typer.Option(help="Fold tdBN into the convolutions before it.")] = True,
    verify: Annotated[int, typer.Option(min=0, help="Compare the file with the network on this many test samples.")] = 0,
    data_dir: DataDir = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Export a network, with tdBN folded into the convolutions, and print the path.

    With --verify, the written file is read back and run beside the network; a difference beyond rounding ends with status 9 and
    leaves no file.
    """
    messages(quiet, verbose)
    exporter = registry.get("format", form)()
    if output.resolve() == checkpoint.resolve():
        raise ConfigError(f"-o {output}: is the checkpoint itself, expected another path")
    from lsgcli import checkpoint as checkpoints
    from lsgcli import files
    from lsgcli.export import verify as verifying
    from lsgcli.models.fold import fold

    model = checkpoints.load(checkpoint)[0]
    if fold_bn:
        model = fold(model)
    result = {"format": form, "path": str(output), "samples": 0, "spikes_compared": 0, "spikes_different": 0}
    result |= {"max_logit_error": 0.0, "predictions_different": 0}
    with files.replacing(output) as temporary:
        exporter.write(model, checkpoints.read(checkpoint), temporary)
        if verify:
            opened = open_checkpoint(
                checkpoint, {"data_dir": data_dir, "cache_dir": cache_dir, "device": "cpu"}, ("test",), quiet
            )
            import numpy as np

            from lsgcli.data.batches import Batches

            bundle = opened.bundle
            batches = Batches(
                bundle.test.part(np.arange(min(verify, len(bundle.test)))),
                32,
                mean=bundle.mean,
                std=bundle.std,
                static=bundle.static,
            )
            result |= verifying.compare(model, exporter.open(temporary), batches)
            verifying.check(result, str(output))
    print(json.dumps(result) if as_json else output)
