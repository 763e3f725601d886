"""Base of all networks: specification, handling of sequences and static images, activation checkpointing."""

from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from lsgcli.config.data import DataConfig
from lsgcli.config.fields import Settings, Values, fields_of, setting
from lsgcli.config.network import NetworkConfig
from lsgcli.config.neuron import NeuronConfig
from lsgcli.errors import ConfigError
from lsgcli.models.quantise import BITS
from lsgcli.models.recompute import backward_may_follow, checkpointed
from lsgcli.neurons import LIF
from lsgcli.neurons.kernels.base import Gather
from lsgcli.neurons.layer import Draws
from lsgcli.neurons.norms import TdBatchNorm
from lsgcli.system.device import Compute
from lsgcli.system.schema import Record

LARGEST = 1 << 20  # maximum number of classes and of channels, and height of the input


class Signal(NamedTuple):
    """The output of a layer, as the next layer receives it.

    Attributes:
        channels: C.
        levels: n if every element is a multiple of 1/n: 1 for spikes and sums of spikes, n for averages of n spikes. The next layer saves
            such an input for the backward pass in bits or bytes. None if elements may be real-valued.
    """

    channels: int
    levels: int | None = None


@dataclass(frozen=True, kw_only=True)
class Sizes(Settings):
    """Sizes of the input and the output of a network.

    Args:
        T: timesteps for which a static image is presented; a sequence has its own length.
        num_classes: number of classes.
        in_channels: C of the input.
        input_size: W of the input, and H unless ``input_height`` is given.
        input_height: H of a non-square input.

    Raises:
        ConfigError: with one line for each invalid value.
    """

    T: int = field(metadata=fields_of(DataConfig)["T"].metadata)
    num_classes: int = setting(MISSING, "Number of classes.", at_least=1, at_most=LARGEST)
    in_channels: int = setting(MISSING, "C of the input.", at_least=1, at_most=LARGEST)
    input_size: int = field(metadata=fields_of(DataConfig)["size"].metadata)
    input_height: int | None = setting(None, "H of a non-square input.", at_least=1, at_most=LARGEST)

    @property
    def height(self) -> int:
        """H of the input."""
        return self.input_size if self.input_height is None else self.input_height


@dataclass(frozen=True, kw_only=True)
class NetworkSpec(NetworkConfig, Sizes):
    """Specification of a network: the settings of its section, the sizes of its input and output, and the settings of its neurons.

    Raises:
        ConfigError: with one line for each invalid value.
    """

    neuron: NeuronConfig = field(default_factory=NeuronConfig)

    @classmethod
    def of(cls, network: NetworkConfig, neuron: NeuronConfig, sizes: Sizes) -> "NetworkSpec":
        """The specification from its parts."""
        return cls(**vars(network.part(NetworkConfig)), **vars(sizes), neuron=neuron.part(NeuronConfig))

    @property
    def bits(self) -> int:
        """Bits of the weights when they are quantised."""
        return self.weight_bits or BITS

    def channels(self, full: int) -> int:
        """``full`` scaled by the width multiplier."""
        return max(1, round(full * self.width_multiplier))

    def spikes(self, channels: int, averaged: int = 1) -> Signal:
        """The signal of averages over ``averaged`` outputs of neurons."""
        return Signal(channels, averaged if self.binary else None)

    def lif(self, channels: int | None = None, norm: nn.Module | None = None, **settings: Any) -> LIF:
        """A new layer of neurons, after the tdBN ``norm`` if given; ``settings`` replace fields of ``neuron``."""
        of_network: Record = {"steps": self.T, "membrane": self.norm == "mpbn", "dropout": self.dropout_of("neurons")}
        return LIF(self.neuron, channels=channels, norm=norm, **of_network, **settings)

    def dropout_of(self, part: str) -> float:
        """Probability of dropout in a part of the network, ``classifier`` or ``neurons``."""
        return self.dropout if self.dropout_at == part else 0.0

    @property
    def binary(self) -> bool:
        """Whether the outputs of neurons are 0 or 1."""
        return not self.neuron.model.graded


class Dropout(Draws):
    """Sets elements of x (T, B, features) to 0 in training, with probability p, and divides the others by 1 - p.

    The mask is the same at all timesteps of a sample.

    Source: Srivastava et al., JMLR 2014; one mask for all timesteps: Lee et al., Frontiers in Neuroscience 2020, as in spikingjelly.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    @property
    def draws(self) -> bool:
        """Whether p is not 0."""
        return self.p > 0

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, features) -> (T, B, features)."""
        return self.dropped(x, self.p) if self.draws and self.training else x


class SpikingLayer(NamedTuple):
    """A layer of neurons and the modules that feed it.

    Attributes:
        name: name of the layer.
        lif: the neurons.
        synapse: the convolution or linear layer that feeds the neurons; if other operations lie between, the last one before them.
        norm: normalises the synapse's output, if any.
        block: a module that contains the neurons and whose output has the same mean as their spikes, if any. A hook on the neurons
            themselves would prevent a backend from fusing them.
    """

    name: str
    lif: LIF
    synapse: nn.Conv2d | nn.Linear
    norm: nn.Module | None = None
    block: nn.Module | None = None


