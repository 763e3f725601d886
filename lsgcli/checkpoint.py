"""Checkpoints: one safetensors file with everything required to use a network, without pickle.

Tensors have the names of the model's state dict, so ``safetensors.torch.load_file`` is sufficient to read the weights. A resumable
checkpoint also contains ``optim/...`` and ``rng/...`` tensors, and with ``--ema`` every checkpoint contains the trained weights as
``raw/...`` in addition to the averaged ones. The metadata are strings:

- ``lsg.format_version``: version of this layout;
- ``lsg.config``: JSON with the network (``model``), the classes, the settings of the run and the data preparation;
- ``lsg.state``: JSON with the training state;
- ``lsg.sha256``: digest of the tensors; ``lsg.metadata_sha256``: digest of the three strings above.

safetensors has no checksum and does not detect flipped bits in its data.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lsgcli import files, models
from lsgcli.data.kinds import other_kind
from lsgcli.errors import CheckpointError, LsgError
from lsgcli.models.fold import fold_structure
from lsgcli.models.quantise import unpacked

if TYPE_CHECKING:
    from lsgcli.models.base import SpikingNet

FORMAT_VERSION = "1"
PARTS = {"arch": str, "model": dict, "folded": bool, "classes": list, "settings": dict, "data": dict}  # of the configuration
TEXTS = ("lsg.format_version", "lsg.config", "lsg.state")


@dataclass
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        weights: parameters and buffers of the network; read from integers and scales as float weights.
        config: ``model``, ``arch``, ``classes``, ``settings``, ``data``, ``folded``.
        state: training state; empty for an export.
        extra: ``optim/...``, ``rng/...`` and ``raw/...`` tensors.
        sha256: digest of all tensors of the file; empty before it is written.
    """

    weights: Mapping[str, Tensor]
    config: dict[str, Any]
    state: dict[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    sha256: str = ""


def describe(model: "SpikingNet", arch: str, *, folded: bool = False) -> dict[str, Any]:
    """The part of a checkpoint's config that is required to rebuild ``model``."""
    return {"arch": arch, "model": dataclasses.asdict(model.spec), "folded": folded}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file atomically; raises StorageError, in which case an existing file is unchanged."""
    with files.replacing(path) as temporary:
        write(temporary, checkpoint)


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file directly; the caller ensures that no reader sees a partial file. Raises OSError."""
    tensors = {**checkpoint.weights, **checkpoint.extra}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {
        "lsg.format_version": FORMAT_VERSION,
        "lsg.config": json.dumps(checkpoint.config),
        "lsg.state": json.dumps(checkpoint.state),
    }
    metadata["lsg.sha256"] = tensor_digest(tensors)
    metadata["lsg.metadata_sha256"] = _text_digest(metadata)
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:  # raised by safetensors for I/O errors
        raise OSError(str(error)) from error


def read(path: Path | str) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        CheckpointError: the file does not exist, is not a checkpoint of lsg, has another format version, or is damaged.
    """
    path = Path(path)
    with _opened(path) as (stream, metadata, config):
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no mapping)
        state = json.loads(metadata["lsg.state"])
    if tensor_digest(tensors) != metadata.get("lsg.sha256"):
        raise _damaged(path, "SHA-256 of its tensors differs from the stored one")
    extra = {name: tensor for name, tensor in tensors.items() if name.startswith(("optim/", "rng/", "raw/"))}
    weights = unpacked({name: tensor for name, tensor in tensors.items() if name not in extra})
    return Checkpoint(weights, config, state, extra, metadata["lsg.sha256"])


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a checkpoint, without its tensors; as :func:`read`, but damaged tensors are not detected."""
    with _opened(path) as (_, _, config):
        return config


def read_digest(path: Path) -> str:
    """The SHA-256 of a checkpoint's tensors, as stored in its metadata; as :func:`read_config`."""
    with _opened(path) as (_, metadata, _):
        return metadata.get("lsg.sha256", "")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, str], dict[str, Any]]]:
    """Context of the open file, its metadata, and the configuration in them, both verified."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        problem = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise CheckpointError(f"{path}: {problem}", hint="`lsg train` prints the path of the checkpoint it wrote.") from error
    if stat.S_ISDIR(mode):
        best = path / "best.safetensors"
        hint = f"Try {best}." if best.exists() else "`lsg train` prints the path of the checkpoint it wrote."
        raise CheckpointError(f"{path}: found a folder, expected a checkpoint file", hint=hint)
    if not stat.S_ISREG(mode):  # safetensors memory-maps the file
        raise CheckpointError(
            f"{path}: found a pipe or a device, expected a file", hint="Write the checkpoint to a file first."
        )
    try:
        if kind := other_kind(path):
            raise CheckpointError(f"{path}: found {kind.found}, expected a checkpoint of lsg", hint=kind.hint)
        with _name_of(path) as name, safe_open(name, framework="pt") as stream:
            metadata = stream.metadata() or {}
            yield stream, metadata, _verified(path, metadata)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, f"not a complete safetensors file ({error})") from error


@contextlib.contextmanager
def _name_of(path: Path) -> Iterator[str]:
    """A name of the file in UTF-8, which safetensors requires: another one for a path of other bytes."""
    name = os.fspath(path)
    try:
        name.encode()
        yield name
    except UnicodeEncodeError:
        with open(path, "rb") as file:
            yield f"/dev/fd/{file.fileno()}"


def _verified(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The configuration in a checkpoint's metadata, which must be of this format, undamaged, and contain all required parts."""
    version = metadata.get("lsg.format_version")
    if version is None:
        raise CheckpointError(
            f"{path}: found a safetensors file without lsg's metadata, expected a checkpoint written by lsg",
            hint="Weights of other programs can be loaded in Python: lsgcli.models.build(...).load_state_dict(...).",
        )
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {version!r}, expected {FORMAT_VERSION!r}",
            hint="Use the version of lsg that wrote this file.",
        )
    if any(key not in metadata for key in TEXTS) or metadata.get("lsg.metadata_sha256") != _text_digest(metadata):
        raise _damaged(path, "SHA-256 of its metadata differs from the stored one")
    config = json.loads(metadata["lsg.config"])
    wrong = [name for name, kind in PARTS.items() if not isinstance(config, dict) or not isinstance(config.get(name), kind)]
    if wrong:
        raise _damaged(path, f"its configuration lacks {', '.join(wrong)}")
    return dict(config)


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: not a valid checkpoint: {what}", hint="Copy the file again, or use another checkpoint of the run."
    )


