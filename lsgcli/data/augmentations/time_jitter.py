"""Random times."""

import numpy as np

from lsgcli.data.augment import event_augmentation
from lsgcli.data.events import Events, in_order

SIGMA_US = 1000


@event_augmentation("time-jitter")
def time_jitter(events: Events, sensor: tuple[int, int], rng: np.random.Generator) -> Events:
    """Move each event in time, normally distributed with a standard deviation of 1 ms; order follows."""
    shift = rng.standard_normal(len(events), dtype=np.float32) * np.float32(SIGMA_US)
    return in_order(events.x, events.y, events.t + np.rint(shift).astype(np.int64), events.on, events.sensor)
