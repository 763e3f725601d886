"""Training scripts that ``benchmarks/diagnose.py`` runs with and without ``lsg diagnose``: digits, in several libraries.

Each takes a number of steps and a file, into which it writes losses, seconds of each step, and its peak memory.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch

DIGITS = Path(__file__).parents[2] / "lsgcli/data/datasets/digits.npz"


class Record:
    """Steps and file of the command line, and what the steps of a script took."""

    def __init__(self):
        self.steps, self.path = int(sys.argv[1]), Path(sys.argv[2])
        self.losses, self.seconds = [], []
        self.begin = time.perf_counter()

    def batches(self, size):
        """Random batches of digits: images (size, 1, 8, 8) in [0, 1] and labels (size,)."""
        with np.load(DIGITS) as stored:
            images = torch.tensor(stored["images"], dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
            labels = torch.tensor(stored["labels"], dtype=torch.int64)
        for _ in range(self.steps):
            rows = torch.randint(len(labels), (size,))
            self.begin = time.perf_counter()
            yield images[rows], labels[rows]

    def step(self, loss):
        """Add a step, after the optimiser's."""
        self.seconds.append(time.perf_counter() - self.begin)
        self.losses.append(loss.item().hex())

    def write(self):
        """Write the file."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.path.write_text(json.dumps({"losses": self.losses, "seconds": self.seconds, "peak_kilobytes": peak}))
