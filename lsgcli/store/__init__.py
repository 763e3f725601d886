"""What is kept: checkpoints, run directories, records of gradient flow, and models of a hub."""
