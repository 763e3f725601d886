"""Writers of recordings: AEDAT 2.0 as in CIFAR10-DVS, and numpy archives.

Both use the coordinates of the readers, so that a recording is unchanged by writing and reading it.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lsgcli.data.events import Events
from lsgcli.errors import DataError
from lsgcli.files import replacing

SIDE = 128  # pixels of a DVS128
WRAP = 1 << 32  # microseconds after which the times of AEDAT 2.0 overflow
HINT = "Write it as .npz, which holds any sensor and any time."
HEADER = (
    "!AER-DAT2.0",
    " Events of a DVS128: 8 bytes each, big-endian, uint32 address and uint32 time",
    " Address: bit 0 polarity (0 is ON), bits 1-7 127 - x, bits 8-14 127 - y",
    " Time: microseconds",
)


def write_aedat2(path: Path, events: Events, *, comments: Iterable[str] = ()) -> None:
    """Write events of a 128x128 sensor as AEDAT 2.0, atomically.

    ``#`` lines that end in CR LF, then 8 bytes an event: big-endian u32 address and u32 microseconds. The address of a
    DVS128 needs 15 bits, so the first byte after the header is 0, which no parser takes for another ``#`` line.

    Args:
        events: in the reader's coordinates: x = 127 - bits 1-7, y = 127 - bits 8-14.
        comments: further header lines. Characters other than printable ASCII are written as backslash escapes.

    Raises:
        DataError: there are no events, or the format cannot represent them.
        StorageError: the file cannot be written.
    """
    _check_aedat2(path, events)
    header = "".join(f"#{line}\r\n" for line in (*HEADER, *(f" {_ascii(line)}" for line in comments)))
    words = np.empty((len(events), 2), ">u4")
    x, y = (SIDE - 1 - axis.astype(np.uint32) for axis in (events.x, events.y))
    words[:, 0] = y << 8 | x << 1 | ~events.on
    words[:, 1] = events.t
    with replacing(path) as temporary, open(temporary, "wb") as stream:
        stream.write(header.encode("ascii"))
        stream.write(words.data)


def write_npz(path: Path, events: Events) -> None:
    """Write events as arrays x, y, t (microseconds), p (1 is ON) and, where known, sensor (width, height).

    Each array has the smallest sufficient type and is not compressed, mostly 8 bytes per event. Deflate would more than halve the size,
    but writing takes three times as long as simulating the recording, and reading three times as long.

    Raises:
        DataError: there are no events.
        StorageError: the file cannot be written.
    """
    _check_some(path, events)
    arrays = {name: _narrow(getattr(events, name)) for name in ("x", "y", "t")}
    if events.sensor is not None:
        arrays["sensor"] = np.array(events.sensor, np.int64)
    with replacing(path) as temporary, open(temporary, "wb") as stream:  # numpy would add .npz to a path
        np.savez(stream, p=events.on.astype(np.uint8), **arrays)  # type: ignore[arg-type]


def _ascii(line: str) -> str:
    return line.encode("unicode_escape").decode("ascii")


def _narrow(values: np.ndarray) -> np.ndarray:
    if int(values.min()) < 0:
        return values
    return values.astype(np.min_scalar_type(int(values.max())))


def _check_some(path: Path, events: Events) -> None:
    if not len(events):
        raise DataError(f"{path}: found no events to write, expected at least one", hint="Omit this recording.")


def _check_aedat2(path: Path, events: Events) -> None:
    _check_some(path, events)
    outside = (events.x >= SIDE) | (events.y >= SIDE)
    if outside.any():
        i = int(outside.argmax())
        found = f"event {i} is at x={events.x[i]}, y={events.y[i]}"
        raise DataError(f"{path}: {found}, expected a sensor of {SIDE}x{SIDE} for AEDAT 2.0", hint=HINT)
    early, late = int(events.t.min()), int(events.t.max())
    if early < 0 or late >= WRAP:
        found = f"times from {early} to {late} us"
        raise DataError(f"{path}: {found}, expected 0 to 2^32 - 1 us for AEDAT 2.0", hint=HINT)
    step = np.diff(events.t)
    # A reader would treat a longer gap as an overflow of the counter.
    wrong = (step < 0) | (step > WRAP // 2)
    if wrong.any():
        i = int(wrong.argmax())
        found = f"event {i + 1} is {step[i]} us after the previous one"
        raise DataError(f"{path}: {found}, expected 0 to 2^31 us for AEDAT 2.0", hint=HINT)
