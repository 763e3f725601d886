"""Small files in the layouts of published data sets."""

import io
import struct

import h5py
import numpy as np

from lsgcli.data.datasets.published import SPOKEN


def write_npz(path, events):
    """Events as numpy's arrays."""
    sensor = {} if events.sensor is None else {"sensor": events.sensor}
    np.savez(path, x=events.x, y=events.y, t=events.t, p=events.on, **sensor)


def gesture(rows):
    """The bytes of a recording of DVS-Gesture; rows: (x, y, p, t)."""
    stream = io.BytesIO()
    np.save(stream, np.asarray(rows))
    return stream.getvalue()


def write_shd(path, recordings, labels, times=np.float16, units=np.int64, keys=SPOKEN):
    """recordings: lists of (seconds, channel)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as content:
        spikes = content.create_group("spikes")
        for name, column, kind in (("times", 0, times), ("units", 1, units)):
            made = spikes.create_dataset(name, (len(recordings),), h5py.vlen_dtype(kind))
            for i, recording in enumerate(recordings):
                made[i] = np.array([event[column] for event in recording], kind)
        content["labels"] = np.array(labels)
        content["extra/keys"] = [name.encode() for name in keys]
        content["extra/speaker"] = np.zeros(len(labels), np.int64)


def write_nmnist(root, digits=(0, 1), count=3):
    """``NMNIST/Train/<digit>/<number>.bin`` and ``Test``; path -> events (x, y, t, on)."""
    written = {}
    for part in ("Train", "Test"):
        for digit in digits:
            for number in range(count):
                path = root / "NMNIST" / part / str(digit) / f"{number:05d}.bin"
                path.parent.mkdir(parents=True, exist_ok=True)
                rows = [((digit * 15 + k) % 34, (number + 2 * k) % 34, 70_000 * k, k % 3 == 0) for k in range(8)]
                path.write_bytes(b"".join(bytes([x, y]) + (on << 23 | t).to_bytes(3, "big") for x, y, t, on in rows))
                written[str(path)] = rows
    return written


def write_dvs_lip(root, words=("accused", "young"), count=3):
    """``DVSLip/DVS-Lip/train/<word>/<number>.npy`` and ``test``."""
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for word in words:
            folder = root / "DVSLip" / "DVS-Lip" / part / word
            folder.mkdir(parents=True)
            for number in range(count):
                table = np.zeros(50, [("t", "<i4"), ("x", "u1"), ("y", "u1"), ("p", "u1")])
                table["t"], table["p"] = np.sort(rng.integers(0, 1_000_000, 50)), rng.integers(0, 2, 50)
                table["x"], table["y"] = rng.integers(0, 128, (2, 50))
                np.save(folder / f"{number}.npy", table)


def write_fashion(root, train=20, test=10):
    """The four idx files of FashionMNIST, uncompressed; returns the test images (N, 28, 28)."""
    rng = np.random.default_rng(0)
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())
    return images
