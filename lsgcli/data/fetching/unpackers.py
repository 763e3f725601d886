"""What is in an archive, one member after the other, whatever its format. Nothing here judges names or writes files."""

import contextlib
import copy
import gzip
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tarfile import HeaderError, ReadError
from typing import IO, Any, cast

NOTES = 1 << 20  # bytes of a tar's long name or extended header: what is longer would only fill memory
TAIL = 64 << 20  # bytes after the end of a tar, which are padding
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack into memory without bound
KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
}


@dataclass(frozen=True)
class Member:
    """One entry.

    Attributes:
        name: as stored.
        folder: a folder rather than a file.
        size: bytes of content that it states.
        packed: bytes that they take in the archive, where each member is packed on its own.
        refused: what it is, if that is neither file nor folder.
        open: its content; to be read before the next member is asked for.
    """

    name: str
    folder: bool
    size: int
    packed: int | None
    refused: str | None
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class Contents:
    """An open archive.

    Attributes:
        members: in the order in which they are stored.
        total: bytes of all content, where that is known beforehand.
        position: from bytes written to (done, total), for a progress bar.
    """

    members: Iterator[Member]
    total: int | None
    position: Callable[[int], tuple[int, int]]


@contextlib.contextmanager
def unzip(archive: Path) -> Iterator[Contents]:
    """A .zip."""
    with zipfile.ZipFile(archive) as content:
        infos = content.infolist()
        if sum(info.compress_size for info in infos) > archive.stat().st_size:
            raise zipfile.BadZipFile("members that share their content")
        total = sum(info.file_size for info in infos)
        yield Contents((_zipped(content, info) for info in infos), total, lambda written: (written, total))


def _zipped(content: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    folder = info.orig_filename.endswith("/")
    # The library stops at the stated size: one byte further, a member that has more shows it.
    further = copy.copy(info)
    further.file_size += 1
    return Member(
        info.orig_filename,  # zipfile cuts its own copy of the name at a NUL
        folder,
        info.file_size,
        info.compress_size,
        _strange(info, folder),
        lambda: content.open(further),
    )


def _strange(info: zipfile.ZipInfo, folder: bool) -> str | None:
    """Why a member of a zip is not taken, if so."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    if kind not in (0, stat.S_IFDIR if folder else stat.S_IFREG):
        return kinds.get(kind, "a device or another kind of entry than its name says")
    if folder and info.file_size:
        return "a folder with content"
    if info.flag_bits & 1:
        return "an encrypted file"
    if info.compress_type not in METHODS:
        return f"compression method {info.compress_type}"
    return None


def _tar(unpacked: Callable[[IO[bytes]], IO[bytes]]) -> Callable[[Path], AbstractContextManager[Contents]]:
    """An opener of tars, whose bytes ``unpacked`` gets from the file's."""

    @contextlib.contextmanager
    def opener(archive: Path) -> Iterator[Contents]:
        size = archive.stat().st_size
        # As a stream: every byte is unpacked once, and a header cannot send the reader backwards.
        with (
            open(archive, "rb") as raw,
            unpacked(raw) as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as content,
        ):
            yield Contents(_tarred(content, stream), None, lambda written: (raw.tell(), size))

    return opener


def _tarred(content: tarfile.TarFile, stream: IO[bytes]) -> Iterator[Member]:
    for info in content:
        yield Member(info.name, info.isdir(), info.size, None, _odd(info), _opening(content, info))
    # To the very end: only there does a compressed file tell whether it was whole.
    tail = 0
    while chunk := stream.read(1 << 20):
        tail += len(chunk)
        if tail > TAIL:
            raise ReadError(f"more than {TAIL} bytes after the end of the archive")


def _opening(content: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def opening() -> IO[bytes]:
        found = content.extractfile(info)
        assert found is not None  # it is a file
        return found

    return opening


def _odd(info: tarfile.TarInfo) -> str | None:
    """Why a member of a tar is not taken, if so."""
    if info.issparse():
        return "a sparse file"
    if info.isreg() or info.isdir():
        return None
    return KINDS.get(info.type, f"an entry of type {info.type!r}")


class _Header(tarfile.TarInfo):
    """A header. The library takes a damaged one, or a file that ends without the mark of its end, for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> "_Header":
        stream = tarfile.fileobj
        tarfile.fileobj = cast(Any, _Sparing(stream))
        try:
            return super().fromtarfile(tarfile)
        except HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":  # zeros: the proper end
                raise
            raise ReadError(f"damaged or cut off: {error}") from error
        finally:
            tarfile.fileobj = stream


class _Sparing:
    """A stream that headers are read from, never much at a time."""

    def __init__(self, stream: Any):
        self.stream = stream

    def read(self, size: int) -> bytes:
        if not 0 <= size <= NOTES:
            raise ReadError(f"a header that states {size} bytes")
        return self.stream.read(size)

    def tell(self) -> int:
        return self.stream.tell()


def _plain(raw: IO[bytes]) -> IO[bytes]:
    return raw


def _gzip(raw: IO[bytes]) -> IO[bytes]:
    return cast(IO[bytes], gzip.GzipFile(fileobj=raw))


def _xz(raw: IO[bytes]) -> IO[bytes]:
    return lzma.open(raw)


FORMATS: dict[str, Callable[[Path], AbstractContextManager[Contents]]] = {
    ".zip": unzip,
    ".tar": _tar(_plain),
    ".tar.gz": _tar(_gzip),
    ".tgz": _tar(_gzip),
    ".tar.xz": _tar(_xz),
}
