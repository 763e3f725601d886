"""Augmentations: one file each."""
