"""Measurements of speed, run by hand: ``python -m benchmarks.data``. Their results are committed in ``benchmarks/results``."""
