"""The network that an export writes, from a checkpoint."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import torch

from lsgcli import models
from lsgcli.config.run import PATHS, from_checkpoint
from lsgcli.errors import ConfigError
from lsgcli.export.base import ExportOptions
from lsgcli.models.base import SpikingNet
from lsgcli.models.fold import fold, is_folded
from lsgcli.models.quantise import round_weights
from lsgcli.neurons import LIF
from lsgcli.store import checkpoint
from lsgcli.store.checkpoint import Checkpoint
from lsgcli.store.rundir import accuracy_on_test
from lsgcli.system.interpreter import __version__

READOUT = "mean of the logits over T"


class Source(NamedTuple):
    """A network to export.

    Attributes:
        trained: the network of the checkpoint.
        written: the network to write, folded unless disabled, with its weights on a grid if they are quantised.
        content: weights and configuration of ``written``; the final training state, with ``test_accuracy`` if the run measured
            it.
    """

    trained: SpikingNet
    written: SpikingNet
    content: Checkpoint


def read(path: Path, form: str, options: ExportOptions, T: int | None = None) -> Source:
    """The network of a checkpoint, for the format ``form``.

    Args:
        path: of the checkpoint.
        form: name of the format.
        options: complete options, from :func:`chosen`.
        T: timesteps; None: as in training.

    Raises:
        CheckpointError: as :func:`lsgcli.store.checkpoint.load`.
        ConfigError: unfolded tdBN is requested, but the checkpoint is folded; T differs from the training, and the normalisation has
            a value per timestep.
    """
    loaded = checkpoint.read(path)
    checkpoint.check_described(loaded.config, path)
    from_checkpoint(path, loaded.config, {})
    trained = checkpoint.restored(loaded, path)
    config = loaded.config
    if T not in (None, trained.T):
        _set_timesteps(trained, T)
    if is_folded(trained) and not options.fold_bn:
        raise ConfigError(
            f"--no-fold-bn: found folded tdBN in {path}, expected a checkpoint of `lsg train`",
            "Pass the run's own checkpoint, or omit --no-fold-bn.",
        )
    written = fold(trained) if options.fold_bn else trained
    if options.quantize:
        round_weights(written, written.spec.bits)
    layers = {}
    for layer in written.spiking_layers():
        threshold, _ = layer.lif.firing()
        stored = threshold.tolist() if isinstance(threshold, torch.Tensor) else threshold
        layers[layer.name] = {"beta": layer.lif.beta.tolist(), "threshold": stored}
    about = {"readout": READOUT, "trained_T": config["settings"]["T"], "layers": layers}
    whole = {
        **config,
        **checkpoint.describe(written, folded=is_folded(written)),
        "settings": {**config["settings"], "T": written.T, **dict.fromkeys(PATHS)},
        "export": {"format": form, "lsg": __version__, **dataclasses.asdict(options), **about},
    }
    state = {**loaded.state, "test_accuracy": accuracy_on_test(path)} if loaded.state else loaded.state
    return Source(trained, written, Checkpoint(written.state_dict(), whole, state))


@torch.no_grad()
def _set_timesteps(network: SpikingNet, T: int) -> None:
    """Change T of a network. Parameters per timestep keep the values of the first timesteps; the last value is repeated for further ones."""
    spec = dataclasses.replace(network.spec, T=T)
    with torch.device("meta"):
        expected = models.create(spec).state_dict()
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if name not in expected or expected[name].shape == tensor.shape:
            continue
        if not isinstance(network.get_submodule(name.rpartition(".")[0]), LIF):
            raise ConfigError(
                f"-T: found {T} with --norm {network.spec.norm}, expected {network.T}, its number of factors", "Omit -T."
            )
        tensor.data = tensor[torch.arange(T).clamp_max(len(tensor) - 1)]
    network.spec = spec
