"""Losses over a sequence of logits: one file each."""
