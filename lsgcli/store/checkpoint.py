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

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import torch
from msgspec import Meta, defstruct
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lsgcli import models
from lsgcli.config.fields import check, current, fields_of, renamed
from lsgcli.config.neuron import NeuronConfig
from lsgcli.config.run import FIELDS, GONE, RunConfig
from lsgcli.data.bundle import Description
from lsgcli.data.guard import other_kind, unreadable
from lsgcli.errors import CheckpointError, LsgError, some
from lsgcli.models.base import NetworkSpec, SpikingNet
from lsgcli.models.fold import fold_in_place
from lsgcli.models.quantise import unpacked
from lsgcli.registry import traits
from lsgcli.system import files, schema
from lsgcli.system.memory import is_out_of_memory
from lsgcli.system.schema import Record

FORMAT_VERSION = "1"
TEXTS = ("lsg.format_version", "lsg.config", "lsg.state")
AGAIN = "Copy the file again, or use another checkpoint of the run."


class StoredSource(TypedDict):
    """A checkpoint that a run was initialised from."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class StoredLayer(TypedDict):
    """Values of the neurons of a layer; one for all, or one for each channel."""

    threshold: float | list[float]


class StoredExport(TypedDict):
    """How ``lsg export`` wrote a file."""

    layers: dict[str, StoredLayer]
    readout: str
    trained_T: Annotated[int, Meta(ge=1, le=1024)]
    lsg: str
    mode: Literal["unroll", "step"] | None
    quantize: Literal["int8"] | None
    fold_bn: bool


def _stored(kind: type, **others: Any) -> Any:
    """The type of stored settings, of which those without a default are present; ``others`` are types of fields that are not settings."""
    fields = fields_of(kind)
    required = {name: field.type for name, field in fields.items() if field.default is dataclasses.MISSING} | others
    optional = [(name, field.type | None, None) for name, field in fields.items() if name not in required]  # type: ignore[operator]
    return defstruct(f"Stored{kind.__name__}", [*required.items(), *optional])


StoredNetwork = _stored(NetworkSpec, neuron=_stored(NeuronConfig))


class StoredConfig(TypedDict):
    """The configuration in a checkpoint or export."""

    arch: str
    model: StoredNetwork  # type: ignore[valid-type]
    folded: bool
    classes: list[str]
    settings: _stored(RunConfig)  # type: ignore[valid-type]
    data: Description
    sources: NotRequired[dict[Literal["init_from", "width_from"], StoredSource]]
    export: NotRequired[StoredExport]


Tensors = Mapping[str, Tensor]  # by name
Count = Annotated[int, Meta(ge=0)]
Pair = Annotated[list[float], Meta(min_length=2, max_length=2)]


@dataclass
class State:
    """Position of a run: the next step is ``step`` of epoch ``epoch``, both counted from 0; after the last step, the evaluation."""

    epoch: Count = 0
    step: Count = 0
    loss_sum: float = 0.0  # over this epoch's samples so far
    right: Count = 0
    seen: Count = 0
    best_accuracy: float = -1.0
    best_epoch: int = -1
    better_epoch: int = -1  # the last with a better accuracy than all before it; ``best_epoch`` may have an equal one
    seconds: float = 0.0  # elapsed in this epoch
    waited: float = 0.0  # of ``seconds``, spent waiting for data
    overflows: Count = 0  # of gradients in fp16, in consecutive steps
    flow: list[Record] = field(default_factory=list)  # light record of the epoch's last step, until its end
    extended: list[list[Count]] = field(default_factory=list)  # [epoch, epochs planned until then] of each extension
    crossings: dict[str, Pair] = field(default_factory=dict)  # of convolutions by spikes, see models.crossings
    best_chosen_on: Literal["val", "test"] = "test"  # split that selects the best epoch
    test_accuracy: float | None = None  # of an export

    def next_epoch(self) -> None:
        """Advance to the first step of the next epoch."""
        self.epoch += 1
        self.step = self.right = self.seen = 0
        self.loss_sum = self.seconds = self.waited = 0.0
        self.flow = []


@dataclass
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        weights: parameters and buffers of the network; read from integers and scales as float weights.
        config: ``model``, ``arch``, ``classes``, ``settings``, ``data``, ``folded``.
        state: fields of :class:`State`; empty for an export.
        extra: ``optim/...``, ``rng/...`` and ``raw/...`` tensors.
        sha256: digest of all tensors of the file; empty before it is written.
    """

    weights: Tensors
    config: Record
    state: Record = field(default_factory=dict)
    extra: Tensors = field(default_factory=dict)
    sha256: str = ""


