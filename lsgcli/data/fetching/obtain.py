"""Data sets that can be downloaded: what is fetched when, and where it is unpacked."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from lsgcli.data.base import SPLITS, Dataset
from lsgcli.data.fetching import archives, manifest
from lsgcli.data.fetching.download import RemoteFile, amount, fetch
from lsgcli.errors import DataError

log = logging.getLogger("lsg")


def under_way_in(folders: Iterable[Path], files: Iterable[RemoteFile]) -> Path | None:
    """The first of some folders in which one of the files, or a part of it, lies."""
    wanted = tuple(files)
    return next((folder for folder in folders if any(under_way(file, folder) for file in wanted)), None)


def figshare(number: int) -> tuple[str, ...]:
    """Addresses of a file of figshare: the plain link, which often answers 403 or an empty 202, the API, and the file host."""
    return (
        f"https://figshare.com/ndownloader/files/{number}",
        f"https://api.figshare.com/v2/file/download/{number}",
        f"https://ndownloader.figshare.com/files/{number}",
    )


class Downloaded(Dataset):
    """A data set that is downloaded where nothing of it is there.

    A download is large: where a part of the data is there, nothing is downloaded to fill a gap, and the subclass's scan says
    what is missing. An archive in the folder, or a part of one, shows that a download was under way: it is resumed.

    Attributes:
        folder: below ``--data-dir``, as tonic or torchvision names it.
    """

    downloads = True
    folder: ClassVar[str]

    @classmethod
    @abstractmethod
    def remote(cls, splits: tuple[str, ...] = SPLITS) -> tuple[RemoteFile, ...]:
        """What a download of these splits fetches."""

    @abstractmethod
    def there(self, place: Path) -> Collection[str]:
        """The parts of the data set that lie in ``place``."""

    @property
    def home(self) -> Path:
        """The folder of the data: ``--data-dir`` itself or :attr:`folder` below it, where the data or an archive of them lie."""
        places = (self.root, self.root / self.folder)
        found = next((place for place in places if self.there(place)), None)
        return found or under_way_in(places, self.remote()) or places[-1]

    def complete(
        self, folder: Path, parts: Mapping[str, RemoteFile], there: Collection[str], *, any_archive: bool = False
    ) -> bool:
        """Fetch and unpack parts that are not there, all archives first, and write the folder's manifest.

        Args:
            parts: name of the folder below ``folder`` that a part is unpacked to -> its archive.
            there: parts of the data set that are there, be they asked for or not.
            any_archive: the archive of one part is reason enough to fetch the others.

        Returns:
            Whether something was unpacked.

        Raises:
            DataError: a download or an archive failed.
            StorageError: no room, or the folder cannot be written.
        """
        lacking = [name for name in parts if name not in there]
        found = [name for name in parts if under_way(parts[name], folder)]
        wanted = lacking if not there or (any_archive and found) else [name for name in lacking if name in found]
        if not wanted:
            return False
        names = ", ".join(parts[name].name for name in wanted)
        if not self.fetches:
            raise self._absent(folder, names, [parts[name].name for name in found])
        files = [parts[name] for name in wanted]
        lacking_files = [file for file in files if not (folder / file.name).is_file()]
        if lacking_files:
            size = amount(lacking_files)
            what = ", ".join(file.name for file in lacking_files) + (f" ({size})" if size else "")
            log.info("%s: found no %s; downloading %s", folder, self.config.dataset, what)
        made: list[Path] = []
        fetched = fetch(files, folder, self.downloading)
        for name, archive in zip(wanted, fetched, strict=True):
            made += self.unpack(archive, folder, name)
        home = self.home
        manifest.extend(home, made, self.telling(f"checksums of {home.name}"))
        log.info("%s: complete; the archives are no longer needed: %s", folder, names)
        return True

    def _absent(self, folder: Path, names: str, archives: list[str]) -> DataError:
        command = f"`lsg data prepare --dataset {self.config.dataset}"
        command += "`" if self.config.data_dir is None else f" --data-dir {self.root}`"
        if archives:
            return DataError(
                f"{folder}: found a download that has not been finished: {', '.join(archives)}, expected the data",
                hint=f"{command} fetches what is missing of {names}, and unpacks it.",
            )
        return DataError(
            f"{folder}: found neither the data nor what they are unpacked from, expected {names}",
            hint=f"{command} downloads them.",
        )

    def unpack(self, archive: Path, folder: Path, name: str) -> list[Path]:
        """Unpack a part's archive into ``folder/name``, whether or not the archive has a folder of that name."""
        return archives.unpack(archive, folder / name, self.telling(f"unpacking {archive.name}"), inside=name)

    def telling(self, what: str) -> Callable[[int, int], None] | None:
        """A progress callback for one thing, out of the one for all."""
        if self.downloading is None:
            return None
        report = self.downloading
        return lambda done, total: report(what, done, total)


def under_way(file: RemoteFile, folder: Path) -> bool:
    """Whether an archive, or a part of it, lies in ``folder``."""
    return any((folder / name).is_file() for name in (file.name, f"{file.name}.part"))
