"""Launchers, which run the jobs of an ablation: one file each."""
