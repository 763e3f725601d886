"""Augmentations of recordings."""

from dataclasses import replace

import numpy as np

from lsgcli.data.augment.base import EventAugmentation
from lsgcli.data.events import Events, in_order
from lsgcli.registry import register


@register("augmentation", "drop-events")
@EventAugmentation
def drop_events(events: Events, sensor: tuple[int, int], rng: np.random.Generator) -> Events:
    """Drop each event with the same probability, drawn per sample from 0 to 0.5. At least one event is kept.

    Source: the random drop of EventDrop, Gu et al., IJCAI 2021.
    """
    kept = rng.random(len(events), dtype=np.float32) >= rng.uniform(0, 0.5)
    kept[int(rng.integers(len(events)))] = True
    return events[kept]


@register("augmentation", "spatial-jitter")
@EventAugmentation
def spatial_jitter(events: Events, sensor: tuple[int, int], rng: np.random.Generator) -> Events:
    """Add normal noise with standard deviation 1 pixel to both coordinates of each event, inside the sensor."""

    def jittered(place: np.ndarray, length: int) -> np.ndarray:
        shifted = place + np.rint(rng.standard_normal(len(place), dtype=np.float32)).astype(np.int32)
        return np.clip(shifted, 0, length - 1).astype(np.uint16)

    return replace(events, x=jittered(events.x, sensor[0]), y=jittered(events.y, sensor[1]))


@register("augmentation", "time-jitter")
@EventAugmentation
def time_jitter(events: Events, sensor: tuple[int, int], rng: np.random.Generator) -> Events:
    """Add normal noise with standard deviation 1 ms to the time of each event, and sort."""
    shift = rng.standard_normal(len(events), dtype=np.float32) * np.float32(1000)  # microseconds
    return in_order(events.x, events.y, events.t + np.rint(shift).astype(np.int64), events.on, events.sensor)
