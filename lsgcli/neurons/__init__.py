"""Neurons: LIF with a learnable surrogate gradient, tdBN, surrogate shapes, and backends."""

from lsgcli.config.neuron import NeuronConfig
from lsgcli.neurons.lif import LIF
from lsgcli.neurons.norms import MembraneNorm, TdBatchNorm1d, TdBatchNorm2d
from lsgcli.neurons.step import LIFParameters, LIFState, initial_state, step

__all__ = [
    "LIF",
    "LIFParameters",
    "LIFState",
    "MembraneNorm",
    "NeuronConfig",
    "TdBatchNorm1d",
    "TdBatchNorm2d",
    "initial_state",
    "step",
]
