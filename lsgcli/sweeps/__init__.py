"""Many runs: ablations, variants of a run over several seeds, with their statistics, and searches for the best settings.

``plan`` defines the runs of an ablation and ``paper`` the paper's tables; ``search`` and ``tune`` choose the runs of a search. ``schedule`` runs
the cells of both, in this process or as ``jobs`` of ``launchers``. ``collect`` reads an ablation from a folder, and
``statistics`` compares its rows.
"""
