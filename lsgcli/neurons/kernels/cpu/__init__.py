"""The kernels of the backend ``fused``, compiled by numba when they are first used.

``shapes`` has the surrogates as functions of one number, ``words`` reads and writes numbers in memory, ``stages`` has the loops
over a run of contiguous elements, ``workers`` strings them together for one block of neurons after the other, ``build`` compiles
and caches, ``threads`` runs a worker on the threads of torch. Nothing here is imported before a kernel is needed.
"""
