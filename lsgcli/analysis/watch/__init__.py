"""Observation of any training script: what its networks, losses and optimisers did, without changing what they compute."""
