"""Ablations: variants of a run, each over several seeds, and what can be concluded from them.

``plan`` says which runs there are, ``cells`` runs them, ``commands`` writes them as shell commands, ``collect`` finds them again in
a folder; ``statistics`` and ``sentences`` say what came out, ``curves`` how it came about. ``paper`` holds the paper's tables.
"""
