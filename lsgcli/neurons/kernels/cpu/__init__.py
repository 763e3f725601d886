"""The kernels of the backend ``fused``, compiled by numba on first use.

``function`` is the autograd function, ``job`` the arguments of a kernel, ``workers`` the kernels, which combine for each block of
neurons the loops in ``stages`` and ``watching``; ``shapes`` has the surrogates as scalar functions, ``intrinsics`` access to memory,
``build`` compilation and caching, ``threads`` the execution on torch's threads. Only ``job`` is imported before a kernel is needed.
"""
