"""Simulated event-camera recordings of an image, or of a folder of images."""
