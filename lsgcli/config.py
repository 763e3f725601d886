"""Settings of a run: type, default, meaning and bounds of each.

Command-line options, keys of configuration files, ``LSG_*`` variables, the tables of the documentation and the configuration
stored in a checkpoint are all derived from :class:`RunConfig`. To add a setting, add a field. This module defines and validates the
settings; ``lsgcli.resolve`` merges their sources.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lsgcli import applies as only
from lsgcli import registry
from lsgcli.applies import Applies
from lsgcli.errors import ConfigError


def setting(
    default: Any,
    help: str,
    panel: str,
    *,
    kind: str | None = None,
    choices: tuple[str, ...] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    flag: str | None = None,
    preset: bool = False,
    path: str | None = None,
    applies: Applies | None = None,
    check: "Callable[[Any], str | None] | None" = None,
) -> Any:
    """A field of RunConfig.

    Args:
        kind: registry whose names are the valid values.
        choices: the valid values.
        flag: option name, if not derived from the setting's name.
        preset: whether a data set's preset may override the default.
        path: ``folder`` or ``checkpoint`` if the value is a path on this machine.
        applies: condition under which the setting has an effect; None means always.
        check: function that returns what is expected, or None for a valid value.
    """
    bounds = {"at_least": at_least, "above": above, "at_most": at_most, "below": below}
    meta = {
        "help": help,
        "panel": panel,
        "kind": kind,
        "choices": choices,
        "flag": flag,
        "preset": preset,
        "path": path,
        "check": check,
        "applies": applies,
        "bounds": bounds,
    }
    return field(default=default, metadata=meta)


SENSOR = 1 << 16  # events have coordinates of 16 bits
LARGEST_SEED = (1 << 63) - 1  # accepted by torch and numpy
FLOAT32 = (1.2e-38, 3.4e38)  # range of normal float32 numbers, because settings are converted to tensors


def _sensor(text: str) -> str | None:
    fits = re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", text) and max(map(int, text.split("x"))) <= SENSOR
    return None if fits else f"WIDTHxHEIGHT in pixels, such as 128x128, at most {SENSOR} each"


def _augmentations(text: str) -> str | None:
    known = registry.names("augmentation")
    bad = [name for name in text.split(",") if name not in known and text != "none"]
    return f"'none' or a comma-separated list of {', '.join(known)}" if bad else None


DATA, NETWORK, NEURON, TRAINING, MACHINE = "Data", "Network", "Neuron", "Training", "Machine"


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run. A data set's preset may override the defaults."""

    # Data
    dataset: str = setting("digits-dvs", "Data set.", DATA, kind="dataset")
    data_dir: str | None = setting(
        None,
        "Directory of the data set, for reading and downloading. Default: data/.",
        DATA,
        path="folder",
        applies=only.FROM_FILES,
    )
    T: int = setting(4, "Timesteps.", DATA, at_least=1, at_most=1024, flag="-T", preset=True)
    size: int = setting(
        48,
        "Height and width of the network's input, in pixels.",
        DATA,
        at_least=1,
        at_most=4096,
        preset=True,
    )
    slicing: str = setting(
        "count",
        "Slicing of a recording into T frames: equal event count, equal duration, or windows of --window-us.",
        DATA,
        choices=("count", "time", "window"),
        preset=True,
        applies=only.RECORDINGS,
    )
    window_us: int = setting(
        5000, "Window length in microseconds.", DATA, at_least=1, at_most=1 << 40, preset=True, applies=only.WINDOW
    )
    window_start: str = setting(
        "first",
        "Position of the windows in a recording; random is drawn once per recording, seeded by its name.",
        DATA,
        choices=("first", "middle", "random"),
        applies=only.WINDOW,
    )
    resize: str = setting(
        "bilinear",
        "Resizing of event frames to --size: bilinear with or without antialiasing, nearest neighbour, binning of event "
        "coordinates, or centre crop or padding.",
        DATA,
        choices=("bilinear", "bilinear-aliased", "nearest", "bin", "centre"),
        preset=True,
        applies=only.RECORDINGS,
    )
    value: str = setting(
        "count",
        "Pixel values of a frame: event count, 0 or 1 (binary), or log(1 + count).",
        DATA,
        choices=("count", "binary", "log1p"),
        preset=True,
        applies=only.RECORDINGS,
    )
    normalise: str = setting(
        "none",
        "Divide event frames by their own maximum (frame) or by the maximum of all frames of the sample.",
        DATA,
        choices=("none", "frame", "sample"),
        preset=True,
        applies=only.RECORDINGS,
    )
    orientation: str = setting(
        "upright",
        "Orientation of frames relative to the data set's default: mirrored flips horizontally, rotated-90 is clockwise.",
        DATA,
        choices=(
            "upright",
            "mirrored",
            "upside-down",
            "rotated-90",
            "rotated-180",
            "rotated-270",
            "transposed",
            "anti-transposed",
        ),
        applies=only.RECORDINGS,
    )
    sensor: str | None = setting(
        None,
        "Sensor size of an event-folder, as WIDTHxHEIGHT. Default: read from the recordings.",
        DATA,
        check=_sensor,
        applies=only.OWN_SENSOR,
    )
    split: str | None = setting(
        None,
        "Test split of a data set without a published split, per class: file numbers 900-999 (last) or 0-99 (first), the last "
        "tenth in alphabetical order (lexicographic), or a random tenth drawn with --split-seed (stratified).",
        DATA,
        choices=("last", "first", "lexicographic", "stratified"),
        preset=True,
    )
    skip_bad: bool = setting(
        False, "Skip recordings and images that cannot be read, and list them.", DATA, applies=only.FROM_FILES
    )
    augment: str = setting(
        "none", "Augmentations of the training data, comma-separated, or none.", DATA, check=_augmentations, preset=True
    )
    val_fraction: float = setting(
        0.1,
        "Fraction of the training set held out, per class, as validation split, which selects the best epoch.",
        DATA,
        at_least=0.0,
        below=1.0,
        preset=True,
    )
    split_seed: int = setting(
        0,
        "Seed of the validation split and of --split stratified; independent of --seed, so that all seeds use the same split.",
        DATA,
        at_least=0,
        at_most=LARGEST_SEED,
        applies=only.SPLIT_SEED,
    )
    # Network
    arch: str = setting("vggsnn", "Network architecture.", NETWORK, kind="arch", preset=True)
    width_multiplier: float = setting(
        1.0, "Factor on all channel counts of the network.", NETWORK, above=0.0, at_most=64.0, preset=True
    )
    residual: str = setting(
        "add",
        "Residual connections: add currents before the neuron (add), or spikes after it (sew).",
        NETWORK,
        choices=("add", "sew"),
        applies=only.RESIDUAL,
    )
    init_from: str | None = setting(
        None,
        "Checkpoint of the same architecture to initialise weights and decays from, by name. The last layer is reinitialised if "
        "the classes differ, the first layer if the input channels differ.",
        NETWORK,
        path="checkpoint",
    )
    # Neuron
    method: str = setting("lsg", "How membrane decay and surrogate width are determined.", NEURON, kind="method")
    decay: float = setting(
        0.2,
        "Decay beta of the membrane potential per timestep; the initial value if beta is learned.",
        NEURON,
        above=0.0,
        below=1.0,
        applies=only.OWN_START,
    )
    threshold: float = setting(0.5, "Firing threshold v_th.", NEURON, at_least=1e-6, at_most=1e6)
    width: float = setting(
        1.0,
        "Width alpha of the surrogate gradient, in units of u.",
        NEURON,
        at_least=1e-6,
        at_most=1e6,
        applies=only.FIXED_WIDTH,
    )
    width_from: str | None = setting(
        None,
        "Checkpoint to copy the final width of each layer from; widths stay fixed and are stored in the new checkpoints.",
        NEURON,
        path="checkpoint",
        applies=only.STORED_WIDTH,
    )
    decay_per: str = setting(
        "layer",
        "One learned decay per layer, or per channel.",
        NEURON,
        choices=("layer", "channel"),
        applies=only.LEARNED_DECAY,
    )
    surrogate: str = setting("rectangular", "Shape of the surrogate gradient.", NEURON, kind="surrogate")
    # Training
    epochs: int = setting(100, "Passes over the training set.", TRAINING, at_least=1, at_most=1_000_000, preset=True)
    batch_size: int = setting(32, "Samples per optimiser step.", TRAINING, at_least=1, at_most=1 << 20, preset=True)
    optimizer: str = setting("sgd", "Optimiser for the weights.", TRAINING, choices=("sgd", "adamw"))
    lr: float = setting(0.1, "Initial learning rate, with cosine annealing to 0.", TRAINING, above=0.0, preset=True)
    momentum: float = setting(0.9, "Momentum of SGD.", TRAINING, at_least=0.0, below=1.0, applies=only.SGD)
    weight_decay: float = setting(
        5e-4,
        "Weight decay of convolution and linear weights (not applied to normalisation, biases and membrane decays).",
        TRAINING,
        at_least=0.0,
        preset=True,
    )
    decay_lr: float = setting(
        3e-4,
        "Learning rate of the membrane decays, which a separate Adam optimiser updates.",
        TRAINING,
        at_least=0.0,
        preset=True,
        applies=only.LEARNED_DECAY,
    )
    loss: str = setting("ce", "Loss function.", TRAINING, kind="loss", preset=True)
    tet_lambda: float = setting(
        1e-3, "Weight of the regularisation term of the TET loss.", TRAINING, at_least=0.0, at_most=1.0, applies=only.TET
    )
    clip_grad: float = setting(
        0.0, "Clip gradients to this global L2 norm; 0 disables clipping.", TRAINING, at_least=0.0, preset=True
    )
    accumulate: int = setting(
        1,
        "Gradient accumulation: split each batch into this many parts, which reduces memory. tdBN computes its statistics per part.",
        TRAINING,
        at_least=1,
        at_most=1 << 20,
    )
    seed: int = setting(
        0, "Seed of weight initialisation, sample order and augmentation.", TRAINING, at_least=0, at_most=LARGEST_SEED
    )
    # Machine
    device: str = setting("auto", "Device: auto (a CUDA GPU if available, otherwise the CPU), cpu, cuda, or cuda:1.", MACHINE)
    precision: str = setting(
        "auto",
        "Precision of convolutions and linear layers; membrane potentials and statistics are always fp32. auto selects bf16 if "
        "the CPU or GPU supports it natively, and fp16, with a gradient scaler, on GPUs of capability 7.x.",
        MACHINE,
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    backend: str = setting("auto", "Implementation of the neuron dynamics.", MACHINE, kind="backend")
    checkpoint_activations: str = setting(
        "none",
        "Activation checkpointing: with layers, save only the input of each layer or block and recompute the rest in the backward "
        "pass. Less memory, about a third more time, same result.",
        MACHINE,
        choices=("none", "layers"),
    )
    sync_norm: bool = setting(
        True,
        "With several devices: statistics of tdBN and of measured widths over the whole batch. Without, each device uses those of "
        "its own share, which is faster and computes something else.",
        MACHINE,
    )
    deterministic: bool = setting(False, "Use only deterministic operations, and raise an error for any other.", MACHINE)
    threads: int | None = setting(
        None,
        "CPU threads. Default: OMP_NUM_THREADS, or SLURM_CPUS_PER_TASK, limited by the CPU affinity and cgroup quota of the process.",
        MACHINE,
        at_least=1,
        at_most=1024,
    )
    workers: int = setting(
        2, "Worker processes that prepare recordings, and number of prefetched batches.", MACHINE, at_least=0, at_most=1024
    )
    cache_dir: str | None = setting(
        None, "Directory of prepared data. Default: $XDG_CACHE_HOME/lsg, or ~/.cache/lsg.", MACHINE, path="folder"
    )

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-serialisable values."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> "RunConfig":
        """A copy with the given settings replaced."""
        return dataclasses.replace(self, **changes)


FIELDS: Mapping[str, dataclasses.Field[Any]] = {f.name: f for f in dataclasses.fields(RunConfig)}

# Paths on this machine, which are not stored in checkpoints.
PATHS = frozenset(name for name, f in FIELDS.items() if f.metadata["path"])
# Settings that may change on resume, because they do not affect the result.
MAY_CHANGE = frozenset({"data_dir", "cache_dir", "workers", "device", "threads", "checkpoint_activations"})

# Settings that are not taken from a checkpoint, because they describe files and hardware of another machine.
NOT_FROM_CHECKPOINT = MAY_CHANGE | PATHS


def base_type(name: str) -> type:
    """The type of a setting without None: int, float, str or bool."""
    annotation: Any = FIELDS[name].type
    members: tuple[type, ...] = getattr(annotation, "__args__", (annotation,))
    return next(member for member in members if member is not type(None))


def option_name(name: str) -> str:
    """The option of a setting: ``--batch-size`` for ``batch_size``, ``-T`` for ``T``."""
    flag: str | None = FIELDS[name].metadata["flag"]
    return flag or "--" + name.replace("_", "-")


def option_words(name: str, value: Any) -> list[str]:
    """A setting as command-line arguments."""
    flag = option_name(name)
    if base_type(name) is bool:
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, str(value)]


