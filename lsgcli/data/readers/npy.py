"""Recordings as numpy files: ``.npy`` with fields x, y, t, p, or ``.npz`` with arrays of these names.

Times are microseconds; p is 1 (or True) for ON and 0 or -1 for OFF. An ``.npz`` may hold ``sensor``: width and height.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lsgcli.data.events import Events, in_order
from lsgcli.data.guard import foreign
from lsgcli.errors import DataError
from lsgcli.registry import register

FIELDS = ("x", "y", "t", "p")
HINT = "Write it as np.savez(path, x=..., y=..., t=..., p=..., sensor=(width, height)), t in microseconds."


@register("reader", "npy")
class Npy:
    """Events in numpy arrays; nothing pickled is accepted."""

    suffixes = (".npy", ".npz")

    @staticmethod
    def recognise(head: bytes) -> bool:
        """Whether the first bytes are this format's."""
        return head.startswith(b"\x93NUMPY")

    @staticmethod
    def read(path: Path) -> Events:
        """All events of the file."""
        # Opened here: numpy leaves a file open that turns out to be no archive.
        with foreign(path, "arrays x, y, t, p", hint=HINT), open(path, "rb") as stream:
            arrays = _load(stream)
        _check(path, arrays)
        return in_order(arrays["x"], arrays["y"], arrays["t"], arrays["p"] > 0, _sensor(path, arrays))


def _load(stream: BinaryIO) -> dict[str, np.ndarray]:
    content = np.load(stream, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return {name: content[name] for name in content.dtype.names or ()}
    with content:
        return {name: content[name] for name in content.files if name in (*FIELDS, "sensor")}


def _check(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    missing = [name for name in FIELDS if name not in arrays]
    if missing:
        raise DataError(f"{path}: found arrays {', '.join(arrays) or 'none'}; {', '.join(missing)} missing", hint=HINT)
    shapes = {name: arrays[name].shape for name in FIELDS}
    if len(set(shapes.values())) > 1 or len(shapes["t"]) != 1 or not shapes["t"][0]:
        raise DataError(f"{path}: found shapes {shapes}, expected equal lengths of at least 1", hint=HINT)
    for name in FIELDS:
        _check_values(path, name, arrays[name])


def _check_values(path: Path, name: str, values: np.ndarray) -> None:
    if values.dtype.kind not in ("iub" if name == "p" else "iu"):
        raise DataError(f"{path}: array {name} is of type {values.dtype}, expected whole numbers", hint=HINT)
    if name in "xy" and not 0 <= int(values.min()) <= int(values.max()) <= 0xFFFF:
        raise DataError(f"{path}: array {name} has {values.min()} to {values.max()}, expected 0 to 65535", hint=HINT)
    if name == "t" and int(values.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{path}: array t has {values.max()}, expected microseconds below 2^63", hint=HINT)


def _sensor(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[int, int] | None:
    if "sensor" not in arrays:
        return None
    value = arrays["sensor"]
    if value.shape != (2,) or value.dtype.kind not in "iu" or int(value.min()) < 1:
        raise DataError(f"{path}: array sensor is {value!r}, expected width and height", hint=HINT)
    return int(value[0]), int(value[1])
