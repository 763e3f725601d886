"""lsg: spiking neural networks with a learnable surrogate gradient."""

__version__ = "0.1.0"
