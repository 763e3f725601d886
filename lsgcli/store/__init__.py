"""What is kept: checkpoints, run directories, and models of a hub."""
