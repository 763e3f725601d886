"""The kernels of the backend ``fused``, compiled by numba on first use.

``function`` is the autograd function, ``job`` the arguments of a kernel. ``workers`` contains the kernels, which run the loops of ``stages``
and ``watching`` on each block of neurons, ``timestep`` that of a stream; ``packing`` and ``rows`` convolve spikes; ``shapes`` the surrogates
as scalar functions; ``intrinsics`` access to memory; ``build`` compilation and caching; ``threads`` execution on torch's threads. Only
``job`` is imported before a kernel is needed.
"""