def check(values: Mapping[str, Any]) -> list[str]:
    """One line for each invalid setting; empty if all are valid."""
    problems = []
    for name, value in values.items():
        if name not in FIELDS:
            problems.append(registry.unknown("setting", str(name), list(FIELDS)))
        elif value is not None:
            problem = _check_value(name, value)
            if problem:
                problems.append(problem)
    return problems


def _check_value(name: str, value: Any) -> str | None:
    meta: dict[str, Any] = dict(FIELDS[name].metadata)
    wanted = base_type(name)
    prefix = f"{option_name(name)}: found {value!r}, expected "
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted or value in ("", float("inf"), -float("inf")):
        return prefix + {int: "an integer", float: "a finite number", str: "a string", bool: "true or false"}[wanted]
    if meta["kind"] and not registry.known(meta["kind"], str(value)):
        return f"{option_name(name)}: " + registry.unknown(meta["kind"], str(value), registry.names(meta["kind"]))
    if meta["choices"] and value not in meta["choices"]:
        return prefix + " or ".join(meta["choices"])
    if meta["check"] and (expected := meta["check"](value)):
        return prefix + expected
    if isinstance(value, float) and value and not FLOAT32[0] <= abs(value) <= FLOAT32[1]:
        return prefix + "a number that float32 can represent"
    return _check_bounds(prefix, value, meta["bounds"])


