"""Readers of recordings: a parser for each format, and validation of their results."""
