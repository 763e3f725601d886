"""``lsg data show``: a contact sheet of frames."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lsgcli import files
from lsgcli.cli.common import Force, Json, Quiet, Verbose, messages
from lsgcli.cli.data.common import WHERE, one_of, open_dataset
from lsgcli.cli.options import with_settings
from lsgcli.config import DATA, FIELDS
from lsgcli.output import print_json, print_result

# Settings that a contact sheet depends on: data and preparation.
SHOWN = {name for name, field in FIELDS.items() if field.metadata["panel"] == DATA} - {"augment", "val_fraction", "skip_bad"}


@with_settings(leave_out=set(FIELDS) - SHOWN)
def show(
    settings: dict[str, Any],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="Recordings, or folders of recordings.", show_default=False),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="PNG file to write.")] = ...,  # type: ignore[assignment]
    force: Force = False,
    samples: Annotated[
        int, typer.Option(min=1, help="Number of samples of a data set or folder, evenly over its classes.")
    ] = 8,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Draw the frames of a few samples, one row each, to check orientation and slicing, and print the path of the file.

    ON events are orange, OFF events blue. Samples are prepared as for training, without augmentation.
    """
    messages(quiet, verbose, SHOWN)
    # --sensor also applies to recordings.
    one_of(paths[0] if paths else None, {name: settings[name] for name in settings if name in WHERE - {"sensor"}})
    from lsgcli.report import sheet

    files.check_output(output, "-o", suffixes=(".png",), inputs=paths or (), force=force)
    if paths:
        from lsgcli.resolve import resolve

        config = resolve({**settings, "dataset": "event-folder", "val_fraction": 0.0}, takes=SHOWN)
        rows, name = sheet.of_paths(paths, config, samples), ", ".join(map(str, paths))
    else:
        dataset = open_dataset(settings, SHOWN)
        config = dataset.config
        rows, name = sheet.of_dataset(dataset, samples), config.dataset
    static = not paths and dataset.static
    sheet.write(output, sheet.draw(name, sheet.preparation(config, static), rows, events=not static))
    print_json({"path": str(output), "samples": len(rows)}) if as_json else print_result(output)
