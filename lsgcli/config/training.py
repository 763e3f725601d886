"""Settings of the training."""

from dataclasses import dataclass

from lsgcli.config import recipes
from lsgcli.config.fields import LARGEST_SEED, Applies, Settings, setting, when
from lsgcli.registry import takes

COSINE = when("schedule", "cosine")
WEIGHTED = Applies(
    "a --loss that takes them: ce or tet",
    lambda config: takes("loss", config.loss, "weights"),
)
STEPS = when("schedule", "step")


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """Optimisation and loss."""

    recipe: str | None = setting(
        None, "Published training recipe; its values replace presets and defaults.", choices=" ".join(recipes.names())
    )
    epochs: int = setting(100, "Passes over the training set.", at_least=1, at_most=1_000_000, preset=True)
    patience: int | None = setting(
        None,
        "Finish early, after this many epochs without a better validation accuracy. The learning rate follows the schedule of --epochs "
        "all the same.",
        at_least=1,
        at_most=1_000_000,
    )
    batch_size: int = setting(
        32,
        "Samples per optimiser step. Each epoch, in a new order, drops its last batch if that is incomplete and not the only one.",
        at_least=1,
        at_most=1 << 20,
        preset=True,
    )
    freeze: str | None = setting(
        None,
        "Comma-separated patterns of names of layers, modules or parameters, such as conv1,conv2 or features.[0-3], that stay as they are: "
        "no updates and no weight decay, running statistics neither updated nor replaced by those of the batch.",
    )
    test_every_epoch: bool = setting(
        False,
        "Also evaluate the test part after every epoch, to state by how much its best epoch would flatter the result; it selects nothing. "
        "Without effect where the test part is not read: --no-test, `lsg tune`.",
    )
    overfit: int | None = setting(
        None,
        "For finding faults: train on the first N batches only, without augmentation and mixing, and evaluate on the same samples, which a "
        "network that can learn classifies completely.",
        at_least=1,
        at_most=1_000_000,
    )
    optimizer: str = setting("sgd", "Optimiser for the weights.", choices="sgd adamw")
    lr: float = setting(0.1, "Learning rate that --schedule starts from.", above=0.0, preset=True)
    schedule: str = setting(
        "cosine",
        "Learning rate over training: a cosine from --lr to --lr-floor, or --lr multiplied by --step-factor every --step-epochs.",
        choices="cosine step",
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
        choices="weights all",
        applies=Applies("--weight-decay above 0", lambda config: config.weight_decay > 0),
    )
    decay_lr: float = setting(
        3e-4,
        "Learning rate of the parameters of the neurons (decays, thresholds, ...), which a separate Adam optimiser updates.",
        at_least=0.0,
        preset=True,
    )
    loss: str = setting("ce", "Loss function.", kind="loss", preset=True)
    tet_lambda: float = setting(
        1e-3, "Weight of the regularisation term of the TET loss.", at_least=0.0, at_most=1.0, applies=when("loss", "tet")
    )
    tet_target: str = setting(
        "one",
        "Target of the logits in the regularisation term of the TET loss: 1 for all classes (one), or the one-hot label.",
        choices="one one-hot",
        applies=when("loss", "tet"),
    )
    class_weights: str = setting(
        "none",
        "Weights of classes in the loss: none, or balanced, n/(K n_k) for class k with n_k of n training samples. Losses of evaluations "
        "are without.",
        choices="none balanced",
        applies=WEIGHTED,
    )
    label_smoothing: float = setting(
        0.0,
        "Label smoothing: mix the training labels with a uniform distribution of this weight.",
        at_least=0.0,
        below=1.0,
        applies=Applies("a --loss other than mse", lambda config: config.loss != "mse"),
    )
    rate_target: float | None = setting(
        None,
        "Firing rate, the mean number of spikes per neuron and timestep, above which a layer is penalised.",
        above=0.0,
        below=1.0,
    )
    rate_weight: float = setting(
        10.0,
        "Weight in the loss of the sum over layers of the squared excess of their firing rate over --rate-target.",
        above=0.0,
        applies=Applies("--rate-target", lambda config: config.rate_target is not None),
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
