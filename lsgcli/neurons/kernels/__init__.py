"""Backends that compute LIF neurons over a sequence, optionally with tdBN and pooling: their common interface, ``auto``, and the test that a backend must pass."""
