"""Ablations: variants of a run over several seeds, and their statistical comparison.

``plan`` defines the runs, ``cells`` executes them, ``commands`` prints them as shell commands, ``collect`` reads them from a folder;
``statistics`` and ``sentences`` summarise the results, ``curves`` their history. ``paper`` contains the paper's tables.
"""
