"""Data sets with the layout ``<root>/<split>/<class>/<file>``, or ``<root>/<class>/<file>`` with a split rule."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from lsgcli.config import RunConfig
from lsgcli.data.datasets.base import Sample, need_folder
from lsgcli.data.splits import assign, check
from lsgcli.errors import DataError, MissingPart

log = logging.getLogger("lsg")
Found = dict[str, list[Sample]]  # class -> its samples


def scan_own(
    config: RunConfig, splits: tuple[str, ...], suffixes: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[Sample, ...]]:
    """List a user's folder, with folders for the splits, or split by --split; see the two functions below."""
    root = need_folder(config)
    if config.split is None:
        other = f"or, if {root} contains the class folders, give --split stratified."
        return scan_folders(
            root,
            {split: split for split in splits},
            suffixes,
            {split: f"Put it in {root / split}; {other}" for split in splits},
        )
    return scan_classes(root, splits, suffixes, config.split, config.split_seed)


def scan_folders(
    root: Path, splits: Mapping[str, str], suffixes: tuple[str, ...], hints: Mapping[str, str] = MappingProxyType({})
) -> tuple[tuple[str, ...], tuple[Sample, ...]]:
    """List the files of each class of each split, sorted by name, without hidden files and folders.

    Args:
        splits: split -> name of its folder, such as ``{"train": "Train"}``.
        suffixes: suffixes of the files to list, lower case.
        hints: split -> hint for the error if its folder is missing.

    Returns:
        (classes, samples). The training part, if requested, defines the classes.

    Raises:
        MissingPart: the folder of a split is missing.
        DataError: a folder is empty, or the test part contains a class that is missing in the training part.
    """
    _check_root(root, splits, hints)
    parts = {split: _scan_split(root, split, folder, suffixes) for split, folder in splits.items()}
    classes = tuple(next(iter(parts.values())))
    for split, part in parts.items():
        for name in part:
            if name not in classes:
                raise DataError(
                    f"{root / splits[split] / name}: found a class that is missing in the training part,"
                    f" expected one of {_some(classes)}",
                    hint="Rename the folder as in the training part, or remove it.",
                )
        if lacking := [name for name in classes if name not in part]:
            log.warning(
                "%s: found no %s samples of %d of %d classes: %s", root, split, len(lacking), len(classes), _some(lacking)
            )
    label = {name: i for i, name in enumerate(classes)}
    named = [(label[name], sample) for part in parts.values() for name, samples in part.items() for sample in samples]
    return classes, tuple(Sample(s.key, i, s.split, s.source, s.stamp) for i, s in named)


def scan_classes(
    root: Path, splits: tuple[str, ...], suffixes: tuple[str, ...], rule: str, seed: int
) -> tuple[tuple[str, ...], tuple[Sample, ...]]:
    """List the files of each class of a folder without split folders; ``rule`` and ``seed`` define the test part.

    Rules by number use the last number in a file name.

    Returns:
        (classes, samples of the given splits).

    Raises:
        MissingPart: a class has no training samples, or there are no test samples.
        DataError: the folder is missing or empty, or a file name contains no number but the rule requires one.
    """
    _check_root(root, {}, {})
    found = _scan_split(root, "", "", suffixes)
    labelled = [(label, sample) for label, samples in enumerate(found.values()) for sample in samples]
    parts = assign([(sample.key, label, _number(sample.key)) for label, sample in labelled], rule, seed)
    samples = [
        Sample(s.key, label, part, s.source, s.stamp)
        for (label, s), part in zip(labelled, parts, strict=True)
        if part in splits
    ]
    check(root, tuple(found), {split: {s.label for s in samples if s.split == split} for split in splits}, rule)
    return tuple(found), tuple(samples)


def _number(name: str) -> int | None:
    digits = re.findall(r"\d+", Path(name).stem)
    return int(digits[-1]) if digits else None


def stamp(path: "str | os.PathLike[str]") -> str:
    """Size, modification time and change time of a file, to detect changes.

    Programs can reset the modification time, for example when copying or extracting, but not the change time. For a broken or
    cyclic link, those of the link are used; the error is raised when it is read.

    Raises:
        DataError: the file does not exist.
    """
    try:
        try:
            status = os.stat(path)
        except OSError:
            status = os.lstat(path)
    except OSError as error:
        raise DataError(
            f"{os.fspath(path)}: cannot be read: {error.strerror}",
            hint="Download or record it again, or remove it from the folder.",
        ) from error
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted by name, without hidden ones.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        _cannot_list(error)


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder in and below ``root``, and the sorted names of its files, without hidden files and folders.

    Symbolic links are followed. A folder that was already visited is skipped.

    Raises:
        DataError: a folder cannot be listed.
    """
    seen = set()
    for at, folders, names in os.walk(root, followlinks=True, onerror=_cannot_list):
        status = os.stat(at)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield Path(at), sorted(name for name in names if not name.startswith("."))


def _cannot_list(error: OSError) -> NoReturn:
    raise DataError(
        f"{error.filename}: cannot be listed: {error.strerror}", hint="Check the path and its permissions."
    ) from error


def _check_root(root: Path, splits: Mapping[str, str], hints: Mapping[str, str]) -> None:
    want = ", ".join(f"{folder}/<class>/" for folder in splits.values()) or "<class>/"
    if not root.is_dir():
        found = "a file" if root.exists() else "no such folder"
        raise DataError(
            f"{root}: found {found}, expected a folder with {want}", hint="Give --data-dir the folder that contains them."
        )
    for split, folder in splits.items():
        if not (root / folder).is_dir():
            there = _some([entry.name for entry in visible(root)]) or "nothing"
            raise MissingPart(
                f"{root}: the {split} part is missing: found {there}, expected {want}",
                part=split,
                hint=hints.get(split, f"Put it in {root / folder}."),
            )


def _scan_split(root: Path, split: str, folder: str, suffixes: tuple[str, ...]) -> Found:
    classes = [entry for entry in visible(root / folder) if os.path.isdir(entry)]
    if not classes:
        raise DataError(
            f"{root / folder}: found no folders, expected one per class", hint=f"Put files in {root / folder}/<class>/."
        )
    found: Found = {}
    ignored: list[str] = []
    for entry in classes:
        found[entry.name] = _scan_class(Path(entry.path), split, suffixes, ignored)
    if ignored:
        log.warning("%s: ignored %d files of other types, such as %s", root / folder, len(ignored), ignored[0])
    return found


def _scan_class(folder: Path, split: str, suffixes: tuple[str, ...], ignored: list[str]) -> list[Sample]:
    samples = []
    for entry in visible(folder):
        if not entry.name.lower().endswith(suffixes):
            ignored.append(entry.name)
        elif _is_sample(entry):
            key = f"{split}/{folder.name}/{entry.name}".lstrip("/")
            samples.append(Sample(key, 0, split, entry.path, stamp(entry)))
    if not samples:
        raise DataError(
            f"{folder}: found no samples of this class, expected files ending in {_some(suffixes)}",
            hint="Put its files there, or remove the folder.",
        )
    return samples


def _is_sample(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a broken or cyclic link, which is reported when it is read."""
    try:
        return entry.is_file() or not os.path.exists(entry)
    except OSError:
        return True


def _some(names: tuple[str, ...] | list[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
