"""Random loss of events (as in EventDrop, Gu et al., IJCAI 2021, its random drop)."""

import numpy as np

from lsgcli.data.augment import event_augmentation
from lsgcli.data.events import Events

MOST = 0.5  # share of the events


@event_augmentation("drop-events")
def drop_events(events: Events, sensor: tuple[int, int], rng: np.random.Generator) -> Events:
    """Lose a share of the events, each with the same chance; the share is drawn up to a half. At least one event stays."""
    kept = rng.random(len(events), dtype=np.float32) >= rng.uniform(0, MOST)
    kept[int(rng.integers(len(events)))] = True
    return Events(events.x[kept], events.y[kept], events.t[kept], events.on[kept], events.sensor)
