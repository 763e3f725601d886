"""Random places."""

import numpy as np

from lsgcli.data.augment import event_augmentation
from lsgcli.data.events import Events

SIGMA = 1.0  # pixels


@event_augmentation("spatial-jitter")
def spatial_jitter(events: Events, sensor: tuple[int, int], rng: np.random.Generator) -> Events:
    """Move each event, normally distributed with a standard deviation of 1 pixel along both axes, but not off the sensor."""
    x, y = (_moved(place, length, rng) for place, length in zip((events.x, events.y), sensor, strict=True))
    return Events(x, y, events.t, events.on, events.sensor)


def _moved(place: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    moved = place + np.rint(rng.standard_normal(len(place), dtype=np.float32) * np.float32(SIGMA)).astype(np.int32)
    return np.clip(moved, 0, length - 1).astype(np.uint16)
