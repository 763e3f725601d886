"""Recordings of a simulated event camera in the layout of CIFAR10-DVS, of the images of a folder.

    python -m benchmarks.simulate cifar10/train recordings/CIFAR10DVS --per-class 60    # a class per folder

CIFAR10-DVS was recorded by moving each image of CIFAR-10 along a closed path in front of a DVS128. Here the camera is simulated
(:mod:`lsgcli.data.camera`), with the same properties: 128x128 pixels, about 1.2 s, about 200,000 events, file names, numbers and
orientation. A recording depends only on the seed, its class, and the file name and pixels of the image.
"""

import argparse
import functools
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lsgcli.data import camera, parallel, random
from lsgcli.data.datasets.base import Sample
from lsgcli.data.datasets.published import CIFAR_CLASSES
from lsgcli.data.events import Events
from lsgcli.data.folders import scan_folders
from lsgcli.data.images import image_suffixes, read_image
from lsgcli.system.files import make_folder, replacing

SIDE = 128  # pixels of a DVS128
NUMBERS = 1000  # recordings of a class in CIFAR10-DVS, numbered from 0
FEW = 10  # recordings of a class, of which an even spread from 0 would give none above 899
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, ITU-R BT.601
# Three times around a circle of 4 pixels. The thresholds are such that CIFAR-10's images give 200,000 events in the mean.
MODEL = camera.Camera(1_200_000, frames=97, loops=3, amplitude=4.0, threshold=0.11, sigma=0.015, noise=0.02, around="edge")


def simulate_folder(source: Path, out: Path, per_class: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Record the images of ``source/<class>/`` into ``out/<class>/``; returns numbers of recordings and events, and seconds."""
    start = time.monotonic()
    source = source.absolute()
    classes, found = scan_folders(source.parent, {"image": source.name}, image_suffixes())
    jobs = []
    for label, name in enumerate(classes):
        make_folder(out / name)
        images = [sample for sample in found if sample.label == label][:per_class]
        prefix = f"cifar10_{name}" if name in CIFAR_CLASSES else name
        for image, number in zip(images, numbers(len(images)), strict=True):
            jobs.append((image, out / name / f"{prefix}_{number}.aedat"))
    events = sum(parallel.each(functools.partial(record, seed), jobs))
    return {"recordings": len(jobs), "events": events, "seconds": round(time.monotonic() - start, 3)}


def shown(path: Path) -> np.ndarray:
    """Luminance of an image file, (128, 128) float32, 0..1, resized bilinearly without keeping the aspect ratio."""
    luminance = read_image(path).astype(np.float32) @ LUMINANCE / 255
    return np.asarray(Image.fromarray(luminance).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def numbers(count: int) -> list[int]:
    """Numbers of the recordings of a class, spread over 0..999 if there are at most 1000; of several, one is above 899."""
    if 2 <= count < FEW:
        return [k * (NUMBERS - 1) // (count - 1) for k in range(count)]
    return [k * NUMBERS // count if count <= NUMBERS else k for k in range(count)]


def record(seed: int, job: tuple[Sample, Path]) -> int:
    """Simulate one recording; returns its number of events."""
    sample, target = job
    key = sample.key.removeprefix(f"{sample.split}/")
    state = int(random.ids([f"simulate/{seed}/{key}"])[0])
    events = camera.simulate(shown(Path(sample.source)), np.random.Generator(np.random.PCG64(state)), MODEL)
    # The rotated orientation of CIFAR10-DVS.
    lying = Events(events.y, events.x, events.t, events.on, events.sensor)
    write_aedat2(target, lying, f"Simulated, not recorded: {key}, seed {seed}")
    return len(events)


def write_aedat2(path: Path, events: Events, comment: str = "") -> None:
    """Write events of a 128x128 sensor, in the coordinates of lsg's reader, as AEDAT 2.0."""
    words = np.empty((len(events), 2), ">u4")
    x, y = (SIDE - 1 - axis.astype(np.uint32) for axis in (events.x, events.y))
    words[:, 0] = y << 8 | x << 1 | ~events.on
    words[:, 1] = events.t
    with replacing(path) as temporary:
        header = f"#!AER-DAT2.0\r\n# {comment.encode('unicode_escape').decode('ascii')}\r\n"
        temporary.write_bytes(header.encode("ascii") + words.tobytes())


def main() -> None:
    """Simulate, and print the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of images, a class per folder")
    parser.add_argument("out", type=Path, help="output folder")
    parser.add_argument("--per-class", type=int, help="only the first N images of each class, by name")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(simulate_folder(options.source, options.out, options.per_class, options.seed), options.out)


if __name__ == "__main__":
    main()
