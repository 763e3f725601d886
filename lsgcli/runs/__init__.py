"""Runs: training from settings to report, opening a checkpoint with its data, comparison, and a run's cost."""
