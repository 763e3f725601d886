"""``lsg export``: export a trained network to other formats; ``lsg push``: upload it to the Hugging Face Hub."""

import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

from typer import Argument, Option

from lsgcli import registry
from lsgcli.cli import common
from lsgcli.errors import log
from lsgcli.report.output import check_output, print_exact, print_json, print_result
from lsgcli.system.schema import Record


class Form(NamedTuple):
    """The format of an export, and its options."""

    form: Annotated[
        str | None,
        Option(
            "--format",
            help=f"One of: {', '.join(registry.names('format'))}. Default: from the suffix of -o.",
        ),
    ] = None
    mode: Annotated[
        str | None,
        Option(
            help="For onnx: unroll (default), a graph of all timesteps, or step, a graph of one timestep with its state.",
        ),
    ] = None
    fold_bn: Annotated[bool, Option(help="Fold tdBN into the preceding convolutions.")] = True
    quantize: Annotated[
        str | None,
        Option(
            help="Store weights as integers with a scale per output channel: int8. For onnx, nir, safetensors and hf.",
        ),
    ] = None
    T: common.Timesteps = None
    dt: Annotated[float | None, Option(help="For nir: duration of a timestep in seconds. Default: 0.0001.")] = None


def export(
    *,
    checkpoint: common.CheckpointPath,
    output: Annotated[Path, Option("-o", "--output", help="Output file, or folder (hf).")],
    form: Form,
    verify: Annotated[int | None, Option(min=1, help="Compare the export with the network on this many test samples.")] = None,
    folders: common.Folders,
    force: common.Force = False,
    as_json: common.Json = False,
    verbosity: common.Verbosity,
) -> None:
    """Export a network, with tdBN folded into the convolutions, and print the path.

    Downloads no data. --verify compares the folded network with the trained one in double precision, and the export, run by the runtime of its format,
    with the folded network, whose weights are rounded if they are quantised: logits, predictions, and spikes if the format exposes
    them. If they differ by more than rounding, the exit status is 9 and no file is written.
    """
    common.messages(verbosity, common.AROUND if verify else ())
    if not verify:
        common.require("--verify N", {"--data-dir": folders.data_dir, "--cache-dir": folders.cache_dir})
    from lsgcli.export import base as exporting
    from lsgcli.store import hub

    name = exporting.format_for(output, form.form)
    path = hub.local(checkpoint)
    exporter = registry.get("format", name)()
    exporter.check()
    options = exporting.chosen(name, mode=form.mode, dt=form.dt, fold_bn=form.fold_bn, quantize=form.quantize)
    suffixes = (exporter.suffix,) if exporter.suffix else ()
    check_output(output, "-o", suffixes=suffixes, folder=exporter.folder, inputs=(path,), magic=exporter.magic, force=force)
    from lsgcli.export.verify import described
    from lsgcli.export.writing import export as written
    from lsgcli.report.terminal import preparing

    with preparing(verbosity.quiet) as progress:
        data: Record = {"changes": folders._asdict(), "environment": common.around(), "progress": progress}
        record = written(path, output, name, options, T=form.T, verify=verify, **data)
    if verify:
        log.info("%s", described(record))
    print_json(record) if as_json else print_exact(output)
    if exporter.is_run:
        common.say_next("lsg", "eval", output)


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
            folder = Path(temporary)
            options = ExportOptions(fold_bn=bool(read_config(path)["folded"]))
            _, written, content = read(path, "hf", options)
            HF().write(written, content, folder, options)
            HF().conclude(folder, content, NOTHING)
        print_result(hub.push(folder, repository, private=private))
