"""Backends that compute LIF neurons over a sequence, optionally with tdBN and pooling: their common interface, and ``auto``."""
