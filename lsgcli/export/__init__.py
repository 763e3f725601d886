"""Export formats: one file each.

A format is a class with a name; :func:`lsgcli.export.verify.verify` checks what it wrote against the network in torch.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lsgcli.checkpoint import Checkpoint
    from lsgcli.models.base import SpikingNet


class Format(ABC):
    """A way of writing a trained network."""

    @abstractmethod
    def write(self, model: "SpikingNet", content: "Checkpoint", path: Path) -> None:
        """Write ``model``, whose configuration ``content`` gives, to ``path``.

        Raises:
            ConfigError: the format cannot say what the network does.
        """

    @abstractmethod
    def open(self, path: Path) -> "SpikingNet":
        """The network that ``path`` holds, read from the file and nothing else."""
