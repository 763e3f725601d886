"""Export formats: one file each.

A format is a subclass of :class:`Format`, registered by its name. It writes a network, and opens what it wrote as a
:class:`Runner`, with which :mod:`lsgcli.export.verify` and ``lsg eval`` run it. Class attributes say what the format takes.
"""

import importlib.util
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lsgcli import registry
from lsgcli.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from lsgcli.checkpoint import Checkpoint
    from lsgcli.models.base import SpikingNet

VERSION = "1"  # of what :func:`metadata` writes
READOUT = "mean of the logits over T"


@dataclass(frozen=True)
class ExportOptions:
    """What a format may be asked for; it reads those that its ``options`` name.

    Attributes:
        mode: one of the format's ``modes``; None where it has none.
        dt: seconds that one timestep stands for; None is the format's own.
        fold_bn: whether tdBN is folded into the convolutions of the network that is written.
    """

    mode: str | None = None
    dt: float | None = None
    fold_bn: bool = True


@dataclass(frozen=True)
class Outcome:
    """What an exported network says.

    Attributes:
        logits: (T, B, classes).
        spikes: (T, B, ...) by layer, named as in :meth:`~lsgcli.models.base.SpikingNet.spiking_layers`; those that the format shows.
    """

    logits: "Tensor"
    spikes: Mapping[str, "Tensor"] = field(default_factory=dict)


class Runner(ABC):
    """An exported network, made from its file and nothing else.

    Attributes:
        config: as it was given to :meth:`Format.write` in ``content.config``.
    """

    def __init__(self, config: dict[str, Any]):
        self.config = config

    @property
    def T(self) -> int:
        """Timesteps."""
        return int(self.config["model"]["T"])

    @property
    def static(self) -> bool:
        """Whether the network sees images, each shown T times, rather than frames of recordings."""
        return bool(self.config["data"]["static"])

    @abstractmethod
    def run(self, x: "Tensor") -> Outcome:
        """Run float32 frames (T, B, C, H, W), or images (B, C, H, W) where ``static``; every call starts at rest."""


class Format(ABC):
    """A way of writing a trained network.

    Attributes:
        suffix: what names of its files end in; "" for a folder.
        folder: it writes a folder rather than a file.
        is_checkpoint: its files are checkpoints, which every command takes.
        extra: of ``pip install 'lsg[extra]'``, where it needs more than lsg does.
        packages: what the extra installs, by the names that are imported.
        options: names of the fields of :class:`ExportOptions` that it reads.
        modes: what ``mode`` can be; the first is the default.
    """

    suffix: ClassVar[str] = ""
    folder: ClassVar[bool] = False
    is_checkpoint: ClassVar[bool] = False
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[frozenset[str]] = frozenset({"fold_bn"})
    modes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def check(cls) -> None:
        """See that what it needs is installed.

        Raises:
            ConfigError: it is not; says how to install it.
        """
        missing = [name for name in cls.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(
                f"{cls.__name__}: {', '.join(missing)} cannot be imported", hint=f"Install with: pip install 'lsg[{cls.extra}]'"
            )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether ``path`` looks like one of its files."""
        return bool(cls.suffix) and path.suffix == cls.suffix

    @abstractmethod
    def write(self, network: "SpikingNet", content: "Checkpoint", path: Path, options: ExportOptions) -> None:
        """Write a network.

        Args:
            network: in evaluation mode, on the CPU; folded unless ``options.fold_bn`` is False.
            content: its weights, its configuration without any path of this machine (to be stored in the file), and the state
                of the training that it comes from (not to be stored).
            path: where nothing is yet; another process never sees it. Files are written by ``path.write_bytes`` or the like,
                so that a full disk is an OSError.
            options: with a mode where the format has modes.

        Raises:
            ConfigError: the format cannot say what the network does; the message says what and why.
            OSError: it cannot be written.
        """

    @abstractmethod
    def open(self, path: Path) -> Runner:
        """What ``path`` holds, ready to run.

        Raises:
            CheckpointError: it is not a file of this format that lsg wrote.
        """

    def conclude(self, path: Path, content: "Checkpoint", record: Mapping[str, Any]) -> None:
        """Add what was measured of the file just written and opened: the record that ``lsg export --json`` prints."""
        return None


def metadata(content: "Checkpoint") -> dict[str, str]:
    """Texts that a file carries about itself, for formats that hold such a dictionary."""
    return {"lsg.export_version": VERSION, "lsg.config": json.dumps(content.config)}


def read_metadata(found: Mapping[str, str], path: Path) -> dict[str, Any]:
    """The configuration that :func:`metadata` put into a file.

    Raises:
        CheckpointError: it is not there, or of another version.
    """
    version = found.get("lsg.export_version")
    if version != VERSION:
        raise CheckpointError(
            f"{path}: found {'no metadata of lsg' if version is None else f'export version {version!r}'}, "
            f"expected a file that `lsg export` wrote, of version {VERSION!r}",
            hint="Export the checkpoint again with this version of lsg.",
        )
    config: dict[str, Any] = json.loads(found["lsg.config"])
    return config


def format_of(path: Path) -> type[Format] | None:
    """The format of a file or folder, by its name or by what lies in it; None where none recognises it."""
    every: list[type[Format]] = [registry.get("format", name) for name in registry.names("format")]
    return next((one for one in every if one.recognises(path)), None)