def _check_bounds(prefix: str, value: Any, bounds: Mapping[str, float | None]) -> str | None:
    inside = {
        "at_least": lambda bound: value >= bound,
        "above": lambda bound: value > bound,
        "at_most": lambda bound: value <= bound,
        "below": lambda bound: value < bound,
    }
    limits = {key: bound for key, bound in bounds.items() if bound is not None}
    if all(inside[key](bound) for key, bound in limits.items()):  # false for NaN
        return None
    return prefix + " and ".join(
        f"{key.replace('_', ' ')} {bound if isinstance(bound, int) else format(bound, 'g')}" for key, bound in limits.items()
    )


def without_effect(given: Mapping[str, Any], configs: Sequence[RunConfig]) -> list[str]:
    """One line for each setting in ``given`` that has no effect in any run of ``configs``; empty if all have one."""
    rules = {name: FIELDS[name].metadata["applies"] for name in given}
    return [
        f"{option_name(name)}: found {given[name]}, which has no effect here, expected {rule.words}"
        for name, rule in rules.items()
        if rule and not any(rule.to(config) for config in configs)
    ]


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """A RunConfig from stored settings.

    Raises:
        ConfigError: a name or value is invalid in this version.
    """
    problems = check(values)
    if problems:
        raise ConfigError("\n".join(problems))
    return RunConfig(**values)


def from_checkpoint(stored: Mapping[str, Any], changes: Mapping[str, Any]) -> RunConfig:
    """The settings stored in a checkpoint, updated with ``changes``. Paths and machine settings come from ``changes`` only.

    Raises:
        ConfigError: as :func:`from_dict`.
    """
    kept = {name: value for name, value in stored["settings"].items() if name not in NOT_FROM_CHECKPOINT}
    if "export" in stored:  # exports of every format run in this precision
        kept["precision"] = "fp32"
    return from_dict({**kept, **changes})
