"""The kernels of the backend ``fused``, compiled by numba on first use.

``shapes`` has the surrogates as scalar functions, ``intrinsics`` access to memory, ``stages`` the loops over a run of contiguous
elements, ``workers`` the kernels that combine them for each block of neurons, ``build`` compilation and caching, ``threads`` the
execution on torch's threads. Nothing here is imported before a kernel is needed.
"""
