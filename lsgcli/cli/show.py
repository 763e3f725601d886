"""``lsg show``: the layers of a network, and where a checkpoint comes from."""

from typing import Annotated

from typer import Argument, Option

from lsgcli.cli import common
from lsgcli.cli.options import Chosen
from lsgcli.config.fields import fields_of
from lsgcli.config.network import NetworkConfig
from lsgcli.config.run import check, option_name
from lsgcli.errors import ConfigError, refuse
from lsgcli.report.output import print_json
from lsgcli.system.schema import Record

OF_NETWORK = {*fields_of(NetworkConfig), "dataset", "T", "size", "neuron", "method"} - {"dropout", "dropout_at"}


def show(
    *,
    checkpoint: Annotated[
        str | None,
        Argument(metavar="CKPT", help=common.CHECKPOINT),
    ] = None,
    classes: Annotated[int | None, Option(min=1, help="Number of classes. Default: that of --dataset.")] = None,
    as_json: common.Json = False,
    verbosity: common.Verbosity,
    settings: Annotated[Record, Chosen(OF_NETWORK)],
) -> None:
    """Show the layers of a checkpoint, of the network --arch, or of a network for --dataset before its training: output shape, weights, multiplications, decay, width, threshold.

    Of a checkpoint, also the settings that differ from preset and defaults, its epoch and accuracy, and the run that wrote it.
    Multiplications are those of a sample in all timesteps, if all inputs were nonzero. Downloads no data; facts of published data sets need no files.
    """
    common.messages(verbosity)
    if checkpoint is not None:
        common.exclude("CKPT", {"--classes": classes, **{option_name(name): True for name in settings}})
    elif settings.keys().isdisjoint({"arch", "dataset"}):
        raise ConfigError("found neither CKPT nor --arch nor --dataset, expected one", "`lsg list archs` lists networks.")
    from lsgcli.store import hub

    path = None if checkpoint is None else hub.local(checkpoint)
    refuse(check(settings))
    from lsgcli.report import terminal
    from lsgcli.runs import describe
    from lsgcli.store.names import canonical

    record = describe.of_network(settings, classes) if path is None else describe.of_checkpoint(path)
    if as_json:
        layers = [canonical(layer, "show") for layer in record["layers"]]
        print_json({**canonical(record, "show"), "layers": layers})
        return
    layers = record.pop("layers")
    provenance = record.pop("provenance")
    facts = record | provenance
    if "best_epoch" in facts:
        facts["best_epoch"] += 1  # records count from 0
    terminal.show([terminal.facts(facts), terminal.table(layers[0], [[*layer.values()] for layer in layers], left=3)])
