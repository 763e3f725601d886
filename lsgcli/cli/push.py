"""``lsg push``: upload a trained network to the Hugging Face Hub."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lsgcli.cli import common
from lsgcli.report.output import print_result
from lsgcli.store import rundir

if TYPE_CHECKING:
    from lsgcli.export.hf import HF

FLOW_PAGE = "gradient-flow.html"


def push(
    *,
    checkpoint: common.CheckpointPath,
    repository: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository, which is created if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Create a private repository.")] = False,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Branch, which is created if it does not exist. Default: main.")
    ] = None,
    message: Annotated[str | None, typer.Option("-m", "--message", help="Message of the commit.")] = None,
    verbosity: common.Verbosity,
) -> None:
    """Upload a network to the Hugging Face Hub, and print the address of its repository.

    Uploads weights, configuration and model card as `lsg export --format hf --no-fold-bn` writes them, so that every command accepts
    hf:USER/NAME as CKPT, and the gradient-flow page of the run. A folder that `lsg export --format hf` wrote is uploaded as it is.
    Needs lsgcli[hub], and a token of the Hub (`hf auth login`, or HF_TOKEN).
    """
    common.messages(verbosity)
    from lsgcli import errors
    from lsgcli.store import hub
    from lsgcli.system.version import __version__

    errors.require(("huggingface_hub",), "lsg push", "hub")
    hub.check_repository(repository)
    path = hub.local(checkpoint)
    from lsgcli.export.hf import HF

    message = message or f"Upload by lsg {__version__}"
    with tempfile.TemporaryDirectory() as temporary:
        if HF.recognises(path):
            HF().open(path)
            folder = path
        else:
            folder = Path(temporary)
            _export(HF(), path, folder, repository)
        print_result(hub.push(folder, repository, private=private, revision=revision, message=message))


def _export(exporter: "HF", path: Path, folder: Path, repository: str) -> None:
    """Write the files of the model card, and a page of the gradient flow of a run's resulting checkpoint."""
    from lsgcli.export.base import ExportOptions
    from lsgcli.export.source import read
    from lsgcli.export.verify import NOTHING
    from lsgcli.report.page import flow_page
    from lsgcli.store.checkpoint import read_config
    from lsgcli.store.flows import complete, history, read_full

    options = ExportOptions(fold_bn=bool(read_config(path)["folded"]))
    _, written, content = read(path, "hf", options)
    exporter.write(written, content, folder, options)
    exporter.conclude(folder, content, {"path": repository, **NOTHING})
    result = rundir.read_result(path.parent)
    if result and Path(result.get("checkpoint", "")).name == path.name and (flow := read_full(path.parent)):
        names = {"checkpoint": repository, "method": content.config["settings"]["method"], "history": history(path)}
        page = flow_page([{**complete(flow, path.parent / rundir.FULL_FLOW), **names}])
        (folder / FLOW_PAGE).write_text(page, encoding="utf-8")
