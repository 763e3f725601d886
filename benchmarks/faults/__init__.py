"""Experiment E10 of benchmarks/plans.md: failures in scripts of several libraries, and what is said about them."""