class SpikingNet(nn.Module, ABC):
    """Base of the networks. A subclass sets ``defaults`` and ``classifier``, and implements ``__init__``, ``forward_sequence`` and ``spiking_layers``."""

    has_residual: ClassVar[bool] = False  # whether the settings ``residual``, ``depth`` and ``hidden_norm`` apply
    has_mlps: ClassVar[bool] = False  # whether the setting ``mlp_ratio`` applies
    images_only: ClassVar[bool] = False  # whether it takes images alone, because it makes their timesteps itself
    defaults: ClassVar[Values]  # arguments of NetworkSpec, unless passed to build()
    preset: ClassVar[Values] = {}  # settings that replace defaults where this network is chosen
    classifier: nn.Linear  # the last layer, whose outputs are the logits
    levels: int | None = None  # n if the inputs of the classifier are averages of n spikes; None if real-valued

    def __init__(self, spec: NetworkSpec):
        super().__init__()
        self.spec = spec
        self.dropout = Dropout(spec.dropout_of("classifier"))  # of the input of the classifier, by logits()
        self.recomputes = False  # see save_memory
        self.frozen: list[nn.Module] = []  # modules that stay in evaluation mode

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode, except for :attr:`frozen` modules, which stay in evaluation mode."""
        super().train(mode)
        for module in self.frozen:
            module.training = False
        return self

    @property
    def T(self) -> int:
        """Timesteps for which a static image is presented."""
        return self.spec.T

    def forward(self, x: Tensor) -> Tensor:
        """Logits at every step, (T, B, classes).

        Args:
            x: (T, B, C, H, W), or (B, C, H, W) for a static image that is presented at each of ``T`` steps (direct encoding).

        Raises:
            ConfigError: the shape of the input or of the logits does not match the specification.
        """
        expected = (self.spec.in_channels, self.spec.height, self.spec.input_size)
        sequences, axes = ("", (4,)) if self.images_only else ("(T, B, C, H, W) or ", (4, 5))
        if x.dim() not in axes or x.shape[-3:] != expected:
            raise ConfigError(
                f"{type(self).__name__}: found an input of shape {tuple(x.shape)}, expected {sequences}(B, C, H, W) with C, H, W = {expected}",
                hint="Build the network with the in_channels and input_size of the data.",
            )
        sequence = x if x.dim() == 5 else x.unsqueeze(0)
        T = len(x) if x.dim() == 5 else self.T
        logits = self.forward_sequence(sequence, T)
        if logits.shape != (whole := (T, sequence.shape[1], self.spec.num_classes)):
            raise ConfigError(
                f"{type(self).__name__}: found logits of shape {tuple(logits.shape)}, expected (T, B, classes) = {tuple(whole)}"
            )
        return logits

    @abstractmethod
    def forward_sequence(self, x: Tensor, T: int) -> Tensor:
        """Logits (T, B, classes) of x (T, B, C, H, W); a static image is passed as (1, B, C, H, W) with T > 1."""

    def logits(self, x: Tensor) -> Tensor:
        """Output of the classifier, (T, B, classes), for x (T, B, features), with dropout."""
        return self.classifier(self.dropout(x))

    def run_block(self, block: nn.Module, x: Tensor, *others: Any) -> Tensor:
        """Run a block; ``forward_sequence`` calls its blocks through this method.

        With :meth:`save_memory`, a block is a checkpoint, unless it has convolutions that are checkpoints themselves.
        """
        itself = any(hasattr(module, "recomputes") for module in block.modules())
        if self.recomputes and not itself and backward_may_follow(self, x):
            return checkpointed(block, [block], x, None, *others)
        return block(x, *others)

    def save_memory(self, wanted: bool = True) -> None:
        """Keep only the inputs of convolutions in training, or of blocks without any, and compute the rest again in the backward pass; or keep everything."""
        self.recomputes = wanted
        for module in self.modules():
            if hasattr(module, "recomputes"):
                module.recomputes = wanted  # type: ignore[assignment]

    def synchronise(self, gather: Gather | None) -> None:
        """Compute batch statistics over all processes that share a batch.

        Args:
            gather: returns the tensors of all processes; None for a single process.
        """
        for module in self.modules():
            if isinstance(module, (TdBatchNorm, LIF)):
                module.gather = gather

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Tell neurons that change during training which epoch begins, counted from 0, of how many. A training loop must call it."""
        for module in self.modules():
            if isinstance(module, LIF):
                module.neuron.begin_epoch(module, epoch, epochs)

    def end_step(self, skip: Tensor | None = None) -> None:
        """Update what layers measure in training, such as widths. A training loop must call it once after every optimiser step.

        Arguments as for :meth:`lsgcli.neurons.LIF.end_step`.
        """
        for module in self.modules():
            if isinstance(module, LIF):
                module.end_step(skip)

    def crossings(self, compute: Compute) -> dict[str, list[float]]:
        """The crossings of all layers that are computed by spikes, for more than one image; empty unless the choice is ``auto``."""
        if compute.convolutions.choice == "auto":
            spec = self.spec
            x = torch.zeros(self.T, 2, spec.in_channels, spec.height, spec.input_size, device=compute.device)
            with torch.no_grad(), compute.context():
                self.eval()(x)
        return compute.convolutions.crossings

    @abstractmethod
    def spiking_layers(self) -> list[SpikingLayer]:
        """The layers of neurons, in order from the input."""

    def initialise_weights(self) -> None:
        """Draw the initial weights, and store them channels-last. A constructor calls this method at its end."""
        if next(self.parameters()).is_meta:  # only shapes: initialising them would import torch's compiler
            return
        self.draw_weights()
        # Convolutions of a channels-last network are about 20 % faster on CPUs, with the same result.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def draw_weights(self) -> None:
        """Initialise all weights that feed neurons Kaiming-normal (fan_out); the last layer keeps torch's default.

        With torch's default, a linear layer without tdBN would have currents far below the threshold and silent neurons.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if self.spec.norm == "none" and module.bias is not None:
                    nn.init.zeros_(module.bias)
        for layer in self.spiking_layers():
            if isinstance(layer.synapse, nn.Linear):
                nn.init.kaiming_normal_(layer.synapse.weight, mode="fan_out", nonlinearity="relu")
                if layer.synapse.bias is not None:
                    nn.init.zeros_(layer.synapse.bias)
