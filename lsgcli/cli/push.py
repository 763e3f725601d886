"""``lsg push``: upload a trained network to the Hugging Face Hub."""

import tempfile
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from lsgcli.cli import common
from lsgcli.report.output import print_result


def push(
    *,
    checkpoint: common.CheckpointPath,
    repository: Annotated[str, Argument(metavar="USER/NAME", help="Repository, which is created if it does not exist.")],
    private: Annotated[bool, Option("--private", help="Create a private repository.")] = False,
    verbosity: common.Verbosity,
) -> None:
    """Upload a network to the Hugging Face Hub, and print the address of its repository.

    Uploads weights, configuration and model card as `lsg export --format hf --no-fold-bn` writes them, so that every command accepts
    hf:USER/NAME as CKPT. A folder that `lsg export --format hf` wrote is uploaded as it is; `hf upload` uploads to a branch.
    Needs lsgcli[hub], and a token of the Hub (`hf auth login`, or HF_TOKEN).
    """
    common.messages(verbosity)
    from lsgcli import errors
    from lsgcli.export.base import ExportOptions
    from lsgcli.export.source import read
    from lsgcli.export.verify import NOTHING
    from lsgcli.export.weights import HF
    from lsgcli.store import hub
    from lsgcli.store.checkpoint import read_config

    errors.require(("huggingface_hub",), "lsg push", "hub")
    hub.check_repository(repository)
    path = hub.local(checkpoint)
    with tempfile.TemporaryDirectory() as temporary:
        folder = path
        if HF.recognises(path):
            HF().open(path)
        else:
            folder, options = Path(temporary), ExportOptions(fold_bn=bool(read_config(path)["folded"]))
            _, written, content = read(path, "hf", options)
            HF().write(written, content, folder, options)
            HF().conclude(folder, content, NOTHING)
        print_result(hub.push(folder, repository, private=private))
