"""Neurons: LIF with a learnable surrogate gradient, tdBN, surrogate shapes, and backends."""

from lsgcli.neurons.lif import LIF
from lsgcli.neurons.step import LIFParameters, LIFState, initial_state, step
from lsgcli.neurons.tdbn import TdBatchNorm1d, TdBatchNorm2d

__all__ = ["LIF", "LIFParameters", "LIFState", "TdBatchNorm1d", "TdBatchNorm2d", "initial_state", "step"]
