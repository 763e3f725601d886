"""Export formats: one file each.

A format is a subclass of :class:`Format`, registered by name. It writes a network, and opens the written file as a
:class:`Runner`, which :mod:`lsgcli.export.verify` and ``lsg eval`` use. Class attributes declare its options.
"""

import importlib.util
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lsgcli import registry
from lsgcli.errors import CheckpointError, ConfigError, install_hint

if TYPE_CHECKING:
    from torch import Tensor

    from lsgcli.checkpoint import Checkpoint
    from lsgcli.models.base import SpikingNet

VERSION = "1"  # of the metadata written by :func:`metadata`


@dataclass(frozen=True)
class ExportOptions:
    """Options of all formats; a format uses those listed in its ``options``, and :func:`chosen` fills in its defaults.

    Attributes:
        mode: one of the format's ``modes``.
        dt: duration of a timestep, in seconds.
        fold_bn: whether to fold tdBN into the convolutions.
    """

    mode: str | None = None
    dt: float | None = None
    fold_bn: bool = True


@dataclass(frozen=True)
class Output:
    """Output of an exported network.

    Attributes:
        logits: (T, B, classes).
        spikes: (T, B, ...) by layer, named as in :meth:`~lsgcli.models.base.SpikingNet.spiking_layers`, if the format exposes them.
    """

    logits: "Tensor"
    spikes: Mapping[str, "Tensor"] = field(default_factory=dict)


class Runner(ABC):
    """An exported network, loaded from its file alone.

    Attributes:
        config: ``content.config`` as passed to :meth:`Format.write`.
    """

    def __init__(self, config: dict[str, Any]):
        self.config = config

    @property
    def T(self) -> int:
        """Timesteps."""
        return int(self.config["model"]["T"])

    @property
    def static(self) -> bool:
        """Whether the input is images, each presented T times, rather than frames of recordings."""
        return bool(self.config["data"]["static"])

    @abstractmethod
    def run(self, x: "Tensor") -> Output:
        """Run float32 frames (T, B, C, H, W), or images (B, C, H, W) if ``static``, from the resting state."""


class Stepwise(Runner):
    """A network that runs one timestep at a time. Its state is u (B, ...) of each layer before the reset."""

    @abstractmethod
    def rest(self, batch: int) -> "tuple[Tensor, ...]":
        """The initial state of ``batch`` samples: zeros."""

    @abstractmethod
    def step(self, frame: "Tensor", state: "tuple[Tensor, ...]") -> "tuple[Tensor, tuple[Tensor, ...]]":
        """One timestep: a frame or image (B, C, H, W) and the state -> logits (B, classes) and the next state."""

    def run(self, x: "Tensor") -> Output:
        """Run all timesteps from rest; spikes are computed from the states."""
        import torch

        state, logits, states = self.rest(x.shape[0 if self.static else 1]), [], []
        for frame in x.expand(self.T, *x.shape) if self.static else x:
            now, state = self.step(frame, state)
            logits.append(now)
            states.append(state)
        layers = self.config["export"]["layers"].items()
        spikes = {
            name: (torch.stack(u) >= layer["threshold"]).to(x.dtype)
            for (name, layer), u in zip(layers, zip(*states, strict=True), strict=True)
        }
        return Output(torch.stack(logits), spikes)


