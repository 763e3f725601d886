"""Storage: checkpoints, run directories, gradient-flow records, and checkpoints on hubs and web servers."""
