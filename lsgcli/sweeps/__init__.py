"""Ablations: variants of a run over several seeds, and their statistical comparison.

``plan`` defines the runs and ``paper`` the paper's tables; ``cells`` runs them, or prints them as shell commands; ``collect`` reads them
from a folder; ``statistics`` compares the rows, and ``curves`` averages their histories.
"""
