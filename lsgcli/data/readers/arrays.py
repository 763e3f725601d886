"""Recordings as numpy's arrays: ``.npy`` and ``.npz``.

Arrays x, y, t, p, or in an ``.npy`` fields of these names: whole numbers of any type. Times are microseconds; p is 1 (or True) for ON, 0
or -1 for OFF. An array ``sensor`` holds width and height, if there is one.
"""

import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events, Sensor
from lsgcli.data.guard import Damaged, damaged
from lsgcli.data.readers.base import SIDE, check_memory, integers, reader
from lsgcli.registry import register

Arrays = Mapping[str, np.ndarray]
MEMBERS = ("x.npy", "y.npy", "t.npy", "p.npy", "sensor.npy")
UNPACKED = 1 << 30  # bytes
EVENT = 40  # bytes of an event in the types of `Events`, and of what converting and sorting it takes
NUMPY = b"\x93NUMPY"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@register("reader", "npy")
@reader(
    ".npy",
    ".npz",
    magic=rb"\x93NUMPY|PK\x03\x04",
    hint="Write it as np.savez(path, x=..., y=..., t=..., p=..., sensor=(width, height)), t in microseconds.",
)
def npy(path: Path) -> Events:
    """Events in numpy arrays; pickled objects are rejected."""
    with open(path, "rb") as stream:
        if stream.read(len(NUMPY)) != NUMPY:
            return _events(_members(path), path.stat().st_size)
    table = _array(path.read_bytes())
    return _events({name: table[name] for name in table.dtype.names or ()}, table.nbytes)


def _events(arrays: Arrays, size: int) -> Events:
    """The events of the arrays x, y, t, p in a file of ``size`` bytes."""
    if not set("xytp") <= arrays.keys():
        raise Damaged(f"found arrays {', '.join(arrays)[:200] or 'of other names'}, expected x, y, t, p")
    longest = max(array.size for array in arrays.values())
    needed = sum(array.nbytes for array in arrays.values()) + EVENT * longest
    check_memory(size, needed, f"arrays of {longest:,} numbers", room=UNPACKED)
    sensor: Sensor | None = None
    if "sensor" in arrays:
        width, height = integers("sensor", arrays["sensor"].ravel(), 1, SIDE, np.int64).tolist()
        sensor = width, height
    x, y, t, p = (arrays[name] for name in "xytp")
    return Events(x, y, t, p, sensor)


def _members(path: Path) -> dict[str, np.ndarray]:
    """The required arrays of an ``.npz``."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        found = [info for info in archive.infolist() if info.filename in MEMBERS]
        sizes = [info.file_size for info in found]
        needed = sum(sizes) + max(sizes, default=0)  # unpacking takes an array twice
        check_memory(path.stat().st_size, needed, "arrays", room=UNPACKED)
        for info in found:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise damaged(info.filename, f"compression {info.compress_type}", "none or deflate")
            with archive.open(info) as stream:
                arrays[info.filename.removesuffix(".npy")] = _array(stream.read(info.file_size), info.filename)
    return arrays


def _array(content: bytes, name: str = "the array") -> np.ndarray:
    """The array of an ``.npy`` file, without a copy of it, and without allocating what its header claims; numpy refuses objects."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    try:
        shape, fortran, kind = HEADERS[version](stream)
    except (KeyError, MemoryError) as error:  # another version; brackets nested too deep for Python's parser
        raise damaged(name, f"a header that cannot be parsed, of version {version}", "one of version 1.0 or 2.0") from error
    if (end := stream.tell() + math.prod(shape) * kind.itemsize) > len(content):
        raise damaged(name, f"{len(content)} bytes", f"{end} of shape {shape} and type {kind}; the file is truncated")
    return np.frombuffer(content, kind, math.prod(shape), stream.tell()).reshape(shape, order="F" if fortran else "C")
