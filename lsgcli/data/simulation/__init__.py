"""Recordings without a camera: one image before a simulated one, and a whole folder of them."""
