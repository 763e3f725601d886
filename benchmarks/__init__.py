"""Experiments, run by hand: ``python -m benchmarks.step``. Their records are in ``benchmarks/results``: ``python -m benchmarks.measuring NAME``."""
