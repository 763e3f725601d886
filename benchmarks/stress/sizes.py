"""Rows of small files that claim or become much: networks of many timesteps and pixels, recordings of compressed arrays."""

import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.stress.fuzz import MIB
from benchmarks.stress.outside import CLAIMED, judged
from benchmarks.stress.rows import Case, forked, row
from lsgcli.data.readers import arrays
from lsgcli.data.readers import base as readers
from lsgcli.data.readers.base import TIMES
from lsgcli.runs.describe import of_checkpoint as describe
from lsgcli.store import checkpoint
from tests import exports, networks

POOLED = ("resnet19-add", "ms-resnet18", "sew-resnet18", "qkformer", "max-resnet18")
BOUND = 64 * MIB  # in place of 1 GiB, so that a case takes a second


@row(
    63,
    fault="a checkpoint that claims more timesteps, pixels, classes or channels than its weights show",
    promise="described or refused within 1 s and 300 MiB, also where pooling lets any size fit the weights",
    quick=8,
    full=120,
)
def claimed_sizes(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Checkpoints of five networks with global pooling, which claim up to 1024 timesteps and 4096 x 4096 pixels, for which `lsg show` states
    layers and multiplications; and classes or channels that their weights do not have, which are refused."""

    def cases() -> Iterator[Case]:
        logging.disable()
        for which in POOLED:
            exports.saved(which, folder / f"{which}.safetensors")
        describe(folder / f"{POOLED[0]}.safetensors")
        for number in range(count):
            path = folder / f"{POOLED[number % len(POOLED)]}.safetensors"
            config = checkpoint.read_config(path)
            fits = chance.random() < 0.7
            claim = {"T": chance.choice((256, 1024)), "input_size": 32 << chance.randrange(2, 8)}
            if not fits:
                claim = chance.choice(({"num_classes": 1 << 20}, {"in_channels": 1 << 20}, {"width_multiplier": 64.0}))
            model = {**config["model"], **claim}
            classes = [str(i) for i in range(model["num_classes"])]
            target = networks.resealed(
                path, folder / "claim.safetensors", config=json.dumps({**config, "model": model, "classes": classes})
            )
            outcome, problem = judged(lambda target=target: describe(target), target.name, CLAIMED)
            if not problem and (outcome == "read") != fits:
                problem = f"was {outcome}"
            yield Case(f"{', '.join(claim)}, {outcome}", problem and f"{path.stem}, {claim}: {problem}")

    yield from forked(cases)


def write(path: Path, kind: str, n: int) -> None:
    """Arrays of n events that compress well; the times have this type."""
    small = np.zeros(n, np.uint8)
    np.savez_compressed(path, x=small, y=small, t=small.astype(kind), p=small)


@row(
    64,
    fault="a small recording of compressed arrays that become much larger ones",
    promise="exit status 3, or read with at most 16 times the file size + 1 GiB for all that the arrays become",
    quick=10,
    full=200,
)
def unpacked_recordings(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Arrays of equal numbers in `.npz`, of uint8 or float64: a thousandth of what they unpack to. Their events need
    types of 8 bytes, indices and a sort. The bound is 64 MiB in place of 1 GiB; the memory of the process is measured."""

    def cases() -> Iterator[Case]:
        logging.disable()
        path = folder / "a.npz"
        write(path, "uint8", 3)  # so that all code is in memory
        readers.read(path)
        for number in range(count):
            kind, n = ("uint8", "float64")[number % 2], int(10 ** chance.uniform(4, 7))
            write(path, kind, n)
            bound = TIMES * path.stat().st_size + BOUND
            with mock.patch.object(arrays, "UNPACKED", BOUND):
                outcome, problem = judged(lambda: readers.read(path), path.name, bound + 8 * MIB, 5.0)
            yield Case(f"x, y, p of uint8, t of {kind}, {outcome}", problem and f"{n:,} events: {problem}")

    yield from forked(cases)
