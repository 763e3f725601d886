"""An export from the checkpoint to the file: written, verified and concluded, or not there at all."""

from pathlib import Path

from lsgcli import registry
from lsgcli.config.fields import Values
from lsgcli.data.batches import batches
from lsgcli.data.bundle import spread
from lsgcli.data.parallel import NamedProgress
from lsgcli.export import source
from lsgcli.export import verify as verifying
from lsgcli.export.base import ExportOptions
from lsgcli.runs.open import open_data
from lsgcli.system import files
from lsgcli.system.schema import Record


def export(
    path: Path,
    output: Path,
    name: str,
    options: ExportOptions,
    *,
    T: int | None = None,
    verify: int | None = None,
    changes: Values | None = None,
    environment: Values | None = None,
    progress: NamedProgress | None = None,
) -> Record:
    """Export a checkpoint; nothing is written if the verification fails.

    Args:
        path: of the checkpoint.
        output: the file, or a folder.
        name: of the format.
        options: of the format.
        T: timesteps; default: as in training.
        verify: number of test samples on which the export is compared with the network.
        changes, environment, progress: of the data for it, as for :func:`lsgcli.runs.open.open_data`.

    Returns:
        JSON types: ``format``, ``path``, and what :func:`lsgcli.export.verify.verify` found.

    Raises:
        LsgError: the checkpoint, an option or the data are invalid, or the export differs from the network.
    """
    exporter = registry.get("format", name)()
    trained, written, content = source.read(path, name, options, T)
    record: Record = {"format": name, "path": str(output), **verifying.NOTHING}
    with files.replacing(output, folder=exporter.folder) as temporary:
        exporter.write(written, content, temporary, options)
        if verify:
            given = {**(changes or {}), "device": "cpu"}
            _, bundle, _ = open_data(path, content.config, given, ("test",), environment=environment, progress=progress)
            samples = batches(bundle, spread(bundle.parts["test"], verify), 32)
            record |= verifying.verify(trained, written, exporter.open(temporary), samples, str(output))
        exporter.conclude(temporary, content, record)
    return record