class Format(ABC):
    """An export format.

    Attributes:
        suffix: suffix of its files; "" for a folder.
        folder: whether it writes a folder rather than a file.
        is_checkpoint: whether its files are checkpoints, which every command accepts.
        extra: the extra in ``pyproject.toml`` that it requires, if any.
        packages: import names of the packages in the extra.
        options: supported fields of :class:`ExportOptions`, with their defaults.
        modes: allowed values of ``mode``.
    """

    suffix: ClassVar[str] = ""
    folder: ClassVar[bool] = False
    is_checkpoint: ClassVar[bool] = False
    extra: ClassVar[str] = ""
    packages: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[Mapping[str, Any]] = {"fold_bn": True}
    modes: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def check(cls) -> None:
        """Check that the required packages are installed.

        Raises:
            ConfigError: a package is missing; the hint is the command to install it.
        """
        missing = [name for name in cls.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise ConfigError(f"{cls.__name__}: {', '.join(missing)} cannot be imported", hint=install_hint(cls.extra))

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether ``path`` appears to be of this format."""
        return bool(cls.suffix) and path.suffix == cls.suffix

    @abstractmethod
    def write(self, network: "SpikingNet", content: "Checkpoint", path: Path, options: ExportOptions) -> None:
        """Write a network.

        Args:
            network: in evaluation mode, on the CPU; folded unless ``options.fold_bn`` is False.
            content: weights, configuration and training state. The configuration must be stored in the file; it contains no paths
                of this machine, and ``config["export"]`` describes the export: format, version, options, readout, decay and
                threshold of each layer.
            path: a path that does not exist and is private to this process. Write with ``path.write_bytes`` or similar, so that
                a full disk raises an OSError.
            options: complete options.

        Raises:
            ConfigError: the format cannot represent the network; the message states why.
            OSError: the file cannot be written.
        """

    @abstractmethod
    def open(self, path: Path) -> Runner:
        """Load an export as a runner.

        Raises:
            CheckpointError: it is not an export of this format by lsg.
        """

    def conclude(self, path: Path, content: "Checkpoint", record: Mapping[str, Any]) -> None:
        """Add results to the written export: ``record`` is the record that ``lsg export --json`` prints."""
        return None


def chosen(name: str, **given: Any) -> ExportOptions:
    """The options of the format ``name``, with defaults for those that are None.

    Raises:
        ConfigError: an option that the format does not support, or an invalid value.
    """
    form: type[Format] = registry.get("format", name)
    values = {key: value for key, value in given.items() if value is not None}
    for key, value in values.items():
        if key not in form.options and value != getattr(ExportOptions, key):
            takers = [other for other in registry.names("format") if key in registry.get("format", other).options]
            raise ConfigError(
                f"{_flag(key, value)}: found with --format {name}, expected --format {' or '.join(takers)}",
                hint="Omit the option, or choose another format.",
            )
    options = ExportOptions(**{**form.options, **values})
    if options.mode not in (form.modes or (None,)):
        raise ConfigError(f"--mode: found {options.mode!r} with --format {name}, expected {' or '.join(form.modes)}")
    if options.dt is not None and not 0 < options.dt < math.inf:
        raise ConfigError(f"--dt: found {options.dt}, expected seconds > 0")
    return options


def _flag(key: str, value: Any) -> str:
    return ("--no-" if value is False else "--") + key.replace("_", "-")


def metadata(content: "Checkpoint") -> dict[str, str]:
    """Metadata of an export, for formats that store a dictionary of strings."""
    return {"lsg.export_version": VERSION, "lsg.config": json.dumps(content.config)}


def read_metadata(found: Mapping[str, str], path: Path) -> dict[str, Any]:
    """The configuration from metadata written by :func:`metadata`.

    Raises:
        CheckpointError: the metadata are missing or of another version.
    """
    version = found.get("lsg.export_version")
    if version != VERSION:
        raise CheckpointError(
            f"{path}: found {'no lsg metadata' if version is None else f'export version {version!r}'}, "
            f"expected an export by `lsg export`, version {VERSION!r}",
            hint="Export the checkpoint again with this version of lsg.",
        )
    config: dict[str, Any] = json.loads(found["lsg.config"])
    return config


def open_exported(path: Path) -> Runner | None:
    """What an export wrote, ready to run; None for a checkpoint, or a path that no format recognises.

    Raises:
        ConfigError: what the format needs is not installed.
        CheckpointError: it is not what ``lsg export`` wrote.
    """
    form = format_of(path)
    if form is None or form.is_checkpoint or not path.exists():
        return None
    form.check()
    return form().open(path)


def format_for(output: Path, name: str | None) -> str:
    """The name of the format to write ``output`` in: ``name``, or the one that the suffix says.

    Raises:
        ConfigError: the suffix says none, or another than ``name``.
    """
    suffixes = {one: registry.get("format", one).suffix for one in registry.names("format")}
    meant = next((one for one, suffix in suffixes.items() if suffix and suffix == output.suffix), None)
    if name is None and meant is None:
        found, known = repr(output.suffix) if output.suffix else "no suffix", " or ".join(filter(None, suffixes.values()))
        raise ConfigError(f"-o {output}: found {found}, expected a name with suffix {known}", hint="Or give --format.")
    if name in suffixes and meant not in (None, name):
        raise ConfigError(
            f"-o {output}: found a name of the format {meant}, expected {suffixes[name] or 'a folder'} for --format {name}",
            hint="Omit --format, or choose another name.",
        )
    return name or str(meant)


def format_of(path: Path) -> type[Format] | None:
    """The format of a file or folder, by its name or contents; None if unknown."""
    every: list[type[Format]] = [registry.get("format", name) for name in registry.names("format")]
    return next((one for one in every if one.recognises(path)), None)
