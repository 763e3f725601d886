"""What is exported: the network of a checkpoint, as it is to be written."""

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
    """A network, ready to be written.

    Attributes:
        trained: as the checkpoint has it.
        written: folded, or as it is.
        content: weights and configuration of ``written``; the state that the training ended in, with its ``test_accuracy`` where the
            run has measured that.
    """

    trained: SpikingNet
    written: SpikingNet
    content: Checkpoint


def read(path: Path, form: str, options: ExportOptions, T: int | None = None) -> Source:
    """The network of a checkpoint for the format ``form``.

    Args:
        T: timesteps, if not those of the training.

    Raises:
        CheckpointError: as :func:`lsgcli.checkpoint.load`.
        ConfigError: unfolded tdBN is asked for, and the checkpoint has none.
    """
    found = checkpoint.read(path)
    trained, config = checkpoint.restored(found, path), found.config
    if T is not None:
        trained.spec = dataclasses.replace(trained.spec, T=T)
    if is_folded(trained) and not options.fold_bn:
        raise ConfigError(
            f"--no-fold-bn: {path} has its tdBN folded already, expected a checkpoint of `lsg train`",
            hint="Give the run's own checkpoint, or leave --no-fold-bn out.",
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
