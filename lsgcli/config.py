"""Every setting of a run, in one place: its type, default, meaning and bounds.

The command line's options, the keys of a configuration file, the ``LSG_*`` variables, the tables of the documentation and
the configuration stored in a checkpoint are all derived from :class:`RunConfig`. To add a setting, add a field.
``lsgcli.resolve`` lays the sources over each other; here is what the settings are and when they are valid.
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
    """A field of RunConfig: ``kind`` names a registry, ``choices`` a fixed list, the bounds a range, ``check`` a function
    that returns what was expected instead (or None), ``preset`` says that a data set may bring a default of its own,
    ``applies`` when the setting has an effect, if not always; and ``path`` that it names a ``folder`` or a ``checkpoint`` of this
    machine."""
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
LARGEST_SEED = (1 << 63) - 1  # that torch and numpy take
FLOAT32 = (1.2e-38, 3.4e38)  # normal numbers; settings end up in tensors


def _sensor(text: str) -> str | None:
    fits = re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", text) and max(map(int, text.split("x"))) <= SENSOR
    return None if fits else f"width x height in pixels, such as 128x128, of at most {SENSOR} each"


def _augmentations(text: str) -> str | None:
    known = registry.names("augmentation")
    bad = [name for name in text.split(",") if name not in known and text != "none"]
    return f"'none' or a comma-separated list of {', '.join(known)}" if bad else None


DATA, NETWORK, NEURON, TRAINING, MACHINE = "Data", "Network", "Neuron", "Training", "Machine"


@dataclass(frozen=True)
class RunConfig:
    """One run, completely described. A data set's preset may change the defaults."""

    # Data
    dataset: str = setting("digits-dvs", "Data set.", DATA, kind="dataset")
    data_dir: str | None = setting(
        None,
        "Folder the data set is read from, or downloaded to; data/ if not given.",
        DATA,
        path="folder",
        applies=only.FROM_FILES,
    )
    T: int = setting(4, "Timesteps.", DATA, at_least=1, at_most=1024, flag="-T", preset=True)
    size: int = setting(
        48,
        "Height and width of the frames or images that the network sees, in pixels.",
        DATA,
        at_least=1,
        at_most=4096,
        preset=True,
    )
    slicing: str = setting(
        "count",
        "How a recording is cut into T frames: slices of equal event count, of equal duration, or windows of --window-us.",
        DATA,
        choices=("count", "time", "window"),
        preset=True,
        applies=only.RECORDINGS,
    )
    window_us: int = setting(
        5000, "Length of a window, in microseconds.", DATA, at_least=1, at_most=1 << 40, preset=True, applies=only.WINDOW
    )
    window_start: str = setting(
        "first",
        "Where the windows lie in a recording; random is drawn once per recording, from its name.",
        DATA,
        choices=("first", "middle", "random"),
        applies=only.WINDOW,
    )
    resize: str = setting(
        "bilinear",
        "How event frames reach --size: bilinear with antialias or without, the nearest pixel, the events' coordinates "
        "binned, or the centre of the sensor, cut or padded.",
        DATA,
        choices=("bilinear", "bilinear-aliased", "nearest", "bin", "centre"),
        preset=True,
        applies=only.RECORDINGS,
    )
    value: str = setting(
        "count",
        "What a frame holds: how many events, whether there were any, or log(1 + count).",
        DATA,
        choices=("count", "binary", "log1p"),
        preset=True,
        applies=only.RECORDINGS,
    )
    normalise: str = setting(
        "none",
        "Divide event frames by the maximum of each frame, or of the whole sample.",
        DATA,
        choices=("none", "frame", "sample"),
        preset=True,
        applies=only.RECORDINGS,
    )
    orientation: str = setting(
        "upright",
        "How to turn recordings, from how the data set shows them: mirrored exchanges left and right, rotated-90 is clockwise.",
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
        "Sensor of an event-folder, as WIDTHxHEIGHT; found from the recordings if not given.",
        DATA,
        check=_sensor,
        applies=only.OWN_SENSOR,
    )
    split: str | None = setting(
        None,
        "Test part of a data set that has no published one: of each class, the numbers 900-999 (last) or 0-99 (first) of the "
        "file names, the last tenth in alphabetical order, or a tenth drawn by --split-seed (stratified).",
        DATA,
        choices=("last", "first", "lexicographic", "stratified"),
        preset=True,
    )
    skip_bad: bool = setting(
        False, "Leave out recordings and images that cannot be read, and list them.", DATA, applies=only.FROM_FILES
    )
    augment: str = setting(
        "none", "Augmentations of the training data, comma-separated, or none.", DATA, check=_augmentations, preset=True
    )
    val_fraction: float = setting(
        0.1,
        "Share of the training set held out, per class, to choose the best epoch on.",
        DATA,
        at_least=0.0,
        below=1.0,
        preset=True,
    )
    split_seed: int = setting(
        0,
        "Seed of the validation split and of --split stratified; apart from --seed, so that seeds share one split.",
        DATA,
        at_least=0,
        at_most=LARGEST_SEED,
        applies=only.SPLIT_SEED,
    )
    # Network
    arch: str = setting("vggsnn", "Network.", NETWORK, kind="arch", preset=True)
    width_multiplier: float = setting(
        1.0, "Scales all channel counts of the network.", NETWORK, above=0.0, at_most=64.0, preset=True
    )
    residual: str = setting(
        "add",
        "Residual blocks add currents before the neuron, or spikes after it (sew).",
        NETWORK,
        choices=("add", "sew"),
        applies=only.RESIDUAL,
    )
    init_from: str | None = setting(
        None,
        "Checkpoint of the same network whose weights and decays this one starts from, by name. The last layer starts new where "
        "the classes differ, the first where the input does.",
        NETWORK,
        path="checkpoint",
    )
    # Neuron
    method: str = setting("lsg", "How decay and surrogate width are set.", NEURON, kind="method")
    decay: float = setting(
        0.2,
        "Decay beta of the membrane potential per timestep; where it is learned, its start.",
        NEURON,
        above=0.0,
        below=1.0,
        applies=only.OWN_START,
    )
    threshold: float = setting(0.5, "Firing threshold v_th.", NEURON, at_least=1e-6, at_most=1e6)
    width: float = setting(
        1.0, "Width alpha of the surrogate, in units of u.", NEURON, at_least=1e-6, at_most=1e6, applies=only.FIXED_WIDTH
    )
    width_from: str | None = setting(
        None,
        "Checkpoint whose final widths, layer by layer, the new network keeps. The new run's checkpoints carry them.",
        NEURON,
        path="checkpoint",
        applies=only.STORED_WIDTH,
    )
    decay_per: str = setting(
        "layer",
        "One decay for each layer of neurons, or for each of its channels.",
        NEURON,
        choices=("layer", "channel"),
        applies=only.LEARNED_DECAY,
    )
    surrogate: str = setting("rectangular", "Shape of the surrogate gradient.", NEURON, kind="surrogate")
    # Training
    epochs: int = setting(100, "Passes over the training set.", TRAINING, at_least=1, at_most=1_000_000, preset=True)
    batch_size: int = setting(32, "Samples per step.", TRAINING, at_least=1, at_most=1 << 20, preset=True)
    optimizer: str = setting("sgd", "Optimiser of the weights.", TRAINING, choices=("sgd", "adamw"))
    lr: float = setting(0.1, "Learning rate at the start; a cosine takes it to 0.", TRAINING, above=0.0, preset=True)
    momentum: float = setting(0.9, "Momentum.", TRAINING, at_least=0.0, below=1.0, applies=only.SGD)
    weight_decay: float = setting(
        5e-4,
        "Weight decay of convolution and linear weights (never of norms, biases and decays).",
        TRAINING,
        at_least=0.0,
        preset=True,
    )
    decay_lr: float = setting(
        3e-4,
        "Learning rate of the neurons' decay parameters, which have an Adam of their own.",
        TRAINING,
        at_least=0.0,
        preset=True,
        applies=only.LEARNED_DECAY,
    )
    loss: str = setting("ce", "Loss.", TRAINING, kind="loss", preset=True)
    tet_lambda: float = setting(
        1e-3, "Weight of the regularising term of the TET loss.", TRAINING, at_least=0.0, at_most=1.0, applies=only.TET
    )
    clip_grad: float = setting(
        0.0, "Scale gradients down to this global L2 norm; 0 leaves them alone.", TRAINING, at_least=0.0, preset=True
    )
    accumulate: int = setting(
        1,
        "Parts that a batch is computed in, one after the other, for one step: less memory; tdBN takes its statistics of each part.",
        TRAINING,
        at_least=1,
        at_most=1 << 20,
    )
    seed: int = setting(0, "Seed of weights, order and augmentation.", TRAINING, at_least=0, at_most=LARGEST_SEED)
    # Machine
    device: str = setting("auto", "Where to compute: auto (a CUDA GPU where there is one), cpu, cuda, cuda:1.", MACHINE)
    precision: str = setting(
        "auto",
        "fp32, or bf16 for convolutions and linears (membrane potentials and statistics stay fp32); auto is bf16 where the "
        "processor or GPU has instructions for it.",
        MACHINE,
        choices=("auto", "fp32", "bf16"),
    )
    backend: str = setting("auto", "Implementation of the neurons.", MACHINE, kind="backend")
    checkpoint_activations: str = setting(
        "none",
        "layers: keep only what enters each layer or block, and compute the rest again in the backward pass; less memory, about "
        "a third more time, the same result.",
        MACHINE,
        choices=("none", "layers"),
    )
    deterministic: bool = setting(False, "Refuse operations that may give other bits when run again.", MACHINE)
    threads: int | None = setting(
        None,
        "CPU threads; if not given, OMP_NUM_THREADS or else SLURM_CPUS_PER_TASK where one is set, and in any case no more than the "
        "CPU affinity and the cgroup quota of the process allow.",
        MACHINE,
        at_least=1,
        at_most=1024,
    )
    workers: int = setting(
        2, "Processes that prepare recordings, and batches prepared ahead of the step.", MACHINE, at_least=0, at_most=1024
    )
    cache_dir: str | None = setting(
        None, "Folder of prepared data; ~/.cache/lsg (or $XDG_CACHE_HOME/lsg) if not given.", MACHINE, path="folder"
    )

    def to_dict(self) -> dict[str, Any]:
        """All settings as JSON types."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> "RunConfig":
        """A copy with some settings changed."""
        return dataclasses.replace(self, **changes)


FIELDS: Mapping[str, dataclasses.Field[Any]] = {f.name: f for f in dataclasses.fields(RunConfig)}

# Paths of this machine, which a checkpoint does not carry.
PATHS = frozenset(name for name, f in FIELDS.items() if f.metadata["path"])
# What may differ when a run goes on: where things are, not what is computed.
MAY_CHANGE = frozenset({"data_dir", "cache_dir", "workers", "device", "threads", "checkpoint_activations"})

# What a checkpoint does not decide where it is used: files and machine are of whoever uses it.
NOT_FROM_CHECKPOINT = MAY_CHANGE | PATHS


def base_type(name: str) -> type:
    """int, float, str or bool: the type of a setting, None aside."""
    annotation: Any = FIELDS[name].type
    members: tuple[type, ...] = getattr(annotation, "__args__", (annotation,))
    return next(member for member in members if member is not type(None))


def option_name(name: str) -> str:
    """The setting's name in the command line: ``batch_size`` is ``--batch-size``, ``T`` is ``-T``."""
    flag: str | None = FIELDS[name].metadata["flag"]
    return flag or "--" + name.replace("_", "-")


