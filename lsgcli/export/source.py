"""Preparation of a checkpoint's network for export."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

from lsgcli import __version__, checkpoint
from lsgcli.checkpoint import Checkpoint
from lsgcli.config import PATHS
from lsgcli.errors import ConfigError
from lsgcli.export import ExportOptions
from lsgcli.models.base import SpikingNet
from lsgcli.models.fold import fold, is_folded
from lsgcli.rundir import accuracy_on_test

READOUT = "mean of the logits over T"


class Source(NamedTuple):
    """A network to export.

    Attributes:
        trained: the network of the checkpoint.
        written: the network to write, folded unless disabled.
        content: weights and configuration of ``written``; the final training state, with ``test_accuracy`` if the run measured
            it.
    """

    trained: SpikingNet
    written: SpikingNet
    content: Checkpoint


def read(path: Path, form: str, options: ExportOptions, T: int | None = None) -> Source:
    """The network of a checkpoint for the format ``form``.

    Args:
        T: timesteps; None for those of the training.

    Raises:
        CheckpointError: as :func:`lsgcli.checkpoint.load`.
        ConfigError: unfolded tdBN is requested, but the checkpoint is folded.
    """
    found = checkpoint.read(path)
    trained, config = checkpoint.restored(found, path), found.config
    if T is not None:
        trained.spec = dataclasses.replace(trained.spec, T=T)
    if is_folded(trained) and not options.fold_bn:
        raise ConfigError(
            f"--no-fold-bn: found folded tdBN in {path}, expected a checkpoint of `lsg train`",
            hint="Pass the run's own checkpoint, or omit --no-fold-bn.",
        )
    written = fold(trained) if options.fold_bn else trained
    described = checkpoint.describe(written, config["arch"], folded=is_folded(written))
    settings = {**config["settings"], "T": written.T, **dict.fromkeys(PATHS)}
    export = {
        "format": form,
        "lsg": __version__,
        **dataclasses.asdict(options),
        "readout": READOUT,
        "trained_T": config["settings"]["T"],
        "layers": {
            layer.name: {"beta": layer.lif.beta.tolist(), "threshold": layer.lif.threshold}
            for layer in written.spiking_layers()
        },
    }
    whole = {**config, **described, "settings": settings, "export": export}
    state = {**found.state, "test_accuracy": accuracy_on_test(path)} if found.state else found.state
    return Source(trained, written, Checkpoint(written.state_dict(), whole, state))
