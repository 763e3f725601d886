"""``lsg data prepare``: fetch where that is allowed, make frames, keep them."""

import json
import sys
import time
from typing import Any

from lsgcli.cli.common import Json, Quiet, Verbose, messages
from lsgcli.cli.data.common import Workers
from lsgcli.cli.options import with_settings
from lsgcli.config import DATA, FIELDS

# What prepared data depend on, and where they are read from and kept. What is only applied to them in training is not here.
NEEDED = {name for name, field in FIELDS.items() if field.metadata["panel"] == DATA} - {"augment", "val_fraction"}


@with_settings(leave_out=set(FIELDS) - NEEDED - {"cache_dir"})
def prepare(
    settings: dict[str, Any],
    workers: Workers = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Prepare a data set as `lsg train` with the same options reads it, and print where the prepared files are.

    Data that are absent are downloaded where the data set can be. A download that stopped goes on where it was. What is prepared
    already is not prepared again, and what was not finished does not count.
    """
    messages(quiet, verbose)
    from lsgcli.data.parallel import cores
    from lsgcli.data.prepare import prepare as run
    from lsgcli.report import terminal
    from lsgcli.resolve import resolve

    config = resolve(settings).replace(workers=cores() if workers is None else workers, val_fraction=0.0)
    begin = time.monotonic()
    with terminal.preparing(quiet) as progress:
        bundle = run(config, progress=progress)
    record = {"dataset": config.dataset, "parts": bundle.record(), "classes": list(bundle.classes), **bundle.info}
    record["seconds"] = round(time.monotonic() - begin, 2)
    if as_json:
        print(json.dumps(record))
        return
    terminal.console(sys.stdout).print(terminal.preparation_table(record))
