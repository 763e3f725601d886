"""``lsg export``: take a trained network elsewhere."""

import json
from pathlib import Path
from typing import Annotated

import typer

from lsgcli import registry
from lsgcli.cli.common import CacheDir, CheckpointPath, DataDir, Json, Quiet, Verbose, messages, open_checkpoint
from lsgcli.errors import ConfigError, StorageError


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

    With --verify, the folded network is compared with the trained one in double precision, and what the file holds with the
    folded one, spike for spike; a difference ends with status 9 and leaves no file.
    """
    messages(quiet, verbose)
    exporter = registry.get("format", form)()
    if output.resolve() == checkpoint.resolve():
        raise ConfigError(f"-o {output}: is the checkpoint itself, expected another path")
    if not output.absolute().parent.is_dir():
        raise StorageError(f"-o {output}: no such folder: {output.parent}", hint="Create it first.")
    from lsgcli import checkpoint as checkpoints
    from lsgcli import files
    from lsgcli.data.batches import batches
    from lsgcli.data.bundle import head
    from lsgcli.export import verify as verifying
    from lsgcli.models.fold import fold

    content = checkpoints.read(checkpoint)
    trained = checkpoints.load(checkpoint)[0]
    written = fold(trained) if fold_bn else trained
    record = {"format": form, "path": str(output), "samples": 0, "spikes_compared": 0, "spikes_different": 0}
    record |= {"max_logit_error": 0.0, "predictions_different": 0}
    with files.replacing(output) as temporary:
        exporter.write(written, content, temporary)
        if verify:
            changes = {"data_dir": data_dir, "cache_dir": cache_dir, "device": "cpu"}
            opened = open_checkpoint(checkpoint, changes, ("test",), quiet)
            samples = batches(opened.bundle, head(opened.bundle.test, verify), 32)
            record |= verifying.verify(trained, written, exporter.open(temporary), samples, str(output))
    print(json.dumps(record) if as_json else output)
