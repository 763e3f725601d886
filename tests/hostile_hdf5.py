"""HDF5 files that lead to other files, or to more memory than their size explains."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

SECRET = b"the bytes of another file of the user; " * 30_000


def external_storage(file: h5py.File, name: str, other: Path) -> None:
    """The content of a data set is that of another file."""
    shape, kind = _removed(file, name)
    file.create_dataset(name, shape or (1,), kind, external=[(str(other), 0, h5py.h5f.UNLIMITED)])


def external_link(file: h5py.File, name: str, other: Path) -> None:
    """A name of an object in another HDF5 file."""
    shape, kind = _removed(file, name)
    file[name] = h5py.ExternalLink(str(_as_hdf5(other, shape, kind)), "x")


def soft_link_out(file: h5py.File, name: str, other: Path) -> None:
    """A name of a name of an object in another HDF5 file."""
    external_link(file, name, other)
    file.move(name, "elsewhere")
    file[name] = h5py.SoftLink("/elsewhere")


def virtual(file: h5py.File, name: str, other: Path) -> None:
    """A data set that is a part of one in another file."""
    shape, kind = _removed(file, name)
    layout = h5py.VirtualLayout(shape, kind)
    layout[...] = h5py.VirtualSource(str(_as_hdf5(other, shape, kind)), "x", shape)
    file.create_virtual_dataset(name, layout)


def unwritten(file: h5py.File, name: str, other: Path) -> None:
    """A data set of 8 GB of which nothing is stored."""
    _, kind = _removed(file, name)
    file.create_dataset(name, (2_000_000_000,), "f4" if kind.kind not in "biuf" else kind)


def large_chunk(file: h5py.File, name: str, other: Path) -> None:
    """A small data set in a chunk of 2 GB."""
    shape, _ = _removed(file, name)
    file.create_dataset(
        name, shape or (1,), "f4", maxshape=(None,) * max(1, len(shape)), chunks=(1 << 29,) + (1,) * (len(shape) - 1)
    )


def loop(file: h5py.File, name: str, other: Path) -> None:
    file[name].parent["again"] = file["/"]


def doubled(file: h5py.File, name: str, other: Path) -> None:
    """30 groups, each of which contains the next twice: a billion paths."""
    group = file[name].parent
    for _ in range(30):
        group["b"] = group.create_group("a")
        group = group["a"]


def deep(file: h5py.File, name: str, other: Path) -> None:
    group = file[name].parent
    for _ in range(2000):
        group = group.create_group("g")


OTHER_FILES = {kind.__name__: kind for kind in (external_storage, external_link, soft_link_out, virtual)}
FAULTS: dict[str, Callable[[h5py.File, str, Path], None]] = {
    **OTHER_FILES,
    **{kind.__name__: kind for kind in (unwritten, large_chunk, loop, doubled, deep)},
}


def datasets(path: Path) -> list[str]:
    found: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def _removed(file: h5py.File, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a data set, which is deleted; bytes for a string."""
    shape, kind = file[name].shape, file[name].dtype
    del file[name]
    return (shape, kind) if kind.kind in "biuf" else ((len(SECRET),), np.dtype("u1"))


def _as_hdf5(other: Path, shape: tuple[int, ...], kind: np.dtype) -> Path:
    """An HDF5 file with a data set ``x`` that holds the bytes of ``other``."""
    path = other.with_suffix(".h5")
    count = int(np.prod(shape)) * kind.itemsize
    with h5py.File(path, "w") as file:
        file["x"] = np.frombuffer(other.read_bytes()[:count].ljust(count), kind).reshape(shape)
    return path
