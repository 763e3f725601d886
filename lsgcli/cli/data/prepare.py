"""``lsg data prepare``: download a data set, compute its frames, and store them in the cache."""

import time
from contextlib import nullcontext
from typing import Any

from lsgcli.cli.common import Json, Quiet, Verbose, messages
from lsgcli.cli.data.common import Workers
from lsgcli.cli.options import with_settings
from lsgcli.config import DATA, FIELDS
from lsgcli.errors import StorageError
from lsgcli.output import print_json

# Settings that prepared data depend on, and their directories; not those that apply only in training.
NEEDED = {name for name, field in FIELDS.items() if field.metadata["panel"] == DATA} - {"augment", "val_fraction"} | {
    "cache_dir"
}


@with_settings(leave_out=set(FIELDS) - NEEDED)
def prepare(
    settings: dict[str, Any],
    workers: Workers = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Prepare a data set for `lsg train` with the same options, and print the paths of the prepared files.

    Missing data are downloaded if the data set provides a download; interrupted downloads resume. Existing prepared files are
    reused, and incomplete ones are rebuilt.
    """
    messages(quiet, verbose, NEEDED)
    from lsgcli import cpus, registry
    from lsgcli.data import cache
    from lsgcli.data.prepare import prepare as run
    from lsgcli.files import making_folder
    from lsgcli.report import terminal
    from lsgcli.report.records import preparation_parts
    from lsgcli.resolve import resolve

    config = resolve({**settings, "val_fraction": 0.0}, takes=NEEDED)
    config = config.replace(workers=cpus.usable()[0] if workers is None else workers)
    kept = cache.folder(config) / config.dataset if registry.get("dataset", config.dataset).packed else None
    begin = time.monotonic()
    # Create the folder first, so that an unusable one fails before the preparation.
    with making_folder(kept) if kept is not None else nullcontext(), terminal.preparing(quiet) as progress:
        bundle = run(config, progress=progress)
    record = {"dataset": config.dataset, "parts": bundle.record(), "classes": list(bundle.classes), **bundle.info}
    record["seconds"] = round(time.monotonic() - begin, 2)
    if as_json:
        print_json(record)
    else:
        terminal.show(preparation_parts(record))
    if kept is not None and not all(part["path"] for part in record["parts"].values()):
        raise StorageError(
            f"{kept}: prepared data could not be written",
            hint="Give --cache-dir a writable directory with enough free space.",
        )
