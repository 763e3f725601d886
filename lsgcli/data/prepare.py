"""Preparation of data: list samples, load them or read the cache, and hold out a validation split."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lsgcli import registry
from lsgcli.config import RunConfig
from lsgcli.data import cache, random
from lsgcli.data.bundle import DataBundle, Split
from lsgcli.data.datasets.base import SPLITS, Dataset, EventDataset, Progress, Sample, fingerprint
from lsgcli.data.frames import FULL
from lsgcli.data.live import Live
from lsgcli.data.loading import Outcome, load_all, readable
from lsgcli.data.splits import drawn
from lsgcli.errors import DataError

log = logging.getLogger("lsg")
SHOWN = 10  # of the skipped files
PREPARING = "preparing data"


def prepare(
    config: RunConfig,
    splits: tuple[str, ...] = SPLITS,
    classes: tuple[str, ...] | None = None,
    progress: Progress | None = None,
    expected: Mapping[str, Any] | None = None,
    strict: bool = False,
) -> DataBundle:
    """Prepare all data of a run.

    Args:
        splits: ``("test",)`` reads only the test part, and requires no other.
        classes: class names from a checkpoint. Default: from the data.
        progress: called with (``PREPARING``, samples done, total samples), and during downloads with the file name and bytes.
        expected: ``info`` of the training data of a checkpoint. A different sensor is an error; a different release, orientation
            or version of lsg's data code causes a warning.
        strict: whether any such difference is an error.

    Raises:
        ConfigError: a setting is missing.
        DataError: the data are missing, damaged, have other classes, or differ from the expected data.
    """
    dataset: Dataset = registry.get("dataset", config.dataset)(config, expected=expected, progress=progress)
    dataset.check()
    dataset.scan(splits)
    info = {**dataset.info, "versions": dataset.versions(dataset.samples)}
    check_expected(info, dataset.expected, config, strict)
    names = _classes(dataset, classes)
    parts = _parts(dataset, splits)
    report = _Counter(sum(map(len, parts.values())), progress)
    found = {split: _split(dataset, split, samples, names, report) for split, samples in parts.items()}
    loaded = {split: one for split, (one, _) in found.items()}
    outcomes = {split: outcome for split, (_, outcome) in found.items()}
    if "train" in outcomes and outcomes["train"].medians is not None:
        info["medians"] = dict(zip(("events", "duration_us"), outcomes["train"].medians, strict=True))
    info |= _left_out(outcomes, parts, config) | _saturated(outcomes, parts, math.prod(dataset.shape), config)
    train, val = loaded.get("train"), None
    mean, std = _normalisation(dataset, train)
    if train is not None:
        train, val = hold_out(train, config.val_fraction, config.split_seed)
    return DataBundle(names, train, val, loaded["test"], dataset.channels, dataset.static, mean, std, info)


def _classes(dataset: Dataset, classes: tuple[str, ...] | None) -> tuple[str, ...]:
    config = dataset.config
    if classes is None:
        if len(dataset.classes) < 2:
            found = ", ".join(dataset.classes) or "none"
            raise DataError(
                f"{config.data_dir or config.dataset}: found classes: {found}, expected at least 2", hint="Add another."
            )
        return dataset.classes
    strange = [name for name in dataset.classes if name not in classes]
    if strange:
        raise DataError(
            f"{config.data_dir or config.dataset}: found a class {strange[0]!r},"
            f" expected those of the checkpoint: {', '.join(classes)}",
            hint="Rename or remove its folder, or give --data-dir data with the classes of the checkpoint.",
        )
    return tuple(classes)


def check_expected(info: Mapping[str, Any], expected: Mapping[str, Any], config: RunConfig, strict: bool) -> None:
    """Warn about differences between data and the training data of a checkpoint, in facts that both contain.

    Args:
        info: of the data, as in :class:`~lsgcli.data.bundle.DataBundle`.
        expected: of the training data of a checkpoint.
        strict: whether a difference is an error.

    Raises:
        DataError: the sensors differ, or anything differs and ``strict`` is true.
    """
    found, trained = _flat(info), _flat(expected)
    differing = [key for key in found if key in trained and found[key] != trained[key]]
    where = config.data_dir or config.dataset
    differences = {key: f"{where}: found {key} {found[key]}, expected {trained[key]} as in training" for key in differing}
    if strict and differences:
        raise DataError(
            "\n".join(differences.values()), hint="Give --data-dir the original data of the run, or start a new run."
        )
    if "sensor" in differences:
        raise DataError(differences["sensor"], hint="Give --data-dir recordings of the same sensor.")
    for line in differences.values():
        log.warning("%s: results will differ", line)


def _flat(info: Mapping[str, Any]) -> dict[str, Any]:
    """With an entry for each version."""
    versions = {f"{name} version": version for name, version in info.get("versions", {}).items()}
    return {key: value for key, value in info.items() if key != "versions"} | versions


def _parts(dataset: Dataset, splits: Sequence[str]) -> dict[str, tuple[Sample, ...]]:
    config, parts = dataset.config, {split: dataset.part(split) for split in splits}
    for split, samples in parts.items():
        if not samples:
            raise DataError(f"{config.data_dir or config.dataset}: found no samples of the {split} part, expected at least one")
    return parts


def _left_out(outcomes: Mapping[str, Outcome], parts: Mapping[str, Sequence[Sample]], config: RunConfig) -> dict[str, Any]:
    """Warn about samples skipped by --skip-bad; returns the record for the checkpoint."""
    problems = {
        parts[split][row].key: problem for split, outcome in outcomes.items() for row, problem in outcome.left_out.items()
    }
    if not problems:
        return {}
    shown = list(problems.values())[:SHOWN]
    more = f"\n  ... and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    log.warning(
        "%s: skipped %d unreadable samples:\n  %s%s",
        config.data_dir or config.dataset,
        len(problems),
        "\n  ".join(shown),
        more,
    )
    return {"left_out": sorted(problems)}


def _saturated(
    outcomes: Mapping[str, Outcome], parts: Mapping[str, Sequence[Sample]], size: int, config: RunConfig
) -> dict[str, Any]:
    """Warn about saturated frames, with ``size`` values per sample; returns the record for the checkpoint."""
    values, recordings = (sum(outcome.saturated[i] for outcome in outcomes.values()) for i in (0, 1))
    if not values:
        return {}
    count = sum(map(len, parts.values()))
    log.warning(
        "%s: %s of %s values, in %s of %s recordings, saturate at %d, so events may be lost;"
        " use --value log1p, a larger --size or -T, or --resize bilinear",
        config.data_dir or config.dataset,
        *(f"{number:,}" for number in (values, count * size, recordings, count)),
        FULL,
    )
    return {"saturated": {"values": values, "recordings": recordings}}


class _Counter:
    """Accumulates the number of finished samples for a progress callback."""

    def __init__(self, total: int, progress: Progress | None):
        self.done, self.total, self.progress = 0, total, progress

    def __call__(self, count: int) -> None:
        self.done += count
        if self.progress:
            self.progress(PREPARING, self.done, self.total)


def _split(
    dataset: Dataset, split: str, samples: tuple[Sample, ...], names: tuple[str, ...], report: _Counter
) -> tuple[Split, Outcome]:
    keys = [sample.key for sample in samples]
    label = {name: i for i, name in enumerate(names)}
    y = np.array([label[dataset.classes[sample.label]] for sample in samples], dtype=np.int64)
    live = Live(dataset, samples) if isinstance(dataset, EventDataset) else None
    array, outcome = _array(dataset, split, samples, report)
    whole, bad = Split(array, y, random.ids(keys), keys, live), outcome.left_out
    if not bad:
        return whole, outcome
    if len(bad) == len(samples):
        raise DataError(
            f"{dataset.config.data_dir}: found no readable sample of the {split} part: {next(iter(bad.values()))}",
            hint="Inspect one of the files with `lsg data info`.",
        )
    return whole.part(np.setdiff1d(np.arange(len(samples)), list(bad))), outcome


def _array(dataset: Dataset, split: str, samples: tuple[Sample, ...], report: _Counter) -> tuple[np.ndarray, Outcome]:
    """Prepared samples (N, ...), read from the cache or added to it, and the outcome of loading."""
    config, shape = dataset.config, (len(samples), *dataset.shape)
    if not dataset.packed:
        out = np.empty(shape, dataset.dtype)
        return out, load_all(dataset, samples, out, 0, report)
    settings: dict[str, Any] = {
        "dataset": config.dataset,
        "split": split,
        "samples": len(samples),
        "fingerprint": fingerprint(samples),
        "preparation": dataset.preparation(),
        "versions": dataset.versions(samples),
        "info": dataset.info,
    }
    path = cache.folder(config) / config.dataset / f"{split}-{cache.digest(settings)}.npy"
    found = _cached(path, shape, dataset, samples)
    if found is not None:
        report(len(samples))
        return found
    writer = cache.Writer(path, shape, dataset.dtype, settings)
    try:
        outcome = load_all(dataset, samples, writer.array, config.workers, report)
        if outcome.left_out:
            writer.path = _partial(path)
        return writer.finish(**outcome.note()), outcome
    finally:
        writer.discard()


def _partial(path: Path) -> Path:
    """Cache file for data with skipped samples, which only --skip-bad may use."""
    return path.with_name(f"{path.stem}-partial.npy")


def _cached(
    path: Path, shape: tuple[int, ...], dataset: Dataset, samples: Sequence[Sample]
) -> tuple[np.ndarray, Outcome] | None:
    array, outcome = cache.read(path, shape, dataset.dtype), Outcome.noted(cache.note(path), len(samples)) or Outcome()
    if array is not None and not outcome.left_out:
        return array, outcome
    if not dataset.config.skip_bad:
        return None
    path = _partial(path)
    array, partial = cache.read(path, shape, dataset.dtype), Outcome.noted(cache.note(path), len(samples))
    # The failure may have been caused by the disk or a system limit rather than the file.
    if array is None or partial is None or any(readable(dataset, samples[row]) for row in partial.left_out):
        return None
    return array, partial


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
    # Constant channels are not scaled.
    std = np.sqrt(np.maximum(square / count - mean**2, 0.0))
    return tuple(mean.tolist()), tuple(np.where(std < 1e-6, 1.0, std).tolist())


def hold_out(train: Split, fraction: float, seed: int) -> tuple[Split, Split | None]:
    """Split off a validation part, per class, by a hash of (seed, key).

    The split does not depend on the order of the samples, so runs with the same seed share it; see
    :func:`~lsgcli.data.splits.drawn`.
    """
    if fraction <= 0:
        return train, None
    held = drawn(train.ids, train.y, fraction, seed, "validation")
    if not held.any():
        return train, None
    return train.part(np.flatnonzero(~held)), train.part(np.flatnonzero(held))
