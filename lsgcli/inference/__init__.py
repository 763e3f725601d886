"""Predictions for files and streams."""
