"""Base class of data sets that can be downloaded."""

import functools
from collections.abc import Mapping
from pathlib import Path

from lsgcli.data import manifest
from lsgcli.data.datasets.base import SPLITS, Dataset, Listing, Splits
from lsgcli.data.download import RemoteFile, by_hand, fetch, unpack
from lsgcli.data.folders import scan_classes, scan_folders
from lsgcli.errors import DataError, MissingData, MissingPart, log
from lsgcli.system.files import locked, making_folder

LOCK = ".lsg-download"  # in the download folder


class Downloaded(Dataset):
    """A data set that is downloaded if it is missing.

    Downloads are large: if only a part of the data is missing, nothing is downloaded, and the missing part is an error. An archive in
    the folder, or a part of one, indicates an unfinished download, which is resumed.

    Attributes:
        folder: name below ``--data-dir``, as in tonic or torchvision.
        archives: part -> archive. A part belongs to one split, or to all.
        endings: suffixes of the files in the class folders of ``archives``, for data sets in this layout.
    """

    downloads = True
    folder: str
    archives: Mapping[str, RemoteFile]
    endings: tuple[str, ...] = ()

    def find(self, splits: Splits) -> Listing:
        """The files in ``<content of the archive>/<class>/``; of a data set with a split rule also in ``--data-dir/<class>/``."""
        if not self.rules:
            parts = {split: self.archives[split].content for split in splits}
            return Listing(*scan_folders(self.obtain(splits), parts, self.endings))
        folder = self.root
        given = self.config.data_dir is not None and any(next(folder.glob(f"*/*{ending}"), None) for ending in self.endings)
        if self.parts_in(self.home) or not given:
            folder = self.obtain(splits) / self.archives["all"].content
        found = scan_classes(folder, splits, self.endings, self.rule, self.config.split_seed)
        return Listing(*found, {"split": self.rule})

    @classmethod
    def remote(cls, splits: Splits = SPLITS) -> tuple[RemoteFile, ...]:
        """The files to download for these splits."""
        return tuple(file for part, file in cls.archives.items() if part in splits or part not in SPLITS)

    def parts_in(self, folder: Path) -> set[str]:
        """The parts found in a folder."""
        return {part for part, file in self.archives.items() if (folder / file.content).exists()}

    @property
    def home(self) -> Path:
        """The folder that contains the data or an archive: ``--data-dir`` itself, or :attr:`folder` below it."""
        folders = (self.root, self.root / self.folder)
        with_data = next((folder for folder in folders if self.parts_in(folder)), None)
        return with_data or next((folder for folder in folders if self.has_archive_in(folder)), folders[-1])

    def has_archive_in(self, folder: Path) -> bool:
        """Whether a folder contains an archive of the data set, or a part of one."""
        return any((folder / (file.name + end)).is_file() for file in self.remote() for end in ("", ".part"))

    def obtain(self, splits: Splits, folder: Path | None = None) -> Path:
        """Download and extract missing parts, and add them to the manifest; returns the folder of the data.

        Args:
            folder: folder of the archives. Default: :attr:`home`.

        Raises:
            MissingPart: one of the splits is missing in data that are not downloaded.
            DataError: a download or an extraction failed.
            StorageError: not enough disk space, or the folder cannot be written.
        """
        folder = folder or self.home
        if wanted := self._wanted(folder, splits):
            if not self.may_download:
                raise self._absent(folder, wanted)
            with making_folder(folder), locked(folder / LOCK, f"{folder}: waiting for another process that downloads to it"):
                wanted = self._wanted(folder, splits)  # another process may have downloaded some parts
                made = []
                for file, archive in zip(wanted, fetch(wanted, folder, self.progress), strict=True):
                    made += unpack(archive, folder / file.content, self.progress)
                if made:
                    manifest.write(self.home, made, functools.partial(self.progress, "hashing"))
                    log.info("%s: complete; the archives can be deleted", folder)
        for part in set(splits) & self.archives.keys() - self.parts_in(folder):
            file = self.archives[part]
            message = f"{folder / file.content}: the {part} part is missing"
            raise MissingPart(message, part=part, hint=by_hand([file], folder))
        return folder

    def _wanted(self, folder: Path, splits: Splits) -> list[RemoteFile]:
        there = self.parts_in(folder)
        files = self.remote(splits)
        wanted = [file for part, file in self.archives.items() if file in files and part not in there]
        return wanted if not there or self.has_archive_in(folder) else []

    def _absent(self, folder: Path, files: list[RemoteFile]) -> DataError:
        found = "an unfinished download" if self.has_archive_in(folder) else "no data"
        names = ", ".join(file.name for file in files)
        hint = f"{self.download_command} downloads and extracts it; or give --data-dir the folder that has it."
        return MissingData(f"{folder}: found {found}, expected the content of {names}", hint)
