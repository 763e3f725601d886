"""Loggers, which copy the records of a run to other programs: ``--log csv,tensorboard,...``."""
