"""The network as one safetensors file, with tdBN folded into the convolutions and the configuration in the metadata."""

from pathlib import Path
from typing import TYPE_CHECKING

from lsgcli.export import ExportOptions, Format, Runner
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.checkpoint import Checkpoint
    from lsgcli.models.base import SpikingNet


@register("format", "safetensors")
class SafeTensors(Format):
    """A checkpoint without training state, accepted by every command that takes a checkpoint."""

    suffix = ".safetensors"
    is_checkpoint = True

    def write(self, network: "SpikingNet", content: "Checkpoint", path: Path, options: ExportOptions) -> None:
        from lsgcli import checkpoint

        checkpoint.write(path, checkpoint.Checkpoint(content.weights, content.config))

    def open(self, path: Path) -> Runner:
        from lsgcli import checkpoint
        from lsgcli.export.network import NetworkRunner

        return NetworkRunner(*checkpoint.load(path))
