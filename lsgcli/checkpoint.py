"""Checkpoints: one safetensors file with everything that is needed to use a network, and nothing pickled.

Tensors carry the model's own names, so ``safetensors.torch.load_file`` is enough to read the weights. A checkpoint that can be
resumed also has ``optim/...`` and ``rng/...`` tensors. The metadata are texts:

- ``lsg.format_version``: of this layout;
- ``lsg.config``: JSON of the network (``model``), the classes, the settings of the run and the data's preparation;
- ``lsg.state``: JSON of where the training stood;
- ``lsg.sha256``: over the tensors; ``lsg.metadata_sha256``: over the three texts above.

safetensors itself has no checksum and does not notice a flipped bit in its data.
"""

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lsgcli import files, models
from lsgcli.errors import CheckpointError, LsgError
from lsgcli.models.fold import fold_structure

if TYPE_CHECKING:
    from lsgcli.models.base import SpikingNet

FORMAT_VERSION = "1"
PARTS = {"arch": str, "model": dict, "folded": bool, "classes": list, "settings": dict, "data": dict}  # of the configuration
TEXTS = ("lsg.format_version", "lsg.config", "lsg.state")


@dataclass
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        weights: parameters and buffers of the network.
        config: ``model``, ``arch``, ``classes``, ``settings``, ``data``, ``folded``.
        state: where the training stood; empty for an export.
        extra: ``optim/...`` and ``rng/...`` tensors; empty where there is nothing to resume.
        sha256: over all tensors of the file that was read; empty for one that is not written yet.
    """

    weights: Mapping[str, Tensor]
    config: dict[str, Any]
    state: dict[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    sha256: str = ""

    def build(self) -> "SpikingNet":
        """The network, in evaluation mode, with these weights."""
        spec = dict(self.config["model"])
        neuron = dict(spec.pop("neuron"))
        model = models.build(self.config["arch"], **spec, **neuron)
        if self.config["folded"]:
            fold_structure(model)
        model.load_state_dict(dict(self.weights), strict=True)
        return model.eval()


def describe(model: "SpikingNet", arch: str, *, folded: bool = False) -> dict[str, Any]:
    """The part of a checkpoint's config that says how to build ``model`` again."""
    return {"arch": arch, "model": model.describe(), "folded": folded}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file: beside its target, synced, renamed; a reader never sees a part of it.

    Raises:
        StorageError: it cannot be written; a file that was there before is untouched.
    """
    with files.replacing(path) as temporary:
        write(temporary, checkpoint)


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file where it is to be, for whoever takes care that nobody sees a part of it.

    Raises:
        OSError: it cannot be written.
    """
    both = {**checkpoint.weights, **checkpoint.extra}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in both.items()}
    metadata = {
        "lsg.format_version": FORMAT_VERSION,
        "lsg.config": json.dumps(checkpoint.config),
        "lsg.state": json.dumps(checkpoint.state),
    }
    metadata["lsg.sha256"] = tensor_digest(tensors)
    metadata["lsg.metadata_sha256"] = _text_digest(metadata)
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:  # its form of an input/output error
        raise OSError(str(error)) from error


def read(path: Path | str) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        CheckpointError: no such file, not a checkpoint of ours, of another format version, or damaged.
    """
    path = Path(path)
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            _check_metadata(path, metadata)
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise _damaged(path, f"not a whole safetensors file ({error})") from error
    if tensor_digest(tensors) != metadata.get("lsg.sha256"):
        raise _damaged(path, "its tensors are not those that were written (SHA-256 differs)")
    extra = {name: tensor for name, tensor in tensors.items() if name.startswith(("optim/", "rng/"))}
    weights = {name: tensor for name, tensor in tensors.items() if name not in extra}
    config, state = _config(path, metadata), json.loads(metadata["lsg.state"])
    return Checkpoint(weights, config, state, extra, metadata["lsg.sha256"])


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a checkpoint, without its tensors.

    Raises:
        CheckpointError: as :func:`read`; but tensors that are damaged are not noticed.
    """
    return _config(path, _read_metadata(path))


def read_digest(path: Path) -> str:
    """The SHA-256 over a checkpoint's tensors, as it was written with them.

    Raises:
        CheckpointError: as :func:`read_config`.
    """
    return str(_read_metadata(path).get("lsg.sha256", ""))


def _read_metadata(path: Path) -> Mapping[str, str]:
    _check_file(path)
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, f"not a whole safetensors file ({error})") from error
    _check_metadata(path, metadata)
    return metadata


def check_unfolded(path: Path, config: Mapping[str, Any], why: str) -> None:
    """See that a checkpoint has its tdBN.

    Args:
        config: of the checkpoint.
        why: a sentence on what needs it.

    Raises:
        CheckpointError: it was exported with its tdBN folded into the convolutions.
    """
    if config["folded"]:
        raise CheckpointError(
            f"{path}: is an export whose tdBN is folded away, expected a checkpoint as training wrote it", hint=why
        )


def load(path: Path | str) -> tuple["SpikingNet", dict[str, Any]]:
    """The network of a checkpoint, in evaluation mode, and its configuration.

    Raises:
        CheckpointError: as :func:`read`, or a configuration that this version cannot build.
    """
    content = read(path)
    return restored(content, path), content.config


def restored(content: Checkpoint, path: Path | str) -> "SpikingNet":
    """The network of what was read from ``path``, in evaluation mode.

    Raises:
        CheckpointError: a configuration that this version cannot build.
    """
    try:
        return content.build()
    except (LsgError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: its network cannot be built here: {error}",
            hint="It may come from another version of lsg, or use a plug-in that is not installed.",
        ) from error


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, type, shape and bytes of each tensor, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _text_digest(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256("\0".join(metadata[key] for key in TEXTS).encode()).hexdigest()


def _check_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    version = metadata.get("lsg.format_version")
    if version is None:
        raise CheckpointError(
            f"{path}: found a safetensors file without lsg's metadata, expected a checkpoint written by lsg",
            hint="Weights of other programs can be loaded in Python: lsgcli.models.build(...).load_state_dict(...).",
        )
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {version!r}, expected {FORMAT_VERSION!r}", hint="Use the version of lsg that wrote it."
        )
    if any(key not in metadata for key in TEXTS) or metadata.get("lsg.metadata_sha256") != _text_digest(metadata):
        raise _damaged(path, "its metadata are not those that were written (SHA-256 differs)")


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        told = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise CheckpointError(f"{path}: {told}", hint="`lsg train` prints the path of the checkpoint it wrote.") from error
    if stat.S_ISDIR(mode):
        raise CheckpointError(f"{path}: found a folder, expected a checkpoint file", hint=f"Try {path / 'best.safetensors'}.")
    if not stat.S_ISREG(mode):  # tensors are mapped from the file, which a pipe cannot be
        raise CheckpointError(
            f"{path}: found a pipe or a device, expected a file", hint="Write the checkpoint to a file first."
        )


def _config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The configuration in a checkpoint's metadata, with the parts that every checkpoint has.

    Raises:
        CheckpointError: one is missing, or of another type.
    """
    config = json.loads(metadata["lsg.config"])
    wrong = [name for name, kind in PARTS.items() if not isinstance(config, dict) or not isinstance(config.get(name), kind)]
    if wrong:
        raise _damaged(path, f"its configuration lacks {', '.join(wrong)}")
    return dict(config)


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: damaged or foreign: {what}", hint="Copy the file again, or use another checkpoint of the run."
    )
