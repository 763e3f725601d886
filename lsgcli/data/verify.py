"""Verification of data: checksums, reading of every recording, and comparison with published counts."""

import functools
import os
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lsgcli.data import manifest, parallel
from lsgcli.data.datasets.base import SPLITS, Dataset, Sample
from lsgcli.data.folders import check_folder, visible
from lsgcli.data.guard import MissingLibrary
from lsgcli.data.summary import Recordings
from lsgcli.errors import DataError
from lsgcli.system import files


@dataclass(frozen=True)
class Verdict:
    """Result of a verification.

    Attributes:
        path: the folder, or the name of a data set without a folder.
        folder: whether it is a folder.
        manifests: each ``SHA256SUMS`` in it or one level below; without any, the next three are empty.
        missing, changed: listed files that do not exist, or have another checksum.
        extra: files in the folder of a manifest that are not listed. They are not faults.
        samples: number of recordings (or images) read.
        unreadable: name -> problem.
        counts: samples per part; ``all`` for a plain folder.
        warnings: unexpected findings that are not faults.
    """

    path: str
    folder: bool
    manifests: tuple[str, ...]
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
        return {"ok": not self.faults, "manifest": bool(self.manifests), **asdict(self)}


def of_path(path: Path, **options: Any) -> Verdict:
    """Verify a folder of recordings; options as for :func:`of_dataset`.

    Raises:
        DataError: the folder does not exist or is empty, or a manifest cannot be read.
    """
    check_folder(path, "a folder of recordings", "Give a folder; `lsg data info` also looks at a single recording.")
    verdict = of_dataset(Recordings(path).scan(), **options)
    if not (verdict.samples or verdict.manifests):
        raise DataError(f"{path}: found neither recordings nor a {manifest.NAME}", hint="Give a folder of recordings.")
    return replace(verdict, counts=verdict.counts or {"all": 0})


def of_dataset(
    dataset: Dataset,
    *,
    workers: int | None = None,
    progress: parallel.Progress | None = None,
    hashing: parallel.Progress | None = None,
) -> Verdict:
    """Verify a data set: its folder, if any, each sample, and the number of samples.

    Args:
        progress: called with (samples read, total samples).
        hashing: called with (bytes hashed, total bytes).

    Raises:
        DataError: a manifest cannot be read.
    """
    found = list(parallel.each(functools.partial(_load, dataset), dataset.samples, workers, progress))
    counts = dict(Counter(sample.split for sample in dataset.samples))
    root = dataset.home if dataset.downloads or dataset.config.data_dir is not None else None
    return Verdict(
        dataset.config.dataset if root is None else str(root),
        root is not None,
        **_compared(root, hashing),
        samples=len(dataset.samples),
        unreadable={sample.key: problem for sample, problem in zip(dataset.samples, found, strict=True) if problem is not None},
        counts=counts,
        warnings=dataset.deviations(SPLITS),
    )


def written(verdict: Verdict, hashing: parallel.Progress | None = None) -> Verdict:
    """Write ``SHA256SUMS`` for all files in the folder of a verdict, or update existing ones; returns the new verdict.

    Raises:
        DataError: a file is unreadable, or there is no folder.
        StorageError: it cannot be written, or it or its folder is a symbolic link, to a folder of other data.
    """
    if not verdict.folder:
        found = f"{verdict.path}: is embedded in lsg, expected a folder to write {manifest.NAME} to"
        raise DataError(found, hint="Omit --write.")
    if verdict.unreadable:
        raise DataError(
            "\n".join(f"unreadable: {problem}" for problem in verdict.unreadable.values()),
            hint="Repair or remove these files first; no manifest was written.",
        )
    names = verdict.manifests or (manifest.NAME,)
    folder = Path(verdict.path)
    for name in names:
        files.check_no_link(folder / name, folder)
    for name in reversed(names):  # the manifest of the whole folder lists the others
        manifest.write((folder / name).parent, progress=hashing)
    return replace(verdict, manifests=names, missing=(), changed=(), extra=())


def _compared(root: Path | None, hashing: parallel.Progress | None) -> dict[str, tuple[str, ...]]:
    """The manifests in the folder and one level below, and differences from them, with paths relative to the folder."""
    found: dict[str, set[str]] = {"missing": set(), "changed": set(), "extra": set()}
    manifests, known = [], set()
    below = [] if root is None else [root, *(Path(entry.path) for entry in visible(root) if entry.is_dir())]
    for folder in below:  # the folder's own manifest comes first
        if os.path.lexists(folder / manifest.NAME):
            place, report = folder.relative_to(below[0]), manifest.check(folder, hashing)
            manifests.append((place / manifest.NAME).as_posix())
            known |= {(place / name).as_posix() for name in manifest.read(folder)}
            for kind, names in found.items():
                names |= {(place / name).as_posix() for name in getattr(report, kind)}
    found["extra"] -= known | set(manifests)
    return {"manifests": tuple(manifests), **{kind: tuple(sorted(names)) for kind, names in found.items()}}


def _load(dataset: Dataset, sample: Sample) -> str | None:
    """The problem of a sample; None if it can be read."""
    try:
        dataset.load(sample)
    except DataError as error:
        return error.message
    except MissingLibrary as error:
        return error.of_one_file().message
    return None
