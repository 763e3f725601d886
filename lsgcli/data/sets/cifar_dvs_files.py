"""The published archives of CIFAR10-DVS: ten zips of the original release, and tonic's copy, a zip of ten zips."""

import shutil
from collections.abc import Collection
from pathlib import Path

from lsgcli.data.fetching import archives, manifest
from lsgcli.data.fetching.download import RemoteFile, by_hand
from lsgcli.data.fetching.obtain import Downloaded, figshare
from lsgcli.errors import DataError

PAGE = "https://doi.org/10.6084/m9.figshare.4724671"
# Class -> the archive of its 1000 recordings, 7.8 GB in all.
FILES = {
    name: RemoteFile(f"{name}.zip", figshare(number), md5=md5, about=780_000_000, page=PAGE)
    for name, number, md5 in (
        ("airplane", 7712788, "0afd5c4bf9ae06af762a77b180354fdd"),
        ("automobile", 7712791, "8438dfeba3bc970c94962d995b1b9bdd"),
        ("bird", 7712794, "a9c207c91c55b9dc2002dc21c684d785"),
        ("cat", 7712812, "52c63c677c2b15fa5146a8daf4d56687"),
        ("deer", 7712815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
        ("dog", 7712818, "f379ebdf6703d16e0a690782e62639c3"),
        ("frog", 7712842, "cad6ed91214b1c7388a5f6ee56d08803"),
        ("horse", 7712851, "e7cbbf77bec584ffbf913f00e682782a"),
        ("ship", 7712836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
        ("truck", 7712839, "89f3922fd147d9aeff89e76a2b0b70a7"),
    )
}
# 11.2 GB; never downloaded, but unpacked where somebody has put it.
COPY = RemoteFile("CIFAR10DVS.zip", figshare(38023437), md5="ce3a4a0682dc0943703bd8f749a7701c")
COPY_FOLDER = "CIFAR10DVS"


def expected(archive: Path, root: Path) -> bool:
    """Whether an archive lies where :func:`settle` looks for it."""
    names = {COPY.name, *(file.name for file in FILES.values())}
    return archive.parent in (root, root / COPY_FOLDER) and archive.name in names


def settle(dataset: Downloaded, root: Path, there: Collection[str]) -> bool:
    """Download and unpack what should be done so below ``root``; says whether recordings have come.

    With no recordings at all, the original release is downloaded. With some, only archives that are there are unpacked.

    Args:
        there: classes of which there are recordings.

    Raises:
        DataError: a download or an archive failed; the hint says what can be done by hand.
        StorageError: no room, or the folder cannot be written.
    """
    lacking = [name for name in FILES if name not in there]
    if not lacking:
        return False
    places = (dataset.root / COPY.name, dataset.root / COPY_FOLDER / COPY.name)
    copy = next((path for path in places if path.is_file()), None)
    try:
        if copy is None:
            return dataset.complete(root, FILES, there)
        _unpack_copy(dataset, copy, lacking)
    except DataError as error:
        raise DataError(error.message, hint=f"{error.hint}\n  {_other(root)}") from error
    return True


def _unpack_copy(dataset: Downloaded, copy: Path, lacking: list[str]) -> None:
    """Tonic's copy: unpack the classes' zips, then those of them whose recordings are not there."""
    problem = COPY.mismatch(copy)
    if problem is not None:
        raise DataError(f"{copy}: {problem}", hint=by_hand([COPY], copy.parent))
    folder = dataset.root / COPY_FOLDER
    inner = folder / ".zips"
    try:
        zips = {path.stem: path for path in archives.unpack(copy, inner, dataset.telling(f"unpacking {copy.name}"))}
        made = [path for name in lacking for path in dataset.unpack(zips[name], folder, name)]
    finally:
        shutil.rmtree(inner, ignore_errors=True)
    manifest.extend(folder, made, dataset.telling(f"checksums of {folder.name}"))


def _other(root: Path) -> str:
    return (
        f"Archives of another edition (AEDAT 2.0 or AEDAT 4) have to be unpacked by hand, so that"
        f" cifar10_<class>_<number>.aedat or .aedat4 lie in or below {root}."
    )
