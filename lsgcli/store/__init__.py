"""Storage: checkpoints, run directories, gradient-flow records, and checkpoints on the Hub."""
