"""Settings of a run: type, default, meaning and bounds of each.

Command-line options, keys of configuration files, ``LSG_*`` variables, the tables of the documentation and the configuration
stored in a checkpoint are all derived from the sections of :class:`RunConfig`. To add a setting, add a field to its section.
``lsgcli.config.resolve`` merges the sources of the values.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsgcli import registry
from lsgcli.config import fields as settings
from lsgcli.config import recipes
from lsgcli.config.fields import Applies, Settings, having, setting, when
from lsgcli.errors import CheckpointError, ConfigError

CONFIG = "config.json"  # the settings of a run, in its directory
SENSOR = 1 << 16  # events have coordinates of 16 bits
LARGEST_SEED = (1 << 63) - 1  # accepted by torch and numpy
INT8 = "int8"  # precision of evaluation and prediction on CPUs, in which training refuses to run


def _sensor(text: str) -> str | None:
    fits = re.fullmatch(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}", text) and max(map(int, text.split("x"))) <= SENSOR
    return None if fits else f"WIDTHxHEIGHT in pixels, such as 128x128, at most {SENSOR} each"


FROM_FILES = having("dataset", "embedded", "a --dataset read from files, such as event-folder or image-folder", wanted=False)
RECORDINGS = having("dataset", "static", "a --dataset of recordings", wanted=False)
WINDOW = RECORDINGS & when("slicing", "window")
RESNET19 = having("arch", "has_residual", "--arch resnet19")
TRANSFORMER = having("arch", "has_mlps", "--arch qkformer or qkformer-dvs")
LEARNED_DECAY = having("method", "learns_decay", "a --method that learns the decay")
MIXED = Applies("--mixup or --cutmix", lambda config: config.mixup > 0 or config.cutmix > 0)
COSINE = when("schedule", "cosine")
STEPS = when("schedule", "step")
LIF_ONLY = when("neuron", "lif")


@dataclass(frozen=True)
class DataConfig(Settings):
    """Data set, and its conversion to the input of the network."""

    dataset: str = setting("digits-dvs", "Data set.", kind="dataset")
    data_dir: str | None = setting(
        None, "Directory of the data set, for reading and downloading. Default: data/.", path="folder", applies=FROM_FILES
    )
    T: int = setting(4, "Timesteps.", at_least=1, at_most=1024, preset=True)
    size: int = setting(48, "Height and width of the network's input, in pixels.", at_least=1, at_most=4096, preset=True)
    slicing: str = setting(
        "count",
        "Slicing of a recording into T frames: equal event count, equal duration, or windows of --window-us.",
        choices=("count", "time", "window"),
        preset=True,
        applies=RECORDINGS,
    )
    window_us: int = setting(5000, "Window length in microseconds.", at_least=1, at_most=1 << 40, preset=True, applies=WINDOW)
    window_start: str = setting(
        "first",
        "Position of the windows in a recording; random is drawn once per recording, seeded by its name.",
        choices=("first", "middle", "random"),
        applies=WINDOW,
    )
    resize: str = setting(
        "bilinear",
        "Resizing of event frames to --size: bilinear with or without antialiasing, nearest neighbour, binning of event "
        "coordinates, or centre crop or padding.",
        choices=("bilinear", "bilinear-aliased", "nearest", "bin", "centre"),
        preset=True,
        applies=RECORDINGS,
    )
    value: str = setting(
        "count",
        "Pixel values of a frame: event count, 0 or 1 (binary), or log(1 + count).",
        choices=("count", "binary", "log1p"),
        preset=True,
        applies=RECORDINGS,
    )
    normalise: str = setting(
        "none",
        "Divide event frames by their own maximum (frame) or by the maximum of all frames of the sample.",
        choices=("none", "frame", "sample"),
        preset=True,
        applies=RECORDINGS,
    )
    orientation: str = setting(
        "upright",
        "Orientation of frames relative to the data set's default: mirrored flips horizontally, rotated-90 is clockwise.",
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
        applies=RECORDINGS,
    )
    sensor: str | None = setting(
        None,
        "Sensor size of an event-folder, as WIDTHxHEIGHT. Default: read from the recordings.",
        check=_sensor,
        applies=having("dataset", "takes_sensor", "a --dataset of unknown sensor size: event-folder"),
    )
    split: str | None = setting(
        None,
        "Test split of a data set without a published split, per class: file numbers 900-999 (last) or 0-99 (first), the last "
        "tenth in alphabetical order (lexicographic), or a random tenth drawn with --split-seed (stratified).",
        choices=("last", "first", "lexicographic", "stratified"),
        preset=True,
    )
    skip_bad: bool = setting(False, "Skip recordings and images that cannot be read, and list them.", applies=FROM_FILES)
    augment: str = setting(
        "none",
        "Augmentations of the training data, comma-separated, or none.",
        kind="augmentation",
        several=True,
        preset=True,
    )
    mixup: float = setting(
        0.0,
        "Mixup: average pairs of training samples and their labels, with a weight from Beta(a, a) per batch, where a is this value; "
        "0 disables it.",
        at_least=0.0,
        at_most=100.0,
    )
    cutmix: float = setting(
        0.0,
        "CutMix: replace a box of each training sample by that of another one, with a relative area from Beta(a, a) per batch; 0 "
        "disables it. With --mixup as well, each batch uses one of the two, with equal probability.",
        at_least=0.0,
        at_most=100.0,
    )
    mix_prob: float = setting(
        1.0, "Probability that a batch is mixed by --mixup or --cutmix.", above=0.0, at_most=1.0, applies=MIXED
    )
    mix_until: int | None = setting(
        None, "Number of epochs with --mixup and --cutmix. Default: all.", at_least=1, at_most=1_000_000, applies=MIXED
    )
    val_fraction: float = setting(
        0.1,
        "Fraction of the training set held out, per class, as validation split, which selects the best epoch.",
        at_least=0.0,
        below=1.0,
        preset=True,
    )
    split_seed: int = setting(
        0,
        "Seed of the validation split and of --split stratified; independent of --seed, so that all seeds use the same split.",
        at_least=0,
        at_most=LARGEST_SEED,
        applies=Applies(
            "--split stratified or a --val-fraction above 0", lambda c: c.split == "stratified" or c.val_fraction > 0
        ),
    )


@dataclass(frozen=True)
class NetworkConfig(Settings):
    """Architecture and initialisation."""

    arch: str = setting("vggsnn", "Network architecture.", kind="arch", preset=True)
    width_multiplier: float = setting(1.0, "Factor on all channel counts of the network.", above=0.0, at_most=64.0, preset=True)
    residual: str = setting(
        "add",
        "Residual connections: add currents before the neuron (add) or spikes after it (sew), or none: a plain network.",
        choices=("add", "sew", "none"),
        applies=RESNET19,
    )
    depth: int = setting(
        19,
        "Layers with weights: 3, and 2 per block; the blocks are spread evenly over the three stages.",
        at_least=9,
        at_most=999,
        check=lambda depth: None if depth % 2 else "an odd number",
        applies=RESNET19,
    )
    hidden_norm: bool = setting(
        False, "Normalise the current of the neurons after the hidden linear layer, with --norm.", applies=RESNET19
    )
    mlp_ratio: int | None = setting(
        None,
        "Channels inside the MLPs of a transformer, as a multiple of those outside. Default: 4 for qkformer, 1 for qkformer-dvs.",
        at_least=1,
        at_most=64,
        applies=TRANSFORMER,
    )
    norm: str = setting("tdbn", "Normalisation between convolution and neurons.", kind="norm")
    weight_bits: int | None = setting(
        None,
        "Train with weights rounded to 8 or 4 bits, symmetric per output channel, and straight-through gradients. Default: not rounded.",
        check=lambda bits: None if bits in (4, 8) else "4 or 8",
    )
    dropout: float = setting(
        0.0,
        "Dropout: probability with which an input of the last layer is 0 in training, at all timesteps of a sample.",
        at_least=0.0,
        below=1.0,
    )
    dropout_at: str = setting(
        "classifier",
        "What --dropout sets to 0: inputs of the last layer (classifier), or outputs of all layers of neurons (neurons).",
        choices=("classifier", "neurons"),
        applies=Applies("--dropout above 0", lambda config: config.dropout > 0),
    )
    init_from: str | None = setting(
        None,
        "Checkpoint of the same architecture (a path, hf:USER/NAME or https://...) to initialise weights and decays from, by name. "
        "The last layer is reinitialised if the classes differ, the first layer if the input channels differ.",
        path="checkpoint",
    )
    width_from: str | None = setting(
        None,
        "Checkpoint to copy the final width of each layer from; widths stay fixed and are stored in the new checkpoints.",
        path="checkpoint",
        applies=having("method", "stores_width", "--method matched-width"),
    )


@dataclass(frozen=True)
class NeuronConfig(Settings):
    """Settings of the neurons of all layers; see :class:`lsgcli.neurons.LIF`."""

    neuron: str = setting("lif", "Model of the neurons.", kind="neuron")
    method: str = setting("lsg", "How membrane decay and surrogate width are determined.", kind="method")
    decay: float = setting(
        0.2,
        "Decay beta of the membrane potential per timestep; the initial value if beta is learned.",
        above=0.0,
        below=1.0,
        applies=Applies("random initialisation: no --init-from", lambda config: config.init_from is None),
    )
    threshold: float = setting(0.5, "Firing threshold v_th; the initial value if v_th is learned.", at_least=1e-6, at_most=1e6)
    threshold_learned: bool = setting(
        False,
        "Learn one threshold per layer, with the optimiser of the decays.",
        applies=Applies(
            "a neuron and a method without thresholds of their own (not glif, trsg, ds-atgo or ds-atgo-paper)",
            lambda config: (
                config.neuron != "glif"
                and not (method := registry.get("method", config.method)).relative
                and not method.sets_threshold
            ),
        ),
    )
    reset: str = setting(
        "hard",
        "Reset of the membrane potential after a spike: to 0 (hard), by subtraction of v_th (soft), or none.",
        choices=("hard", "soft", "none"),
        applies=LIF_ONLY,
    )
    detach_reset: bool = setting(
        False,
        "Omit the gradient through the spikes in the reset.",
        applies=LIF_ONLY & Applies("--reset hard or soft", lambda config: config.reset != "none"),
    )
    input_gain: str = setting(
        "1", "Factor on the input current: 1, or 1-beta as in spikingjelly's decay_input.", choices=("1", "1-beta")
    )
    init_potential: str = setting(
        "zero",
        "Membrane potential before the first timestep: zero, or measured, the running average of what remains after the last "
        "timestep in neurons that fired (MP-Init).",
        choices=("zero", "measured"),
        applies=LIF_ONLY,
    )
    width: float = setting(
        1.0,
        "Width alpha of the surrogate gradient, in units of u; the initial value if alpha is learned.",
        at_least=1e-6,
        at_most=1e6,
        applies=having(
            "method", "takes_width", "a --method with a given width: none, trainable-decay, asgl, ds-atgo, ds-atgo-paper"
        ),
    )
    width_as: str = setting(
        "log",
        "The parameter of the learned width alpha: ln alpha (log), or 4 / alpha, which is k in sigmoid(k x) (slope).",
        choices=("log", "slope"),
        applies=having("method", "draws", "--method asgl"),
    )
    smooth: float = setting(
        0.1,
        "Probability with which a neuron passes on the integral of the surrogate instead of a spike, in training.",
        at_least=0.0,
        at_most=1.0,
        applies=having("method", "draws", "--method asgl"),
    )
    decay_per: str = setting(
        "layer", "One learned decay per layer, or per channel.", choices=("layer", "channel"), applies=LEARNED_DECAY
    )
    surrogate: str = setting("rectangular", "Shape of the surrogate gradient.", kind="surrogate")
    backend: str = setting(
        "auto",
        "Implementation of the neuron dynamics.",
        kind="backend",
        applies=LIF_ONLY
        & having("method", "stepwise", "a --method other than asgl, ds-atgo and ds-atgo-paper", wanted=False)
        & Applies("a --norm other than mpbn", lambda config: config.norm != "mpbn"),
    )


LEARNED_NEURONS = Applies(
    "neurons with parameters: a --method that learns the decay, --threshold-learned, or --neuron glif or klif",
    lambda config: (
        config.threshold_learned
        or registry.get("method", config.method).learns_decay
        or registry.get("neuron", config.neuron).learns
    ),
)


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """Optimisation and loss."""

    recipe: str | None = setting(
        None, "Published training recipe; its values replace presets and defaults.", choices=tuple(recipes.names())
    )
    epochs: int = setting(100, "Passes over the training set.", at_least=1, at_most=1_000_000, preset=True)
    batch_size: int = setting(32, "Samples per optimiser step.", at_least=1, at_most=1 << 20, preset=True)
    optimizer: str = setting("sgd", "Optimiser for the weights.", choices=("sgd", "adamw"))
    lr: float = setting(0.1, "Learning rate that --schedule starts from.", above=0.0, preset=True)
    schedule: str = setting(
        "cosine",
        "Learning rate over training: a cosine from --lr to --lr-floor, or --lr multiplied by --step-factor every --step-epochs.",
        choices=("cosine", "step"),
    )
    lr_floor: float = setting(
        0.0, "Learning rate at the end of the cosine, as a fraction of --lr.", at_least=0.0, at_most=1.0, applies=COSINE
    )
    cooldown_epochs: int = setting(
        0,
        "Last epochs, with a constant learning rate, after the end of the cosine.",
        at_least=0,
        at_most=1_000_000,
        applies=COSINE,
    )
    step_epochs: int = setting(
        30, "Epochs between two steps of the learning rate.", at_least=1, at_most=1_000_000, applies=STEPS
    )
    step_factor: float = setting(0.1, "Factor of each step of the learning rate.", above=0.0, at_most=1.0, applies=STEPS)
    warmup_epochs: int = setting(
        0,
        "First epochs, in which the learning rate rises linearly to --lr. They count as epochs of the schedule.",
        at_least=0,
        at_most=1_000_000,
    )
    warmup_start: float = setting(
        0.01,
        "Learning rate at the start of the warm-up, as a fraction of --lr.",
        at_least=0.0,
        at_most=1.0,
        applies=Applies("--warmup-epochs above 0", lambda config: config.warmup_epochs > 0),
    )
    momentum: float = setting(0.9, "Momentum of SGD.", at_least=0.0, below=1.0, applies=when("optimizer", "sgd"))
    weight_decay: float = setting(
        5e-4,
        "Weight decay; not applied to membrane decays.",
        at_least=0.0,
        preset=True,
    )
    weight_decay_on: str = setting(
        "weights",
        "Parameters with weight decay: the weights of convolutions and linear layers, or all, with normalisation and biases.",
        choices=("weights", "all"),
        applies=Applies("--weight-decay above 0", lambda config: config.weight_decay > 0),
    )
    decay_lr: float = setting(
        3e-4,
        "Learning rate of the parameters of the neurons (decays, thresholds, ...), which a separate Adam optimiser updates.",
        at_least=0.0,
        preset=True,
        applies=LEARNED_NEURONS,
    )
    loss: str = setting("ce", "Loss function.", kind="loss", preset=True)
    tet_lambda: float = setting(
        1e-3, "Weight of the regularisation term of the TET loss.", at_least=0.0, at_most=1.0, applies=when("loss", "tet")
    )
    tet_target: str = setting(
        "one",
        "Target of the logits in the regularisation term of the TET loss: 1 for all classes (one), or the one-hot label.",
        choices=("one", "one-hot"),
        applies=when("loss", "tet"),
    )
    label_smoothing: float = setting(
        0.0,
        "Label smoothing: mix the training labels with a uniform distribution of this weight.",
        at_least=0.0,
        below=1.0,
        applies=Applies("a --loss other than mse", lambda config: config.loss != "mse"),
    )
    clip_grad: float = setting(0.0, "Clip gradients to this global L2 norm; 0 disables clipping.", at_least=0.0, preset=True)
    ema: float = setting(
        0.0,
        "Decay per step of an exponential moving average of weights and running statistics, which is then the network of the run: "
        "evaluated, selected and saved, with the trained weights as raw/... in its checkpoints. 0 disables it.",
        at_least=0.0,
        below=1.0,
    )
    accumulate: int = setting(
        1,
        "Gradient accumulation: split each batch into this many parts, which reduces memory. tdBN computes its statistics per part.",
        at_least=1,
        at_most=1 << 20,
    )
    seed: int = setting(0, "Seed of weight initialisation, sample order and augmentation.", at_least=0, at_most=LARGEST_SEED)


@dataclass(frozen=True)
class MachineConfig(Settings):
    """Hardware, precision, directories and loggers, which hardly affect results."""

    device: str = setting("auto", "Device: auto (a CUDA GPU if available, otherwise the CPU), cpu, cuda, or cuda:1.")
    precision: str = setting(
        "auto",
        "Precision of convolutions and linear layers; membrane potentials and statistics are always fp32. auto selects bf16 if "
        "the CPU or GPU computes it faster than fp32, and fp16, with a gradient scaler, on GPUs of capability 7.x.",
        choices=("auto", "fp32", "bf16", "fp16", INT8),
    )
    checkpoint_activations: str = setting(
        "none",
        "Activation checkpointing: with layers, save only the input of each layer or block and recompute the rest in the backward "
        "pass. Less memory, about a third more time, same result.",
        choices=("none", "layers"),
    )
    sync_norm: bool = setting(
        True,
        "With several devices: statistics of tdBN and of measured widths over the whole batch. Without, each device uses those of "
        "its own share, which is faster and computes something else.",
    )
    deterministic: bool = setting(False, "Use only deterministic operations, and raise an error for any other.")
    threads: int | None = setting(
        None,
        "CPU threads, at most the usable CPUs (CPU affinity and cgroup quota of the process). Default: the usable CPUs, limited by "
        "OMP_NUM_THREADS, or SLURM_CPUS_PER_TASK, and by torch's own number, usually one per physical core.",
        at_least=1,
        at_most=1024,
    )
    workers: int = setting(
        2,
        "Worker processes that prepare recordings, and number of prefetched batches, at most the usable CPUs.",
        at_least=0,
        at_most=1024,
    )
    cache_dir: str | None = setting(
        None, "Directory of prepared data. Default: $XDG_CACHE_HOME/lsg, or ~/.cache/lsg.", path="folder"
    )
    log: str = setting("none", "Programs that also record the run, comma-separated, or none.", kind="logger", several=True)


@dataclass(frozen=True)
class RunConfig(MachineConfig, TrainingConfig, NeuronConfig, NetworkConfig, DataConfig):
    """All settings of a run, those of its sections. A data set's preset may override the defaults."""

    @property
    def data_folder(self) -> Path:
        """``--data-dir``, or ``data`` in the working directory."""
        return Path(self.data_dir or "data")

    @property
    def neurons(self) -> NeuronConfig:
        """The settings of the neurons."""
        return NeuronConfig(**{name: getattr(self, name) for name in settings.fields_of(NeuronConfig)})

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-serialisable values."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> "RunConfig":
        """A copy with the given settings replaced."""
        return dataclasses.replace(self, **changes)


