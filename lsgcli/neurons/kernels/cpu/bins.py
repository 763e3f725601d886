"""Bins of the histogram of membrane potentials, shared by the kernel and the implementation in torch. Imports nothing."""

# In units of v_th: the threshold is 1, and the paper's interval is within [-0.42, 2.42].
LOWEST, HIGHEST, BINS = -4.0, 6.0, 100
