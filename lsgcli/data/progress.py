"""Types of functions that report progress."""

from collections.abc import Callable

Progress = Callable[[int, int], None]  # amount done, total
NamedProgress = Callable[[str, int, int], None]  # description, amount done, total (0 if unknown)