FIELDS: Mapping[str, dataclasses.Field[Any]] = settings.fields_of(RunConfig)
SECTIONS: Mapping[str, type[Settings]] = {
    "Data": DataConfig,
    "Network": NetworkConfig,
    "Neuron": NeuronConfig,
    "Training": TrainingConfig,
    "Machine": MachineConfig,
}

# Paths on this machine, which are not stored in checkpoints.
PATHS = frozenset(name for name, field in FIELDS.items() if field.metadata["path"])
# Settings that may change on resume, because they do not affect the result.
MAY_CHANGE = frozenset({"data_dir", "cache_dir", "workers", "device", "threads", "checkpoint_activations", "log"})


def base_type(name: str) -> type:
    """The type of a setting without None: int, float, str or bool."""
    return settings.type_of(FIELDS[name])


def option_name(name: str) -> str:
    """The option of a setting: ``--batch-size`` for ``batch_size``, ``-T`` for ``T``."""
    return "-" + name if len(name) == 1 else "--" + name.replace("_", "-")


def option_words(name: str, value: Any) -> list[str]:
    """A setting as command-line arguments."""
    flag = option_name(name)
    if base_type(name) is bool:
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, str(value)]


def check(values: Mapping[str, Any]) -> list[str]:
    """One line for each invalid setting; empty if all are valid."""
    return settings.check(values, FIELDS)


