"""The network as one safetensors file, with tdBN folded into the convolutions and the configuration in the metadata."""

from pathlib import Path

from lsgcli.export.base import ExportOptions, Format
from lsgcli.export.runners import NetworkRunner, Runner
from lsgcli.models.base import SpikingNet
from lsgcli.models.quantise import packed
from lsgcli.registry import register
from lsgcli.store import checkpoint
from lsgcli.store.checkpoint import Checkpoint


@register("format", "safetensors")
class SafeTensors(Format):
    """A checkpoint without training state, accepted by every command that takes a checkpoint."""

    suffix = ".safetensors"
    magic = rb".{8}\s*\{"
    is_run = False
    options = {"fold_bn": True, "quantize": None}

    def write(self, network: SpikingNet, content: Checkpoint, path: Path, options: ExportOptions) -> None:
        weights = packed(network, network.spec.bits) if options.quantize else content.weights
        checkpoint.write(path, Checkpoint(weights, content.config))

    def open(self, path: Path) -> Runner:
        return NetworkRunner(*checkpoint.load(path))