def describe(model: SpikingNet, *, folded: bool = False) -> Record:
    """The part of a checkpoint's config that is required to rebuild ``model``."""
    spec = dataclasses.asdict(model.spec)
    return {"arch": spec.pop("arch"), "model": spec, "folded": folded}


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
        "lsg.config": files.json_text(checkpoint.config),
        "lsg.state": files.json_text(checkpoint.state),
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
        state: Any = schema.decode(metadata["lsg.state"], State, f"{path}: state", CheckpointError)
    if tensor_digest(tensors) != metadata.get("lsg.sha256"):
        raise _damaged(path, "SHA-256 of its tensors differs from the stored one")
    extra = {name: tensor for name, tensor in tensors.items() if name.startswith(("optim/", "rng/", "raw/"))}
    weights = unpacked({name: tensor for name, tensor in tensors.items() if name not in extra})
    return Checkpoint(weights, config, state, extra, metadata["lsg.sha256"])


def read_config(path: Path) -> Record:
    """The configuration of a checkpoint, without its tensors; as :func:`read`, but damaged tensors are not detected."""
    with _opened(path) as (_, _, config):
        return config


def read_digest(path: Path) -> str:
    """The SHA-256 of a checkpoint's tensors, as stored in its metadata; as :func:`read_config`."""
    with _opened(path) as (_, metadata, _):
        return metadata.get("lsg.sha256", "")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, str], Record]]:
    """Context of the open file, its metadata, and the configuration in them, both verified."""
    try:
        file = files.open_regular(path)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        with file:
            if kind := other_kind(path):
                found, hint = kind
                raise CheckpointError(f"{path}: found {found}, expected a checkpoint of lsg", hint)
            # safetensors opens a file twice, in between another may be moved to its path; and it needs a path in UTF-8.
            with safe_open(f"/dev/fd/{file.fileno()}", framework="pt") as stream:
                metadata = stream.metadata() or {}
                yield stream, metadata, _verified(path, metadata)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise _damaged(path, f"not a complete safetensors file ({error})") from error


def _verified(path: Path, metadata: Mapping[str, str]) -> Record:
    """The configuration in a checkpoint's metadata, which must be of this format, undamaged, and contain all required parts."""
    version = metadata.get("lsg.format_version")
    if version is None:
        raise CheckpointError(
            f"{path}: found a safetensors file without lsg's metadata, expected a checkpoint written by lsg",
            "Weights of other programs can be loaded in Python: lsgcli.models.build(...).load_state_dict(...).",
        )
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {version!r}, expected {FORMAT_VERSION!r}",
            "Use the version of lsg that wrote this file.",
        )
    if any(key not in metadata for key in TEXTS) or metadata.get("lsg.metadata_sha256") != _text_digest(metadata):
        raise _damaged(path, "SHA-256 of its metadata differs from the stored one")
    return decode_config(metadata["lsg.config"], path)


def decode_config(text: str, path: object) -> Record:
    """The configuration in the metadata of a checkpoint or export.

    Raises:
        CheckpointError: a field is missing, of another type or out of range.
    """
    config: Any = schema.decode(text, StoredConfig, f"{path}: configuration", CheckpointError)
    spec = config["model"]
    classes = config["classes"]
    known = fields_of(NetworkSpec)
    problems = [f"model.{line}" for line in check({name: value for name, value in spec.items() if name in known}, known)]
    if len(classes) != spec["num_classes"]:
        problems.append(f"classes: found {len(classes)}, expected {spec['num_classes']}, as many as the network's outputs")
    for name, idle in GONE.items():
        config["settings"].pop(name, None)
        if spec.pop(name, None) not in (None, *idle):
            problems.append(f"model.{name}: found a value, expected none: this version of lsg has no {name}")
    config["settings"] = {
        name: current(FIELDS[name], one) if name in FIELDS else one for name, one in renamed(config["settings"]).items()
    }
    for name in ("mean", "std"):
        found = config["data"].get(name)
        if found is not None and len(found) != spec["in_channels"]:
            problems += [f"data.{name}: found {len(found)} values, expected {spec['in_channels']}, one per channel"]
    if problems:
        raise CheckpointError(f"{path}: configuration: {'; '.join(problems)}", AGAIN)
    return dict(config)


