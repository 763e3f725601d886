"""From a configuration to prepared data: list, load or take from the cache, hold a validation part out."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsgcli import registry
from lsgcli.config import RunConfig
from lsgcli.data import cache, random
from lsgcli.data.base import SPLITS, Dataset, Listing, Sample, fingerprint
from lsgcli.data.bundle import DataBundle, Rows, Split
from lsgcli.data.live import Live
from lsgcli.data.loading import load_all
from lsgcli.data.recordings import EventDataset
from lsgcli.data.splits import drawn
from lsgcli.errors import DataError

__all__ = ["DataBundle", "Rows", "Split", "prepare"]

log = logging.getLogger("lsg")
SHOWN = 10  # of the files that were left out
PREPARING = "preparing data"
Progress = Callable[[str, int, int], None]  # what, how much of it is done, how much there is; bytes where it is a download


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
        progress: is called with (``PREPARING``, samples done, samples in all), and while a file is downloaded with its name
            and bytes.
        expected: ``info`` of the data that a checkpoint was trained on. Another sensor is an error; another release or
            orientation gets a warning.

    Raises:
        ConfigError: a setting is missing.
        DataError: the data are missing, damaged, or of other classes.
    """
    dataset: Dataset = registry.get("dataset", config.dataset)(config)
    dataset.check()
    dataset.expected, dataset.downloading = expected or {}, progress
    listing = dataset.scan(splits)
    dataset.downloading = None
    _check_expected(listing, dataset.expected, config)
    names = _classes(listing, classes, config)
    parts = _parts(listing, splits, config)
    report = _Counter(sum(map(len, parts.values())), progress)
    left_out: dict[str, str] = {}
    loaded = {split: _split(dataset, listing, split, samples, names, report, left_out) for split, samples in parts.items()}
    info = {**listing.info, **_told(left_out, config)}
    train, val = loaded.get("train"), None
    mean, std = _normalisation(dataset, train)
    if train is not None:
        train, val = hold_out(train, config.val_fraction, config.split_seed)
    return DataBundle(names, train, val, loaded["test"], listing.channels, listing.static, mean, std, info)


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


def _told(left_out: dict[str, str], config: RunConfig) -> dict[str, Any]:
    """Warn about what --skip-bad left out; what the checkpoint records about it."""
    if not left_out:
        return {}
    shown = list(left_out.values())[:SHOWN]
    more = f"\n  ... and {len(left_out) - SHOWN} more" if len(left_out) > SHOWN else ""
    log.warning(
        "%s: left out %d that cannot be read:\n  %s%s",
        config.data_dir or config.dataset,
        len(left_out),
        "\n  ".join(shown),
        more,
    )
    return {"left_out": sorted(left_out)}


class _Counter:
    """Adds up what is done, for a progress callback."""

    def __init__(self, total: int, progress: Progress | None):
        self.done, self.total, self.progress = 0, total, progress

    def __call__(self, count: int) -> None:
        self.done += count
        if self.progress:
            self.progress(PREPARING, self.done, self.total)


def _split(
    dataset: Dataset,
    listing: Listing,
    split: str,
    samples: tuple[Sample, ...],
    names: tuple[str, ...],
    report: _Counter,
    left_out: dict[str, str],
) -> Split:
    keys = [sample.key for sample in samples]
    label = {name: i for i, name in enumerate(names)}
    y = np.array([label[listing.classes[sample.label]] for sample in samples], dtype=np.int64)
    live = Live(dataset, listing, samples) if isinstance(dataset, EventDataset) else None
    array, bad = _array(dataset, listing, split, samples, report)
    whole = Split(array, y, random.ids(keys), keys, live)
    if not bad:
        return whole
    left_out.update({keys[row]: problem for row, problem in bad.items()})
    if len(bad) == len(samples):
        raise DataError(
            f"{dataset.config.data_dir}: none of the {split} part can be read: {next(iter(bad.values()))}",
            hint="Look at one of the files with `lsg data info`.",
        )
    return whole.part(np.setdiff1d(np.arange(len(samples)), list(bad)))


def _array(
    dataset: Dataset, listing: Listing, split: str, samples: tuple[Sample, ...], report: _Counter
) -> tuple[np.ndarray, dict[int, str]]:
    """Prepared samples (N, ...), from the cache or made and put there, and which of them could not be read."""
    config, shape = dataset.config, (len(samples), *dataset.shape(listing))
    if not dataset.packed:
        out = np.empty(shape, dataset.dtype)
        return out, load_all(dataset, listing, samples, out, 0, report)
    settings: dict[str, Any] = {
        "dataset": config.dataset,
        "split": split,
        "samples": len(samples),
        "fingerprint": fingerprint(samples),
        "preparation": dataset.preparation(),
        "info": listing.info,
        "skip_bad": config.skip_bad,
    }
    path = cache.folder(config) / config.dataset / f"{split}-{cache.digest(settings)}.npy"
    found = _cached(path, shape, dataset)
    if found is not None:
        report(len(samples))
        return found
    writer = cache.Writer(path, shape, dataset.dtype, settings)
    try:
        bad = load_all(dataset, listing, samples, writer.array, config.workers, report)
        return writer.finish(left_out=bad), bad
    finally:
        writer.discard()


def _cached(path: Path, shape: tuple[int, ...], dataset: Dataset) -> tuple[np.ndarray, dict[int, str]] | None:
    found = cache.read(path, shape, dataset.dtype)
    if found is None or not dataset.config.skip_bad:
        return None if found is None else (found, {})
    note = cache.note(path)  # says which rows are not samples
    return None if note is None else (found, {int(row): problem for row, problem in note["left_out"].items()})


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

    Which samples does not depend on their order, so two runs with one seed share the split: see :func:`~lsgcli.data.splits.drawn`.
    """
    if fraction <= 0:
        return train, None
    held = drawn(train.ids, train.y, fraction, seed, "validation")
    if not held.any():
        return train, None
    return train.part(np.flatnonzero(~held)), train.part(np.flatnonzero(held))
