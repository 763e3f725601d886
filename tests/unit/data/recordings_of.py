"""Small files in the layouts of published data sets."""

import h5py
import numpy as np


def write_shd(path, recordings, labels, times=np.float16, units=np.int64):
    """recordings: lists of (seconds, channel)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as content:
        spikes = content.create_group("spikes")
        for name, column, kind in (("times", 0, times), ("units", 1, units)):
            made = spikes.create_dataset(name, (len(recordings),), h5py.vlen_dtype(kind))
            for i, recording in enumerate(recordings):
                made[i] = np.array([event[column] for event in recording], kind)
        content["labels"] = np.array(labels)