def check_described(config: Record, where: object) -> None:
    """Check that a configuration describes the training data, as those of ``lsg train`` do, and not only the network.

    Raises:
        CheckpointError: it does not.
    """
    lacking = any(config["settings"].get(name) is None for name in ("dataset", "T", "method", "epochs"))
    if lacking or not {"mean", "std", "static"} <= config["data"].keys():
        raise CheckpointError(
            f"{where}: found a checkpoint without a description of its training data, expected one written by `lsg train`"
        )


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path}: not a valid checkpoint: {what}", AGAIN)


def check_unfolded(path: Path, config: Record, why: str) -> None:
    """Check that a checkpoint is not an export with tdBN folded into the convolutions; ``why`` is the hint of the CheckpointError."""
    if config["folded"]:
        raise CheckpointError(f"{path}: found an export with folded tdBN, expected a checkpoint written by training", why)


def load(path: Path | str, *, buffers_finite: bool = True) -> tuple[SpikingNet, Record]:
    """The network of a checkpoint, in evaluation mode, and its configuration. Arguments as for :func:`restored`.

    Raises:
        CheckpointError: as :func:`read` and :func:`restored`.
    """
    content = read(path)
    return restored(content, path, buffers_finite=buffers_finite), content.config


def check_finite(found: Tensors, model: SpikingNet, path: object, *, buffers: bool = True) -> None:
    """Check that tensors of a file are finite, except those that are not finite in a new network: decays of neurons that have none.

    Args:
        found: tensors of the file, by name.
        model: a new network.
        buffers: whether buffers, such as running statistics, are checked too.

    Raises:
        CheckpointError: one is not finite.
    """
    for name, own in (model.state_dict() if buffers else dict(model.named_parameters())).items():
        if name in found and not found[name].isfinite().all() and own.isfinite().all():
            raise CheckpointError(
                f"{path}: {name}: found NaN or infinity, expected finite numbers", "Use another checkpoint of the run."
            )


def restored(content: Checkpoint, path: object, *, buffers_finite: bool = True) -> SpikingNet:
    """The network of a checkpoint read from ``path``, in evaluation mode.

    Args:
        buffers_finite: whether running statistics must be finite, as evaluation requires. Those of a batch that diverged need not be.

    Raises:
        CheckpointError: this version cannot build it, or a weight is not finite.
    """
    spec = dict(content.config["model"])
    try:
        neuron = dict(spec.pop("neuron"))

        def build() -> SpikingNet:
            model = models.build(content.config["arch"], **spec, **neuron)
            return fold_in_place(model) if content.config["folded"] else model

        layers = spec.get("depth", 0) if traits("arch", content.config["arch"]).has_residual else 0
        if layers > len(content.weights):
            raise CheckpointError(
                f"model.depth: found {layers}, expected at most the {len(content.weights)} tensors of the file"
            )
        with torch.device("meta"):  # shapes only: a small file may describe a large network
            differing = _differences(content.weights, build().state_dict())
        if differing:
            raise CheckpointError(some(differing, 5))
        with torch.random.fork_rng(devices=[]):  # for initial weights, which are replaced
            model = build()
    except (LsgError, RuntimeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"{path}: cannot build its network: {getattr(error, 'message', error)}",
            "It may be from another version of lsg, or use a plug-in that is not installed.",
        ) from error
    check_finite(content.weights, model, path, buffers=buffers_finite)
    model.load_state_dict(dict(content.weights))
    return model.eval()


def _differences(found: Tensors, expected: Tensors) -> list[str]:
    """Tensors that differ in name, shape or type; torch would convert a type, and let counters be absent."""

    def described(x: Tensor | None) -> str:
        return "no such tensor" if x is None else f"{x.dtype} of shape {list(x.shape)}"

    differences = []
    for name in {**found, **expected}:
        there = described(found.get(name))
        wanted = described(expected.get(name))
        if there != wanted:
            differences.append(f"{name}: found {there}, expected {wanted}")
    return differences


def tensor_digest(tensors: Tensors) -> str:
    """SHA-256 over name, dtype, shape and bytes of each tensor, in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _text_digest(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256("\0".join(metadata[key] for key in TEXTS).encode()).hexdigest()
