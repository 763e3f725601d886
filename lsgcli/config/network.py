"""Settings of the network, and of what it starts from."""

from dataclasses import dataclass

from lsgcli.config.fields import Applies, Settings, having, setting, when

RATED = ("spikeinit", "fluctuation", "measured")  # initialisations that depend on a firing rate
RESNET19 = having("arch", "has_residual", "--arch resnet19")


@dataclass(frozen=True)
class NetworkConfig(Settings):
    """Architecture; see :class:`lsgcli.models.base.NetworkSpec`."""

    arch: str = setting("vggsnn", "Network architecture.", kind="arch", preset=True)
    width_multiplier: float = setting(1.0, "Factor on all channel counts of the network.", above=0.0, at_most=64.0, preset=True)
    residual: str = setting(
        "add",
        "Residual connections: add currents before the neuron (add) or spikes after it (sew), or none: a plain network.",
        choices="add sew none",
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
        "Channels inside the MLPs of a transformer, as a multiple of those outside. Default: 4, or 1 for qkformer-dvs.",
        at_least=1,
        at_most=64,
        applies=having("arch", "has_mlps", "--arch qkformer or qkformer-dvs"),
    )
    norm: str = setting("tdbn", "Normalisation between convolution and neurons.", kind="norm", preset=True)
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
        choices="classifier neurons",
        applies=Applies("--dropout above 0", lambda config: config.dropout > 0),
    )


@dataclass(frozen=True)
class StartConfig(Settings):
    """What a network starts from: random weights, or checkpoints."""

    init_from: str | None = setting(
        None,
        "Checkpoint of the same architecture (a path or hf:USER/NAME) to initialise weights and decays from, by name. "
        "The last layer is reinitialised if the classes differ, the first layer if the input channels differ.",
        path="checkpoint",
    )
    init: str = setting(
        "kaiming",
        "Initial weights: Kaiming-normal, or of a scale that follows from the neurons (see docs/without-norm.md); measured scales each layer on a "
        "batch until it fires at --init-rate.",
        choices="kaiming spikeinit micheli ding fluctuation measured",
        applies=when("norm", "none"),
    )
    init_rate: float = setting(
        0.1,
        "Firing rate that --init starts from.",
        at_least=1e-3,
        at_most=0.4,
        applies=Applies("--init spikeinit, fluctuation or measured", lambda config: config.init in RATED),
    )
    width_from: str | None = setting(
        None,
        "Checkpoint to copy the final width of each layer from; widths stay fixed and are stored in the new checkpoints.",
        path="checkpoint",
    )
