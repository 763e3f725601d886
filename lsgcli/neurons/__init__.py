"""Neurons: LIF with a learnable surrogate gradient, tdBN, surrogate shapes, and backends."""

from lsgcli.config import NeuronConfig
from lsgcli.neurons.neuron import LIF
from lsgcli.neurons.step import LIFParameters, LIFState, initial_state, step
from lsgcli.neurons.tdbn import MembraneNorm, TdBatchNorm1d, TdBatchNorm2d

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
