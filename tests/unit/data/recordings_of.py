"""Small files in the layouts of published data sets."""

import h5py
import numpy as np


def write_shd(path, recordings, labels):
    """recordings: lists of (seconds, channel)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as content:
        spikes = content.create_group("spikes")
        for name, column, kind in (("times", 0, np.float16), ("units", 1, np.int64)):
            made = spikes.create_dataset(name, (len(recordings),), h5py.vlen_dtype(kind))
            for i, recording in enumerate(recordings):
                made[i] = np.array([event[column] for event in recording], kind)
        content["labels"] = np.array(labels)
