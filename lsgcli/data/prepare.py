"""From a configuration to prepared data: list, load or take from the cache, hold a validation part out."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lsgcli import registry
from lsgcli.config import RunConfig
from lsgcli.data import cache, random
from lsgcli.data.base import SPLITS, Dataset, Listing, Sample, fingerprint
from lsgcli.data.bundle import DataBundle, Rows, Split
from lsgcli.data.pool import load_all
from lsgcli.errors import DataError

__all__ = ["DataBundle", "Rows", "Split", "prepare"]

log = logging.getLogger("lsg")
Progress = Callable[[int, int], None]


def prepare(
    config: RunConfig,
    splits: tuple[str, ...] = SPLITS,
    classes: tuple[str, ...] | None = None,
    progress: Progress | None = None,
    expected: Mapping[str, Any] | None = None,
) -> DataBundle:
    """Everything that a run reads.

    Args:
        splits: ``("test",)`` reads the test part only, and only that need be there.
        classes: the labels' names, from a checkpoint; otherwise the data decide.
        progress: is called with (samples done, samples in all).
        expected: ``info`` of the data that a checkpoint was trained on. Another sensor is an error; another release or
            orientation gets a warning.

    Raises:
        ConfigError: a setting is missing.
        DataError: the data are missing, damaged, or of other classes.
    """
    dataset: Dataset = registry.get("dataset", config.dataset)(config)
    dataset.expected = expected or {}
    listing = dataset.scan(splits)
    _check_expected(listing, dataset.expected, config)
    names = _classes(listing, classes, config)
    parts = _parts(listing, splits, config)
    report = _Counter(sum(map(len, parts.values())), progress)
    loaded = {split: _split(dataset, listing, split, samples, names, report) for split, samples in parts.items()}
    train, val = loaded.get("train"), None
    mean, std = _normalisation(dataset, train)
    if train is not None:
        train, val = hold_out(train, config.val_fraction, config.split_seed)
    return DataBundle(names, train, val, loaded["test"], listing.channels, listing.static, mean, std, listing.info)


def _classes(listing: Listing, classes: tuple[str, ...] | None, config: RunConfig) -> tuple[str, ...]:
    if classes is None:
        if len(listing.classes) < 2:
            found = ", ".join(listing.classes) or "none"
            raise DataError(
                f"{config.data_dir or config.dataset}: found classes: {found}, expected at least 2", hint="Add another."
            )
        return listing.classes
    strange = [name for name in listing.classes if name not in classes]
    if strange:
        raise DataError(
            f"{config.data_dir or config.dataset}: found a class {strange[0]!r},"
            f" expected those of the checkpoint: {', '.join(classes)}",
            hint="Rename its folder, take it out, or give --data-dir the data that the checkpoint was trained for.",
        )
    return tuple(classes)


def _check_expected(listing: Listing, expected: Mapping[str, Any], config: RunConfig) -> None:
    for key, value in listing.info.items():
        if key not in expected or expected[key] == value:
            continue
        told = f"{config.data_dir or config.dataset}: found {key} {value}, expected {expected[key]} as in training"
        if key == "sensor":
            raise DataError(told, hint="Give --data-dir recordings of the same sensor.")
        log.warning("%s: results will differ", told)


def _parts(listing: Listing, splits: Sequence[str], config: RunConfig) -> dict[str, tuple[Sample, ...]]:
    parts = {split: listing.part(split) for split in splits}
    for split, samples in parts.items():
        if not samples:
            raise DataError(f"{config.data_dir or config.dataset}: found no samples of the {split} part, expected at least one")
    return parts


class _Counter:
    """Adds up what is done, for a progress callback."""

    def __init__(self, total: int, progress: Progress | None):
        self.done, self.total, self.progress = 0, total, progress

    def __call__(self, count: int) -> None:
        self.done += count
        if self.progress:
            self.progress(self.done, self.total)


def _split(
    dataset: Dataset, listing: Listing, split: str, samples: tuple[Sample, ...], names: tuple[str, ...], report: _Counter
) -> Split:
    keys = [sample.key for sample in samples]
    label = {name: i for i, name in enumerate(names)}
    y = np.array([label[listing.classes[sample.label]] for sample in samples], dtype=np.int64)
    return Split(_array(dataset, listing, split, samples, report), y, random.ids(keys), keys)


def _array(dataset: Dataset, listing: Listing, split: str, samples: tuple[Sample, ...], report: _Counter) -> np.ndarray:
    """Prepared samples (N, ...), from the cache or made and put there."""
    config, shape = dataset.config, (len(samples), *dataset.shape(listing))
    if not dataset.packed:
        out = np.empty(shape, dataset.dtype)
        load_all(dataset, listing, samples, out, 0, report)
        return out
    settings: dict[str, Any] = {
        "dataset": config.dataset,
        "split": split,
        "samples": len(samples),
        "fingerprint": fingerprint(samples),
        "preparation": dataset.preparation(),
        "info": listing.info,
    }
    path = cache.folder(config) / config.dataset / f"{split}-{cache.digest(settings)}.npy"
    found = cache.read(path, shape, dataset.dtype)
    if found is not None:
        report(len(samples))
        return found
    writer = cache.Writer(path, shape, dataset.dtype, settings)
    try:
        load_all(dataset, listing, samples, writer.array, config.workers, report)
        return writer.finish()
    finally:
        writer.discard()


def _normalisation(dataset: Dataset, train: Split | None) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    published = dataset.normalisation()
    if published is not None:
        return published
    if not dataset.static or train is None:
        return None, None
    total, square, count = np.zeros(train.x.shape[1]), np.zeros(train.x.shape[1]), 0
    for i in range(0, len(train), 1024):
        x = np.asarray(train.x[i : i + 1024], dtype=np.float64) / 255
        total += x.sum((0, 2, 3))
        square += np.square(x).sum((0, 2, 3))
        count += x.size // x.shape[1]
    mean = total / count
    # A channel that never changes has nothing to scale.
    std = np.sqrt(np.maximum(square / count - mean**2, 0.0))
    return tuple(mean.tolist()), tuple(np.where(std < 1e-6, 1.0, std).tolist())


def hold_out(train: Split, fraction: float, seed: int) -> tuple[Split, Split | None]:
    """Split a validation part off, per class, chosen by a hash of (seed, key).

    A class of n samples gives round(fraction * n) of them, but at least 1 where n >= 2, and never its last one. Which ones
    does not depend on the other samples' order, so two runs with one seed share the split.
    """
    if fraction <= 0:
        return train, None
    draw = random.uniforms(seed, 0, train.ids, 1, "validation")[:, 0]
    held = np.zeros(len(train), dtype=bool)
    for label in np.unique(train.y):
        members = np.flatnonzero(train.y == label)
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        held[members[np.argsort(draw[members], kind="stable")[:count]]] = True
    if not held.any():
        return train, None
    return train.part(np.flatnonzero(~held)), train.part(np.flatnonzero(held))