def without_effect(given: Mapping[str, Any], configs: Sequence[RunConfig]) -> list[str]:
    """One line for each setting in ``given`` that has no effect in any run of ``configs``; empty if all have one."""
    rules: dict[str, Applies | None] = {name: FIELDS[name].metadata["applies"] for name in given}
    return [
        f"{option_name(name)}: found {given[name]!r}, which has no effect here, expected {rule.words}"
        for name, rule in rules.items()
        if rule and not any(rule.to(config) for config in configs)
    ]


def from_dict(values: Mapping[str, Any]) -> RunConfig:
    """A RunConfig from stored settings; None stands for the default.

    Raises:
        ConfigError: a name or value is invalid in this version.
    """
    if problems := check(values):
        raise ConfigError("\n".join(problems))
    return RunConfig(**{name: value for name, value in values.items() if value is not None})


def from_checkpoint(path: Path | str, stored: Mapping[str, Any], changes: Mapping[str, Any]) -> RunConfig:
    """The settings stored in the checkpoint ``path``, updated with ``changes``. Paths and machine settings come from ``changes`` only.

    Raises:
        CheckpointError: a stored setting is invalid in this version.
        ConfigError: a change is invalid.
    """
    kept = {name: value for name, value in stored["settings"].items() if name not in MAY_CHANGE | PATHS}
    if "export" in stored:  # exports of every format run in this precision
        kept["precision"] = "fp32"
    if problems := check({name: value for name, value in kept.items() if name not in changes}):
        raise CheckpointError(
            f"{path}: " + "\n".join(f"settings of the checkpoint: {line}" for line in problems),
            hint="It may be from another version of lsg, or use a plug-in that is not installed.",
        )
    return from_dict({**kept, **changes})
