"""Augmentations of frames, images and recordings."""
