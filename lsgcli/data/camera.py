"""Simulation of an event camera that records a moving image.

The image moves along a closed path. Each pixel compares its log intensity, log(I + eps), with a reference and emits an event each time
they differ by its threshold, by which the reference is then shifted. Thresholds vary between pixels, N(c, sigma), as in a real sensor;
some events are noise.
"""

from typing import NamedTuple

import numpy as np

from lsgcli.data.events import Events, Sensor, in_order

VERSION = 1  # part of the cache's digest: raise it when the same image gives other events
EPS = 0.1  # intensity of the dark


class Camera(NamedTuple):
    """Settings of a simulation.

    Attributes:
        duration_us: length of the recording in microseconds.
        frames: positions along the path at which intensities are computed; between them, times are interpolated.
        loops: number of cycles along the path.
        amplitude: half the extent of the path, pixels.
        threshold: mean contrast threshold c, in log intensity.
        sigma: standard deviation of the thresholds.
        noise: noise events, as a fraction of the others.
        around: what is around the image, a mode of numpy.pad: ``constant`` is dark, ``edge`` repeats its edge pixels.
    """

    duration_us: int = 300_000
    frames: int = 25
    loops: int = 1
    amplitude: float = 3.0
    threshold: float = 0.25
    sigma: float = 0.03
    noise: float = 0.02
    around: str = "constant"


def simulate(image: np.ndarray, rng: np.random.Generator, camera: Camera | None = None) -> Events:
    """Record an image that moves around a closed path.

    Args:
        image: (H, W) intensities, 0..1; H x W is also the sensor.
        rng: draws thresholds, the start of the path and noise.

    Returns:
        The events; at least one for any image.
    """
    camera = camera or Camera()
    height, width = image.shape
    phase = rng.uniform(-np.pi / 4, np.pi / 4)  # a display starts its path at about the same place
    thresholds = np.maximum(rng.normal(camera.threshold, camera.sigma, height * width), 0.05).astype(np.float32)
    angle = phase + np.linspace(0, 2 * np.pi * camera.loops, camera.frames)
    rows = camera.amplitude * np.sin(angle)
    columns = camera.amplitude * np.cos(angle)
    level = _shifted(image.astype(np.float32), rows, columns, camera.around).reshape(camera.frames, -1)
    level += np.float32(EPS)
    np.log(level, out=level)  # in place: fresh memory of this size costs more than the arithmetic
    level /= thresholds  # in units of each pixel's threshold
    steps, before = _crossings(level)
    return _events(level, steps, before, (width, height), camera, rng)


def _shifted(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, pad: str) -> np.ndarray:
    """(K, H, W): the image moved by each of K sub-pixel shifts, bilinear; ``pad`` is the mode of numpy.pad."""
    height, width = image.shape
    margin = int(np.ceil(np.abs([rows, columns]).max())) + 1
    padded = np.pad(image, margin, pad)  # type: ignore[call-overload]
    row = np.floor(rows).astype(int)
    column = np.floor(columns).astype(int)
    down, right = ((part - whole).astype(np.float32) for part, whole in ((rows, row), (columns, column)))
    scene = np.empty((len(rows), height, width), np.float32)
    for k in range(len(rows)):  # a slice at a time stays in the processor's cache
        above = margin + row[k]
        left = margin + column[k]
        patch = padded[above : above + height + 1, left : left + width + 1]
        patch = patch[:-1] + down[k] * (patch[1:] - patch[:-1])
        np.add(patch[:, :-1], right[k] * (patch[:, 1:] - patch[:, :-1]), out=scene[k])
    return scene


def _crossings(level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number and direction of threshold crossings of each pixel between frames.

    Args:
        level: (K, P) log intensities in units of the threshold.

    Returns:
        (K - 1, P) signed numbers of crossings, and the references before them.
    """
    reference = level[0]
    steps = np.empty_like(level[1:])
    before = np.empty_like(level[1:])
    for k in range(1, len(level)):  # a reference depends on those before it
        before[k - 1] = reference
        np.trunc(level[k] - reference, out=steps[k - 1])
        reference = reference + steps[k - 1]
    return steps, before


def _events(
    level: np.ndarray,
    steps: np.ndarray,
    before: np.ndarray,
    sensor: Sensor,
    camera: Camera,
    rng: np.random.Generator,
) -> Events:
    width, height = sensor
    pixels = width * height
    period = camera.duration_us / (len(level) - 1)
    level = level.ravel()
    steps = steps.ravel()
    before = before.ravel()
    place = np.flatnonzero(steps)
    count = np.abs(steps[place]).astype(np.int64)
    nth = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count) + 1  # 1, 2, ... within a pixel's crossings
    place = np.repeat(place, count)
    sign = np.sign(steps[place])
    start = level[place]
    end = level[place + pixels]
    share = (before[place] + sign * nth - start) / (end - start)
    frame, pixel = np.divmod(place, pixels)
    t = ((frame + np.clip(share, 0, 1)) * period).astype(np.int64)
    extra = max(rng.poisson(camera.noise * len(t)), 0 if len(t) else 1)
    pixel = np.concatenate([pixel, rng.integers(0, pixels, extra)])
    t = np.concatenate([t, rng.integers(0, camera.duration_us, extra)])
    on = np.concatenate([sign > 0, rng.random(extra) < 0.5])
    x = (pixel % width).astype(np.uint16)
    y = (pixel // width).astype(np.uint16)
    return in_order(Events(x, y, t, on, sensor))