def option_words(name: str, value: Any) -> list[str]:
    """A setting as words of a command line."""
    flag = option_name(name)
    if base_type(name) is bool:
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, str(value)]


def check(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with the given settings: one line each, empty if nothing is."""
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
    told = f"{option_name(name)}: found {value!r}, expected "
    if wanted is float and type(value) is int:
        value = float(value)
    if type(value) is not wanted or value in ("", float("inf"), -float("inf")):
        return told + {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false"}[wanted]
    if meta["kind"] and not registry.known(meta["kind"], str(value)):
        return f"{option_name(name)}: " + registry.unknown(meta["kind"], str(value), registry.names(meta["kind"]))
    if meta["choices"] and value not in meta["choices"]:
        return told + " or ".join(meta["choices"])
    if meta["check"] and (expected := meta["check"](value)):
        return told + expected
    if isinstance(value, float) and value and not FLOAT32[0] <= abs(value) <= FLOAT32[1]:
        return told + "a number that a float32 holds"
    return _check_bounds(told, value, meta["bounds"])


def _check_bounds(told: str, value: Any, bounds: Mapping[str, float | None]) -> str | None:
    inside = {
        "at_least": lambda bound: value >= bound,
        "above": lambda bound: value > bound,
        "at_most": lambda bound: value <= bound,
        "below": lambda bound: value < bound,
    }
    limits = {key: bound for key, bound in bounds.items() if bound is not None}
    if all(inside[key](bound) for key, bound in limits.items()):  # NaN is inside nothing
        return None
    return told + " and ".join(
        f"{key.replace('_', ' ')} {bound if isinstance(bound, int) else format(bound, 'g')}" for key, bound in limits.items()
    )


def without_effect(given: Mapping[str, Any], configs: Sequence[RunConfig]) -> list[str]:
    """Which of the ``given`` settings have no effect in any run of ``configs``: one line each, empty if all have one."""
    rules = {name: FIELDS[name].metadata["applies"] for name in given}
    return [
        f"{option_name(name)}: found {given[name]}, which has no effect here, expected {rule.words}"
        for name, rule in rules.items()
        if rule and not any(rule.to(config) for config in configs)
    ]


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """A RunConfig from stored settings.

    Raises:
        ConfigError: a name or value that this version does not know.
    """
    problems = check(values)
    if problems:
        raise ConfigError("\n".join(problems))
    return RunConfig(**values)


def from_checkpoint(stored: Mapping[str, Any], changes: Mapping[str, Any]) -> RunConfig:
    """The settings of a checkpoint's configuration with ``changes``, which alone decide on files and machine.

    Raises:
        ConfigError: as :func:`from_dict`.
    """
    kept = {name: value for name, value in stored["settings"].items() if name not in NOT_FROM_CHECKPOINT}
    if "export" in stored:  # in the precision that its other formats run in
        kept["precision"] = "fp32"
    return from_dict({**kept, **changes})
