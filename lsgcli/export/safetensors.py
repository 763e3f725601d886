"""The network as one safetensors file: plain names, tdBN folded into the convolutions, configuration in the metadata."""

from pathlib import Path
from typing import TYPE_CHECKING

from lsgcli.export import Format
from lsgcli.registry import register

if TYPE_CHECKING:
    from lsgcli.checkpoint import Checkpoint
    from lsgcli.models.base import SpikingNet


@register("format", "safetensors")
class SafeTensors(Format):
    """A checkpoint without anything that only training needs; every command that takes a checkpoint takes it too."""

    def write(self, model: "SpikingNet", content: "Checkpoint", path: Path) -> None:
        """Write weights and configuration."""
        from lsgcli import checkpoint
        from lsgcli.models.fold import is_folded

        folded = is_folded(model)
        config = {**content.config, **checkpoint.describe(model, content.config["arch"], folded=folded)}
        checkpoint.save(path, checkpoint.Checkpoint(model.state_dict(), config))

    def open(self, path: Path) -> "SpikingNet":
        """Read it back as a checkpoint."""
        from lsgcli import checkpoint

        return checkpoint.load(path)[0]
