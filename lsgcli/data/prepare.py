"""Preparation of data: list samples, load them or read the cache, and hold out a validation split."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from lsgcli.config.data import DataConfig
from lsgcli.config.fields import Values
from lsgcli.data import cache, parallel, random
from lsgcli.data.bundle import Channels, DataBundle, Medians, Split
from lsgcli.data.datasets.base import SPLITS, Dataset, EventDataset, Sample, Splits, dataset_of, digests
from lsgcli.data.frames import saturated, warn_saturated
from lsgcli.data.guard import MissingLibrary
from lsgcli.data.parallel import NamedProgress, Progress, silent
from lsgcli.data.splits import assign, drawn
from lsgcli.errors import DataError, counted, log
from lsgcli.system import schema
from lsgcli.system.schema import Record

SHOWN = 10  # of the skipped files, at most
PREPARING = "preparing data"
EVENTS = 0.3  # events per pixel and timestep of invented recordings

Found = tuple[str, DataError | None]  # a path, and its error if already known
Loaded = np.ndarray | DataError | MissingLibrary


class LoadedNote(TypedDict):
    """Part of the note of a cache file; see :func:`load_all`."""

    left_out: dict[str, str]
    saturated: tuple[int, int]
    medians: Medians | None


def prepare(
    config: DataConfig,
    splits: Splits = SPLITS,
    classes: tuple[str, ...] | None = None,
    progress: NamedProgress | None = None,
    expected: Values | None = None,
    strict: bool = False,
    may_download: bool = True,
) -> DataBundle:
    """Prepare all data of a run.

    Args:
        config: settings of the data; those of a run also state the number of workers, and the directory of prepared data.
        splits: parts to read, ``train`` (which includes the validation split) and ``test``; no other is required.
        classes: class names from a checkpoint. Default: from the data.
        progress: called with (``PREPARING``, samples done, total samples), and during downloads with the file name and bytes.
        expected: ``info`` of the training data of a checkpoint. A different sensor is an error; a different release, orientation
            or version of lsg's data code causes a warning.
        strict: whether any such difference is an error.
        may_download: whether missing data are downloaded, if a download exists.

    Raises:
        ConfigError: a setting is missing.
        DataError: the data are missing, damaged, have other classes, or differ from the expected data.
    """
    parallel.end_in_repeated_script()
    dataset = dataset_of(config, expected=expected, may_download=may_download, progress=progress or silent)
    dataset.check()
    dataset.scan(splits)
    info = {**dataset.info, "versions": dataset.versions(dataset.samples)}
    check_expected(info, dataset.expected, config, strict)
    names = _classes(dataset, classes)
    if deviations := dataset.deviations(splits):
        log.warning("%s: %s", dataset.home, "; ".join(deviations))
    for split in splits:
        if not dataset.part(split):
            raise DataError(f"{config.data_dir or config.dataset}: found no samples of the {split} part, expected at least one")
    loaded = {}
    notes = {}
    done = 0
    total = len(dataset.samples)
    for split in splits:
        report = functools.partial(_report, dataset.progress, done, total)
        loaded[split], notes[split] = _split(dataset, split, names, report)
        done += len(dataset.part(split))
    if "train" in notes and notes["train"]["medians"] is not None:
        info["medians"] = notes["train"]["medians"]
    info |= _summary(list(notes.values()), total, math.prod(dataset.shape), config)
    train = loaded.get("train")
    val = None
    mean, std = _normalisation(dataset, train)
    if train is not None:
        train, val = hold_out(train, config.val_fraction, config.split_seed)
    test = loaded.get("test")
    files = digests(dataset.samples)
    return DataBundle(names, train, val, test, dataset.channels, dataset.static, mean, std, info, files)


def _report(progress: NamedProgress, before: int, total: int, done: int, _: int) -> None:
    progress(PREPARING, before + done, total)


def _classes(dataset: Dataset, classes: tuple[str, ...] | None) -> tuple[str, ...]:
    where = dataset.config.data_dir or dataset.config.dataset
    if classes is None:
        if len(dataset.classes) < 2:
            found = ", ".join(dataset.classes) or "none"
            raise DataError(f"{where}: found classes: {found}, expected at least 2", "Add another.")
        return dataset.classes
    if strange := [name for name in dataset.classes if name not in classes]:
        raise DataError(
            f"{where}: found a class {strange[0]!r}, expected those of the checkpoint: {', '.join(classes)}",
            "Rename or remove its folder, or give --data-dir data with the classes of the checkpoint.",
        )
    return tuple(classes)


def check_expected(info: Values, expected: Values, config: DataConfig, strict: bool) -> None:
    """Warn about differences between data and the training data of a checkpoint, in facts that both contain.

    Args:
        info: of the data, as in :class:`~lsgcli.data.bundle.DataBundle`.
        expected: of the training data of a checkpoint.
        strict: whether a difference is an error.

    Raises:
        DataError: the sensors differ, or anything differs and ``strict`` is true.
    """

    where = config.data_dir or config.dataset
    found = dict(info)
    trained = dict(expected)
    for facts in (found, trained):
        for name, version in facts.pop("versions", {}).items():
            facts[f"{name} version"] = version
    differences = {}
    for key, value in found.items():
        if key in trained and value != trained[key]:
            differences[key] = f"{where}: found {key} {value}, expected {trained[key]} as in training"
    if strict and differences:
        raise DataError("\n".join(differences.values()), "Give --data-dir the original data of the run, or start a new run.")
    if "sensor" in differences:
        raise DataError(differences["sensor"], "Give --data-dir recordings of the same sensor.")
    for line in differences.values():
        log.warning("%s: results will differ", line)


def _summary(notes: Sequence[cache.Note], count: int, size: int, config: DataConfig) -> Record:
    """Warn about skipped samples and saturated frames; returns the record for the checkpoint.

    Args:
        notes: of each split; see :func:`load_all`.
        count, size: number of samples, and of values per sample.
    """
    where = config.data_dir or config.dataset
    info = Record()
    left_out = dict[str, str]()
    values = recordings = 0
    for note in notes:
        left_out |= note["left_out"]
        values += note["saturated"][0]
        recordings += note["saturated"][1]
    if left_out:
        problems = "\n  ".join(list(left_out.values())[:SHOWN])
        log.warning("%s: skipped %s:\n  %s", where, counted(len(left_out), "unreadable sample"), problems)
        info["left_out"] = sorted(left_out)
    if values:
        warn_saturated(where, (values, count * size), (recordings, count))
        info["saturated"] = {"values": values, "recordings": recordings}
    return info


def _split(dataset: Dataset, split: str, names: tuple[str, ...], report: Progress) -> tuple[Split, cache.Note]:
    """The readable samples of a split, from the cache or added to it, and the note about them."""
    config = dataset.config
    samples = dataset.part(split)
    settings = {
        "dataset": config.dataset,
        "split": split,
        "samples": len(samples),
        "fingerprint": digests(samples)["stamps"],
        "preparation": dataset.preparation(),
        "versions": dataset.versions(samples),
        "info": dataset.info,
    }

    def fill(array: np.ndarray) -> cache.Note:
        return {**settings, **load_all(dataset, samples, array, report)}

    def usable(note: cache.Note) -> bool:
        """Whether no sample is missing, or with --skip-bad only samples that still cannot be read.

        The failure may have been caused by the disk or a system limit rather than the file.
        """
        try:
            schema.check(note, LoadedNote, "note", DataError)
        except DataError:
            return False
        missing = [sample for sample in samples if sample.key in note["left_out"]]
        return not missing or (config.skip_bad and all(isinstance(_load(dataset, sample), str) for sample in missing))

    shape = (len(samples), *dataset.shape)
    if dataset.cached:
        path = cache.folder(dataset.machine) / config.dataset / f"{split}-{cache.digest(settings)}.npy"
        array, note = cache.load(path, shape, dataset.dtype, fill, usable)
        report(len(samples), len(samples))
    else:
        array = np.empty(shape, dataset.dtype)
        note = fill(array)
    bad = note["left_out"]
    if len(bad) == len(samples):
        raise DataError(
            f"{config.data_dir}: found no readable sample of the {split} part: {next(iter(bad.values()))}",
            "Inspect one of the files with `lsg data info`.",
        )
    keys = [sample.key for sample in samples]
    labels = np.array([names.index(name) for name in dataset.classes], dtype=np.int64)
    y = labels[[sample.label for sample in samples]]
    whole = Split(array, y, random.ids(keys), keys)
    return (whole.part(np.flatnonzero([key not in bad for key in keys])) if bad else whole), note


def load_all(dataset: Dataset, samples: Sequence[Sample], out: np.ndarray, report: Progress) -> cache.Note:
    """Load ``samples`` into the rows of ``out``, in several processes if that is faster.

    Returns:
        ``left_out`` (key: problem) of samples that could not be loaded, whose rows are zeros; empty unless ``skip_bad`` is set.
        ``saturated`` [number of saturated frame values, number of recordings with such values].
        ``medians`` of the number of ``events`` and of ``duration_us`` of the recordings; None for images.

    Raises:
        DataError: a sample is damaged and ``skip_bad`` is not set.
    """
    left_out = {}
    lengths = []
    values = recordings = 0
    workers = dataset.machine.workers if dataset.cached else 0
    results = parallel.each(functools.partial(_load, dataset), samples, workers, report)
    for row, (sample, loaded) in enumerate(zip(samples, results, strict=True)):
        if isinstance(loaded, str):
            out[row] = 0
            left_out[sample.key] = loaded
            continue
        out[row], length = loaded
        if length is not None:
            lengths.append(length)
        full = 0 if dataset.static else saturated(out[row])
        values = values + full
        recordings = recordings + (full > 0)
    medians = None
    if lengths:
        events, duration = np.median(lengths, axis=0)
        medians = {"events": int(events), "duration_us": int(duration)}
    return {"left_out": left_out, "saturated": [values, recordings], "medians": medians}


def _load(dataset: Dataset, sample: Sample) -> tuple[np.ndarray, tuple[int, int] | None] | str:
    """One prepared sample and, for a recording, its number of events and duration; or the error."""
    try:
        if not isinstance(dataset, EventDataset):
            return dataset.load(sample), None
        events = dataset.events(sample)
        return dataset.frames(events, sample), (len(events), int(events.t[-1]) - int(events.t[0]) + 1)
    except DataError as error:
        if not dataset.config.skip_bad:
            raise
        return error.message


def load_file(dataset: Dataset, found: Found) -> Loaded:
    """A prepared sample from any file, or the error.

    Defined here because worker processes should not import torch.
    """
    path, problem = found
    try:
        return problem or dataset.load_file(Path(path))
    except (DataError, MissingLibrary) as error:
        return error


def _normalisation(dataset: Dataset, train: Split | None) -> tuple[Channels | None, Channels | None]:
    """Mean and standard deviation per channel of the training images."""
    if dataset.normalisation is not None:
        return dataset.normalisation
    if not dataset.static or train is None:
        return None, None
    total = np.zeros(dataset.channels)
    square = np.zeros(dataset.channels)
    for i in range(0, len(train), 1024):
        x = np.asarray(train.x[i : i + 1024], dtype=np.float64) / 255
        total += x.sum((0, 2, 3))
        square += np.square(x).sum((0, 2, 3))
    count = math.prod(train.x.shape) // dataset.channels
    mean = total / count
    # Constant channels are not scaled.
    std = np.sqrt(np.maximum(square / count - mean**2, 0.0))
    return tuple(mean.tolist()), tuple(np.where(std < 1e-6, 1.0, std).tolist())


def invent(config: DataConfig) -> DataBundle | None:
    """A published data set without its files: its classes, number and shape of samples, each with the same random values.

    Returns:
        None if the data set does not state these.
    """
    dataset = dataset_of(config)
    names = dataset.class_names
    if not (names and dataset.published):
        return None
    dataset.info = dataset.stated
    samples = []
    for part, number in dataset.published.items():
        for i in range(number):
            label = i % len(names)
            samples.append(Sample(f"{names[label]}/{part}-{i // len(names)}", label, part, None))
    if dataset.rule:
        samples = assign(samples, dataset.rule, config.split_seed)
    values = np.random.default_rng(0).random(dataset.shape)
    sample = (256 * values if dataset.static else values < EVENTS).astype(dataset.dtype)
    splits = {}
    for split in SPLITS:
        chosen = [one for one in samples if one.split == split]
        keys = [one.key for one in chosen]
        y = np.array([one.label for one in chosen], dtype=np.int64)
        x = np.broadcast_to(sample, (len(chosen), *sample.shape))
        splits[split] = Split(x, y, random.ids(keys), keys)
    train, val = hold_out(splits["train"], config.val_fraction, config.split_seed)
    mean, std = dataset.normalisation or (None, None)
    return DataBundle(names, train, val, splits["test"], dataset.channels, dataset.static, mean, std, dataset.info)


def hold_out(train: Split, fraction: float, seed: int) -> tuple[Split, Split | None]:
    """Split off a validation part, per class, by a hash of (seed, key).

    The split does not depend on the order of the samples, so runs with the same seed share it; see
    :func:`~lsgcli.data.splits.drawn`.
    """
    if fraction > 0:
        held = drawn(train.ids, train.y, fraction, seed, "validation")
        if held.any():
            return train.part(np.flatnonzero(~held)), train.part(np.flatnonzero(held))
    return train, None
