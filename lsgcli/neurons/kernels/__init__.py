"""Backends that compute LIF neurons over a sequence, optionally with tdBN and pooling: their interface, ``auto``, and their self-test."""
