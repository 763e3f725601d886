"""Verification of data: checksums, reading of every recording, and comparison with published counts."""

import functools
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lsgcli.data import manifest, parallel
from lsgcli.data.datasets.base import SPLITS, Dataset, Sample
from lsgcli.data.folders import check_folder
from lsgcli.data.guard import MissingLibrary
from lsgcli.data.summary import Recordings
from lsgcli.errors import DataError


@dataclass(frozen=True)
class Verdict:
    """Result of a verification.

    Attributes:
        path: the folder, or the name of a data set without a folder.
        manifest: whether there is a ``SHA256SUMS``; without one, the next three are empty.
        missing, changed: listed files that do not exist, or have another checksum.
        extra: files that are not listed. They are not faults.
        samples: number of recordings (or images) read.
        unreadable: name -> problem.
        counts: samples per part; ``all`` for a plain folder.
        warnings: unexpected findings that are not faults.
    """

    path: str
    manifest: bool
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    extra: tuple[str, ...]
    samples: int
    unreadable: dict[str, str]
    counts: dict[str, int]
    warnings: list[str]

    @property
    def faults(self) -> list[str]:
        """One line for each missing, changed or unreadable file."""
        return [
            *(f"missing: {name}" for name in self.missing),
            *(f"changed: {name}" for name in self.changed),
            *(f"unreadable: {problem}" for problem in self.unreadable.values()),
        ]

    def record(self) -> dict[str, Any]:
        """As JSON types."""
        return {"ok": not self.faults, **asdict(self)}


def found(path: Path) -> Recordings:
    """The recordings of a folder with a manifest, or with recordings.

    Raises:
        DataError: it does not exist, or contains neither.
    """
    check_folder(path, "a folder of recordings", "Give a folder; `lsg data info` also looks at a single recording.")
    dataset = Recordings(path).scan()
    if not (dataset.samples or (path / manifest.NAME).exists()):
        raise DataError(f"{path}: found neither recordings nor a {manifest.NAME}", hint="Give a folder of recordings.")
    return dataset


def of_dataset(
    dataset: Dataset,
    *,
    write: bool = False,
    workers: int | None = None,
    progress: parallel.Progress | None = None,
    hashing: parallel.Progress | None = None,
) -> Verdict:
    """Verify a data set: its folder, if any, each sample, and the number of samples.

    Args:
        write: instead of comparing the manifest, write a new one, if all samples can be read.
        progress: called with (samples read, total samples).
        hashing: called with (files hashed, number of files).

    Raises:
        DataError: a manifest cannot be read, or cannot be written because there is no folder or a sample cannot be read.
        StorageError: the manifest cannot be written, or it is a symbolic link.
    """
    root = dataset.home if dataset.downloads or dataset.config.data_dir is not None else None
    if write and root is None:
        raise DataError(f"{dataset.config.dataset}: is embedded in lsg, expected a folder to write {manifest.NAME} to")
    unreadable = {}
    results = parallel.each(functools.partial(_load, dataset), dataset.samples, workers, progress)
    for sample, problem in zip(dataset.samples, results, strict=True):
        if problem is not None:
            unreadable[sample.key] = problem
    report = manifest.Report()
    if root is not None and not write:
        report = manifest.check(root, hashing)
    elif root is not None and not unreadable:
        manifest.write(root, progress=hashing)
    elif unreadable:
        raise DataError(
            "\n".join(f"unreadable: {problem}" for problem in unreadable.values()),
            hint="Repair or remove these files first; no manifest was written.",
        )
    return Verdict(
        dataset.config.dataset if root is None else str(root),
        root is not None and (root / manifest.NAME).exists(),
        *report,
        samples=len(dataset.samples),
        unreadable=unreadable,
        counts=dict(Counter(sample.split for sample in dataset.samples)),
        warnings=dataset.deviations(SPLITS),
    )


def _load(dataset: Dataset, sample: Sample) -> str | None:
    """The problem of a sample; None if it can be read."""
    try:
        dataset.load(sample)
    except DataError as error:
        return error.message
    except MissingLibrary as error:
        return error.of_one_file().message
    return None
