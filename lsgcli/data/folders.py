"""Data sets with the layout ``<root>/<split>/<class>/<file>``, or ``<root>/<class>/<file>`` with a split rule."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from stat import S_ISLNK
from typing import NoReturn

from lsgcli.data.datasets.base import Sample, Splits
from lsgcli.data.guard import HINT, readable
from lsgcli.data.splits import divide
from lsgcli.errors import DataError, MissingPart, counted, log, some
from lsgcli.system import files

Files = dict[str, list[os.DirEntry[str]]]  # class -> its files
Scanned = tuple[tuple[str, ...], tuple[Sample, ...]]  # classes, and samples


def scan_folders(root: Path, splits: Mapping[str, str], suffixes: tuple[str, ...], other: str = "") -> Scanned:
    """List the files of each class of each split, sorted by name, without hidden files and folders.

    Args:
        splits: split -> name of its folder, such as ``{"train": "Train"}``.
        suffixes: suffixes of the files to list, lower case.
        other: how the advice about a missing folder goes on.

    Returns:
        (classes, samples). The training part, if requested, defines the classes.

    Raises:
        MissingPart: the folder of a split is missing.
        DataError: a folder is empty, or the test part contains a class that is missing in the training part.
    """
    if not root.is_dir():
        kind = "a file" if root.exists() else "no such folder"
        expected = ", ".join(f"{folder}/<class>/".lstrip("/") for folder in splits.values())
        raise DataError(
            f"{root}: found {kind}, expected a folder with {expected}", "Give --data-dir the folder that contains them."
        )
    parts = {}
    for split, folder in splits.items():
        if not (root / folder).is_dir():
            problem = f"{root}: the {split} part is missing: expected {folder}/<class>/"
            raise MissingPart(problem, part=split, hint=f"Put it in {root / folder}{other}.")
        parts[split] = _files(root / folder, suffixes)
    classes = tuple(next(iter(parts.values())))
    samples = []
    for split, found in parts.items():
        for name in found:
            if name not in classes:
                raise DataError(
                    f"{root / splits[split] / name}: found a class that is missing in the training part,"
                    f" expected one of {some(classes)}",
                    "Rename the folder as in the training part, or remove it.",
                )
        if lacking := [name for name in classes if name not in found]:
            log.warning("%s: found no %s samples of %s", root, split, some(lacking))
        for label, name in enumerate(classes):
            for entry in found.get(name, ()):
                key = f"{split}/{name}/{entry.name}".lstrip("/")
                samples.append(Sample(key, label, split, entry.path, stamp(entry)))
    return classes, tuple(samples)


def scan_classes(root: Path, splits: Splits, suffixes: tuple[str, ...], rule: str, seed: int) -> Scanned:
    """List the files of each class of a folder without split folders; ``rule`` and ``seed`` define the test part.

    Returns:
        (classes, samples of the given splits).

    Raises:
        MissingPart: a class has no training samples, or there are no test samples.
        DataError: the folder is missing or empty, or a file name contains no number but the rule requires one.
    """
    classes, samples = scan_folders(root, {"": ""}, suffixes)
    return classes, divide(root, classes, samples, splits, rule, seed)


def stamp(path: "str | os.PathLike[str]") -> str:
    """Size, modification time and change time of a file, to detect changes.

    Programs can reset the modification time, for example when copying or extracting, but not the change time. For a broken or
    cyclic link, those of the link are used; the error is raised when it is read.

    Raises:
        DataError: the file does not exist, or is a pipe or device.
    """
    with readable(os.fspath(path), HINT):
        status = os.stat(path) if os.path.exists(path) else os.lstat(path)
        if not S_ISLNK(status.st_mode):
            files.check_regular(os.fspath(path), status)
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def visible(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted by name, without hidden ones.

    Raises:
        DataError: it cannot be listed.
    """
    with readable(folder), os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def walk(root: Path) -> Iterator[Path]:
    """The files in and below ``root``, sorted in each folder, without hidden files and folders.

    Symbolic links are followed; a broken one is a file. A folder that was already visited is skipped, and so are pipes and devices,
    which might never end.

    Raises:
        DataError: a folder cannot be listed.
    """
    seen = set()
    for at, folders, names in files.walk(root, follow=True, onerror=_cannot_list):
        status = os.stat(at)
        folders[:] = [name for name in folders if not name.startswith(".")]
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in names:
            if not name.startswith(".") and _may_be_file(at / name):
                yield at / name


def _may_be_file(path: "str | os.PathLike[str]") -> bool:
    """Whether ``path`` is a file, or a broken or cyclic link, which is reported when it is read."""
    return os.path.isfile(path) or not os.path.exists(path)


def _cannot_list(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be listed: {error.strerror}", "Check its permissions.") from error


def _files(root: Path, suffixes: tuple[str, ...]) -> Files:
    """The files of each class in ``root/<class>/``."""
    classes = [entry for entry in visible(root) if os.path.isdir(entry)]
    if not classes:
        raise DataError(f"{root}: found no folders, expected one per class", f"Put files in {root}/<class>/.")
    found: Files = {}
    ignored = []
    for folder in classes:
        found[folder.name] = []
        for entry in visible(Path(folder.path)):
            if not entry.name.lower().endswith(suffixes):
                ignored.append(entry.name)
            elif _may_be_file(entry):
                found[folder.name].append(entry)
        if not found[folder.name]:
            raise DataError(
                f"{folder.path}: found no samples of this class, expected files ending in {some(suffixes)}",
                "Put its files there, or remove the folder.",
            )
    if ignored:
        log.warning("%s: ignored %s of other types, such as %s", root, counted(len(ignored), "file"), ignored[0])
    return found
