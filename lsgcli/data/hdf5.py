"""HDF5 files from outside.

A file may name other files, whose content the library would read like its own: as external storage, by an external link, or as
the source of a virtual data set. It may also declare data sets that it does not contain, which read as zeros, and contain a value of
variable length once for many elements, each of which is a copy when read.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lsgcli.data.guard import Damaged
from lsgcli.data.readers.base import check_memory
from lsgcli.system.files import check_regular

if TYPE_CHECKING:
    import h5py

DEPTH = 32  # groups in groups
ROOM = 256 << 20  # bytes of arrays in addition to 16 times the file size
STRINGS = 1 << 16  # strings of variable length in a data set
ONE_BY_ONE = ("/spikes/times", "/spikes/units")  # data sets of sequences of variable length, of which one is read at a time


def opened(path: Path) -> "h5py.File":
    """Open a file for reading, after checking all its objects without reading data.

    Raises:
        NotRegularError: not a regular file.
        Damaged: an object is not stored in the file itself, or reached by two links; the data sets require
            more than 16 times the file size + 256 MiB of memory, or contain neither numbers, nor strings, nor the sequences of
            :data:`ONE_BY_ONE`.
        OSError: not an HDF5 file.
    """
    size = check_regular(path)
    import h5py

    file = h5py.File(path, "r")
    try:
        _check(file, size)
    except BaseException:
        file.close()
        raise
    return file


def _check(file: "h5py.File", size: int) -> None:
    from h5py import h5d, h5g, h5l, h5o

    root = h5g.open(file.id, b"/")
    groups = [("", root)]
    seen = {h5o.get_info(root).addr}
    needed = 0
    while groups:
        above, group = groups.pop()
        for name in group:
            where = f"{above}/{name.decode('utf-8', 'replace')}"
            link = group.links.get_info(name)
            if link.type != h5l.TYPE_HARD:
                raise Damaged(f"{where}: found a soft or external link, expected an object stored there")
            if link.u in seen:  # a loop, or links that multiply
                raise Damaged(f"{where}: found a second link to an object, expected one link to each")
            seen.add(link.u)
            item = h5o.open(group, name)
            if isinstance(item, h5g.GroupID):
                if where.count("/") > DEPTH:
                    raise Damaged(f"{where[:80]}...: found more than {DEPTH} nested groups")
                groups.append((where, item))
            elif isinstance(item, h5d.DatasetID):
                for count in _bytes(where, item):
                    needed += count
                    check_memory(size, needed, f"data sets such as {where}", room=ROOM)


def _bytes(where: str, data: Any) -> Iterator[int]:
    """Memory to read a data set: its extent, or a chunk if that is larger, and each string of variable length."""
    import h5py
    from h5py import h5d, h5t

    created = data.get_create_plist()
    layout = created.get_layout()
    if layout == h5d.VIRTUAL:  # not even its shape may be asked for, which can depend on other files
        raise Damaged(f"{where}: found a virtual data set, expected one stored in this file")
    if created.get_external_count():
        raise Damaged(f"{where}: found a data set in external storage, expected one stored in this file")
    chunk = math.prod(created.get_chunk()) if layout == h5d.CHUNKED else 0
    shape = data.get_space().get_simple_extent_dims()  # () of one value; None of none
    kind = data.get_type()
    count = 0 if shape is None else math.prod(shape)
    if kind.get_class() not in (h5t.INTEGER, h5t.FLOAT, h5t.ENUM, h5t.STRING) and where not in ONE_BY_ONE:
        raise Damaged(f"{where}: found elements of HDF5 class {kind.get_class()}, expected numbers or strings")
    yield int(kind.get_size()) * max(count, chunk)
    if count and isinstance(kind, h5t.TypeStringID) and kind.is_variable_str():
        if count > STRINGS:
            raise Damaged(f"{where}: found {count:,} strings of variable length, expected at most {STRINGS:,}")
        strings = h5py.Dataset(data)
        yield from (len(strings[index]) for index in np.ndindex(shape))