def check_unfolded(path: Path, config: Mapping[str, Any], why: str) -> None:
    """Check that a checkpoint is not an export with tdBN folded into the convolutions; ``why`` is the hint of the CheckpointError."""
    if config["folded"]:
        raise CheckpointError(f"{path}: found an export with folded tdBN, expected a checkpoint written by training", hint=why)


def load(path: Path | str) -> tuple["SpikingNet", dict[str, Any]]:
    """The network of a checkpoint, in evaluation mode, and its configuration.

    Raises:
        CheckpointError: as :func:`read`, or this version cannot build the network.
    """
    content = read(path)
    return restored(content, path), content.config


def restored(content: Checkpoint, path: Path | str) -> "SpikingNet":
    """The network of a checkpoint read from ``path``, in evaluation mode; a CheckpointError if this version cannot build it."""
    spec = dict(content.config["model"])
    try:
        neuron = dict(spec.pop("neuron"))
        with torch.random.fork_rng(devices=[]):  # for initial weights, which are replaced
            model = models.build(content.config["arch"], **spec, **neuron)
        if content.config["folded"]:
            fold_structure(model)
        if differing := _differences(content.weights, model.state_dict()):
            raise CheckpointError("; ".join([*differing[:5], *([f"{len(differing) - 5} more"] if len(differing) > 5 else [])]))
        model.load_state_dict(dict(content.weights))
        return model.eval()
    except (LsgError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot build its network: {getattr(error, 'message', error)}",
            hint="It may be from another version of lsg, or use a plug-in that is not installed.",
        ) from error


def _differences(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Tensors that differ in name, shape or type; torch would convert a type, and let counters be absent."""

    def described(x: Tensor | None) -> str:
        return "no such tensor" if x is None else f"{x.dtype} of shape {list(x.shape)}"

    pairs = {name: (described(found.get(name)), described(expected.get(name))) for name in {**found, **expected}}
    return [f"{name}: found {there}, expected {wanted}" for name, (there, wanted) in pairs.items() if there != wanted]


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, dtype, shape and bytes of each tensor, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _text_digest(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256("\0".join(metadata[key] for key in TEXTS).encode()).hexdigest()
