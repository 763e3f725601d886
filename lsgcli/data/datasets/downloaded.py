"""Data sets that can be downloaded: what is fetched when, and where it is unpacked."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from lsgcli.data import manifest
from lsgcli.data.datasets.base import SPLITS, Dataset
from lsgcli.data.download import RemoteFile, amount, fetch, unpack
from lsgcli.errors import DataError
from lsgcli.files import locked, making_folder

log = logging.getLogger("lsg")
LOCK = ".lsg-download"  # in the folder that is downloaded to


class Downloaded(Dataset):
    """A data set that is downloaded where nothing of it is there.

    A download is large: where a part of the data is there, nothing is downloaded to fill a gap, and the subclass's scan says
    what is missing. An archive in the folder, or a part of one, shows that a download was under way: it is resumed.

    Attributes:
        folder: below ``--data-dir``, as tonic or torchvision names it.
        archives: part -> its archive. A part is a split, or of all splits.
        unpacked: part -> name of the file or folder that it is unpacked to.
    """

    downloads = True
    folder: ClassVar[str]
    archives: ClassVar[Mapping[str, RemoteFile]]
    unpacked: ClassVar[Mapping[str, str]]

    @classmethod
    def remote(cls, splits: tuple[str, ...] = SPLITS) -> tuple[RemoteFile, ...]:
        """What a download of these splits fetches."""
        return tuple(file for part, file in cls.archives.items() if part in splits or part not in SPLITS)

    def there(self, place: Path) -> set[str]:
        """The parts that lie in ``place``."""
        return {part for part, name in self.unpacked.items() if (place / name).exists()}

    @property
    def home(self) -> Path:
        """The folder of the data: ``--data-dir`` itself or :attr:`folder` below it, where the data or an archive of them lie."""
        places = (self.root, self.root / self.folder)
        found = next((place for place in places if self.there(place)), None)
        return found or next((place for place in places if self.under_way(place)), places[-1])

    def under_way(self, place: Path) -> bool:
        """Whether an archive of the data set, or a part of one, lies in ``place``."""
        return any(file.under_way(place) for file in self.remote())

    def obtain(self, splits: tuple[str, ...], folder: Path | None = None) -> Path:
        """The folder of the data. Parts that are not there are downloaded and unpacked, all archives first, and listed in its manifest.

        Args:
            folder: that the archives lie in; :attr:`home` if not given.

        Raises:
            DataError: a download or an archive failed.
            StorageError: no room, or the folder cannot be written.
        """
        folder = folder or self.home
        if not (wanted := self._wanted(folder, splits)):
            return folder
        if not self.may_download:
            raise self._absent(folder, list(wanted.values()))
        with making_folder(folder), locked(folder / LOCK, f"{folder}: another process is downloading to it; waiting"):
            wanted = self._wanted(folder, splits)  # less where the other process has done it
            lacking = [file for file in wanted.values() if not (folder / file.name).is_file()]
            if lacking:
                names, size = ", ".join(file.name for file in lacking), amount(lacking)
                log.info("%s: found no %s; downloading %s (%s)", folder, self.config.dataset, names, size)
            fetched = fetch(list(wanted.values()), folder, self.progress)
            made: list[Path] = []
            for part, archive in zip(wanted, fetched, strict=True):
                made += self.unpack(archive, folder, self.unpacked[part])
            if made:
                self.seal(made)
                log.info("%s: complete; the archives are no longer needed", folder)
        return folder

    def _wanted(self, folder: Path, splits: tuple[str, ...]) -> dict[str, RemoteFile]:
        there, files = self.there(folder), self.remote(splits)
        wanted = {part: file for part, file in self.archives.items() if file in files and part not in there}
        return wanted if not there or self.under_way(folder) else {}

    def _absent(self, folder: Path, files: list[RemoteFile]) -> DataError:
        names, place = ", ".join(file.name for file in files), self.config.data_dir and f" --data-dir {self.config.data_dir}"
        started = [file.name for file in files if file.under_way(folder)]
        found = f"an unfinished download of {', '.join(started)}" if started else f"neither the data nor {names}"
        command = f"`lsg data prepare --dataset {self.config.dataset}{place or ''}`"
        return DataError(f"{folder}: found {found}", hint=f"{command} downloads and unpacks what is missing.")

    def unpack(self, archive: Path, folder: Path, name: str) -> list[Path]:
        """Unpack a part's archive into ``folder/name``, whether or not the archive has a folder of that name."""
        return unpack(archive, folder / name, self.telling(f"unpacking {archive.name}"), inside=name)

    def seal(self, made: list[Path]) -> None:
        """Add the files that were unpacked to the manifest of :attr:`home`."""
        manifest.extend(self.home, made, self.telling(f"checksums of {self.home.name}"))

    def telling(self, what: str) -> Callable[[int, int], None] | None:
        """A progress callback for one thing, out of the one for all."""
        if self.progress is None:
            return None
        report = self.progress
        return lambda done, total: report(what, done, total)
