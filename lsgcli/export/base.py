"""Export formats: one file each.

A format is a subclass of :class:`Format`, registered by name. It writes a network, and opens the written file as a
:class:`~lsgcli.export.runners.Runner`, which :mod:`lsgcli.export.verify` and ``lsg eval`` use. Class attributes declare its options.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsgcli import registry
from lsgcli.config.fields import Values
from lsgcli.errors import CheckpointError, ConfigError, require
from lsgcli.registry import traits
from lsgcli.system.files import check_regular, json_text
from lsgcli.system.schema import Record

if TYPE_CHECKING:  # importing them takes torch
    from lsgcli.export.runners import Runner
    from lsgcli.models.base import SpikingNet
    from lsgcli.store.checkpoint import Checkpoint

AGAIN = "Export the checkpoint again."
VERSION = "1"  # of the metadata written by :func:`metadata`


@dataclass(frozen=True)
class ExportOptions:
    """Options of all formats; a format uses those listed in its ``options``, and :func:`chosen` fills in its defaults.

    Attributes:
        mode: one of the format's ``modes``.
        dt: duration of a timestep, in seconds.
        fold_bn: whether to fold tdBN into the convolutions.
        quantize: ``int8`` to store weights as integers and their scales.
    """

    mode: str | None = None
    dt: float | None = None
    fold_bn: bool = True
    quantize: str | None = None


class Format(ABC):
    """An export format.

    Attributes:
        suffix: suffix of its files; "" for a folder.
        magic: regular expression of their first bytes; ``--force`` replaces no other file of that suffix.
        kind: what its files are, for error messages of commands that expect a checkpoint; ``hint`` is what to do.
        folder: whether it writes a folder rather than a file.
        is_run: whether ``lsg eval`` and ``lsg predict`` run its files, which may be untrusted; other files are opened as checkpoints.
        extra: name of the extra in ``pyproject.toml`` that it requires, if any.
        packages: import names of the packages in the extra.
        options: supported fields of :class:`ExportOptions`, with their defaults.
        modes: allowed values of ``mode``.
    """

    suffix = ""
    magic = b""
    kind = "an export"
    hint = "Only eval and predict run exports; give the checkpoint that was exported."
    folder = False
    is_run = True
    extra = ""
    packages: tuple[str, ...] = ()
    options: Values = {"fold_bn": True}
    modes: tuple[str, ...] = ()

    @classmethod
    def check(cls) -> None:
        """Check that the required packages are installed.

        Raises:
            ConfigError: a package is missing; the hint is the command to install it.
        """
        require(cls.packages, cls.__name__, cls.extra)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether ``path`` appears to be of this format."""
        return bool(cls.suffix) and path.suffix.lower() == cls.suffix

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
    def open(self, path: Path) -> "Runner":
        """Load an export as a runner.

        Raises:
            CheckpointError: it is not an export of this format by lsg.
        """

    def conclude(self, path: Path, content: "Checkpoint", record: Record) -> None:
        """Add results to the written export: ``record`` is the record that ``lsg export --json`` prints."""
        return


def chosen(name: str, **given: Any) -> ExportOptions:
    """The options of the format ``name``, with defaults for those that are None.

    Raises:
        ConfigError: an option that the format does not support, or an invalid value.
    """
    form: type[Format] = registry.get("format", name)
    values = {key: value for key, value in given.items() if value is not None}
    for key, value in values.items():
        if key not in form.options and value != getattr(ExportOptions, key):
            option = f"{'--no-' if value is False else '--'}{key.replace('_', '-')}"
            raise ConfigError(f"{option}: found with --format {name}, expected another format", "Omit the option.")
    options = ExportOptions(**{**form.options, **values})
    if options.mode not in (form.modes or (None,)):
        raise ConfigError(f"--mode: found {options.mode!r} with --format {name}, expected {' or '.join(form.modes)}")
    if options.dt is not None and not 0 < options.dt < math.inf:
        raise ConfigError(f"--dt: found {options.dt}, expected seconds > 0")
    if options.quantize not in (None, "int8"):
        raise ConfigError(f"--quantize: found {options.quantize!r}, expected int8")
    if options.quantize and not options.fold_bn:
        raise ConfigError("--quantize: found with --no-fold-bn, expected folded tdBN, whose scales the integers include")
    return options


def metadata(content: "Checkpoint") -> dict[str, str]:
    """Metadata of an export, for formats that store a dictionary of strings."""
    return {"lsg.export_version": VERSION, "lsg.config": json_text(content.config)}


def read_metadata(stored: Mapping[str, str], path: Path) -> Record:
    """The configuration from metadata written by :func:`metadata`.

    Raises:
        CheckpointError: the metadata are missing or of another version.
    """
    from lsgcli.store import checkpoint

    version = stored.get("lsg.export_version")
    if version != VERSION:
        raise CheckpointError(
            f"{path}: found an export of version {version}, expected one by `lsg export`, of version {VERSION}",
            "Export the checkpoint again with this version of lsg. Networks of other libraries are measured in Python, by lsg.diagnose().",
        )
    config = checkpoint.decode_config(stored.get("lsg.config", ""), path)
    if "export" not in config:
        raise CheckpointError(f"{path}: configuration: found no export, expected one", AGAIN)
    checkpoint.check_described(config, path)
    return config


def format_for(output: Path, name: str | None) -> str:
    """The name of the format in which to write ``output``: ``name``, or the format of its suffix.

    Raises:
        ConfigError: the suffix belongs to no format, or to a format other than ``name``.
    """
    suffixes = {key: traits("format", key).suffix for key in registry.names("format")}
    meant = next((key for key, suffix in suffixes.items() if suffix and suffix == output.suffix.lower()), None)
    if name is None and meant is None:
        known = " or ".join(filter(None, suffixes.values()))
        raise ConfigError(
            f"-o {output}: found the suffix {output.suffix!r}, expected {known}",
            "Choose a name with one of these suffixes, or give --format hf to write a folder.",
        )
    if name in suffixes and meant not in (None, name):
        raise ConfigError(
            f"-o {output}: found a name of the format {meant}, expected {suffixes[name] or 'a folder'} for --format {name}",
            "Omit --format, or choose another name.",
        )
    return name or str(meant)


def open_exported(path: Path) -> "Runner | None":
    """An export as a runner; None for a checkpoint, or any other path whose format is not run.

    Raises:
        ConfigError: a package that the format requires is not installed.
        CheckpointError: it is not an export by lsg.
    """
    from lsgcli.data.guard import foreign

    form: type[Format] | None = next((form for form in registry.every("format").values() if form.recognises(path)), None)
    if form is None or not form.is_run or not path.exists():
        return None
    if not form.folder:
        with foreign(path, "an export", hint="Write the export to a file first.", kind=CheckpointError):
            check_regular(path)
    form.check()
    return form().open(path)
