"""A data set and settings so small that a whole training takes a second."""

import dataclasses
import os
from pathlib import Path

import numpy as np
from PIL import Image

from lsgcli.config.run import RunConfig
from lsgcli.data import random
from lsgcli.data.bundle import DataBundle, Split

PRECISION = os.environ.get("LSGCLI_TEST_PRECISION", "fp32")  # of trainings, where a test does not say
CLASSES = ("left", "right", "top")


def config(**changes) -> RunConfig:
    settings = {
        "T": 3,
        "size": 16,
        "arch": "vggsnn",
        "width_multiplier": 1 / 16,
        "epochs": 3,
        "batch_size": 8,
        "lr": 0.05,
        "decay_lr": 5e-3,
        "augment": "roll",
        "workers": 0,
    }
    return RunConfig(**{**settings, **changes})


def split(n: int, name: str, T: int = 3, size: int = 16) -> Split:
    """n recordings of a blob that lies left, right or at the top, in noise."""
    rng = np.random.default_rng([n, *name.encode()])
    y = np.arange(n) % len(CLASSES)
    x = rng.poisson(0.1, (n, T, 2, size, size)).astype(np.uint8)
    half = size // 2
    where = [(slice(None), slice(0, half)), (slice(None), slice(half, None)), (slice(0, half), slice(None))]
    for i, label in enumerate(y):
        x[i][:, 0][:, *where[label]] += rng.poisson(1.5, x[i][:, 0][:, *where[label]].shape).astype(np.uint8)
    keys = [f"{name}/{CLASSES[label]}/{i}" for i, label in enumerate(y)]
    return Split(x, y.astype(np.int64), random.ids(keys), keys)


def image_bundle(n: int = 48) -> DataBundle:
    """The same as images: sums over time."""
    frames = bundle(n=n)
    parts = {name: dataclasses.replace(part, x=part.x.sum(1, dtype=np.uint8)) for name, part in frames.parts.items()}
    return dataclasses.replace(frames, **parts, static=True, mean=(0.5, 0.5), std=(1.0, 1.0), info={})


def bundle(val: bool = True, n: int = 48) -> DataBundle:
    parts = {"train": split(n, "train"), "val": split(12, "val") if val else None, "test": split(15, "test")}
    return DataBundle(CLASSES, **parts, channels=2, static=False, mean=None, std=None, info={"sensor": [16, 16]})


def images(root: Path, count: int = 16, test: int = 6, size: int = 16, noise: int = 120, colour: int = 120) -> Path:
    """An image folder of three classes.

    Args:
        root: new folder.
        count, test: training and test images of each class.
        size: height and width.
        noise: pixels are random below this, plus ``colour`` in the channel of the class.
    """
    rng = np.random.default_rng(0)
    for split, n in (("train", count), ("test", test)):
        for channel, name in enumerate(("red", "green", "blue")):
            (root / split / name).mkdir(parents=True)
            for index in range(n):
                pixels = rng.integers(0, noise, (size, size, 3), dtype=np.uint8)
                pixels[..., channel] += colour
                Image.fromarray(pixels).save(root / split / name / f"{index:02}.png")
    return root
