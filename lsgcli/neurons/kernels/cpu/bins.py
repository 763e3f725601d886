"""Bins of the histogram of membrane potentials, for the kernel and for whoever counts with torch. Imports nothing."""

# In units of v_th: 1 is the threshold, and the paper's interval lies within [-0.42, 2.42].
LOWEST, HIGHEST, BINS = -4.0, 6.0, 100
