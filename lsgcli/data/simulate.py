"""Simulated recordings of a folder of images, in the layout of CIFAR10-DVS.

CIFAR10-DVS was recorded by moving each image of CIFAR-10 along a closed path in front of a DVS128. Here the camera is simulated
(:mod:`lsgcli.data.camera`), with the same properties: 128x128 pixels, about 1.2 s, about 200,000 events, file names, numbers and
orientation.
"""

import functools
import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lsgcli.config.run import check_equal
from lsgcli.data import camera, manifest, parallel, random
from lsgcli.data.datasets.base import Sample, digest
from lsgcli.data.datasets.cifar_dvs import CLASSES
from lsgcli.data.events import Events
from lsgcli.data.folders import check_folder, scan_folders
from lsgcli.data.guard import foreign
from lsgcli.data.images import image_suffixes, read_image
from lsgcli.data.readers import base as readers
from lsgcli.data.writers import SIDE, write_aedat2
from lsgcli.errors import ConfigError, DataError
from lsgcli.system import files, schema

VERSION = 1  # raise it when the same image gives another recording
NOTE = "simulation.json"  # settings of the recordings
NUMBERS = 1000  # recordings of a class in CIFAR10-DVS, numbered from 0
FEW = 10  # recordings of a class, of which an even spread from 0 would give none above 899
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, ITU-R BT.601
# Three times around a circle of 4 pixels. The thresholds are such that CIFAR-10's images give 200,000 events in the mean.
MODEL = camera.Camera(1_200_000, frames=97, loops=3, amplitude=4.0, threshold=0.11, sigma=0.015, noise=0.02, around="edge")


def simulate_folder(
    source: Path,
    out: Path,
    *,
    per_class: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: parallel.Progress | None = None,
) -> dict[str, Any]:
    """Record the images of ``source/<class>/`` into ``out/<class>/``, as AEDAT 2.0.

    A recording depends only on the seed, its class, and the file name and pixels of the image. Numbers are spread over 0..999,
    so that split rules for CIFAR10-DVS select a tenth of them as test part, or one of 2 to 9. Finished recordings of an earlier
    call with the same settings are kept. ``SHA256SUMS`` lists the recordings and ``simulation.json`` when all are complete; its
    entries of other files stay.

    Args:
        per_class: number of images per class, in order of names. Default: all.
        workers: number of processes. Default: number of usable CPUs.
        progress: called with (recordings done, total recordings).

    Returns:
        JSON types: ``folder``, ``recordings`` and ``events`` (numbers), ``kept`` (recordings that existed before), ``classes``
        (name: recordings), ``seconds``.

    Raises:
        ConfigError: ``out`` contains recordings with other settings.
        DataError: there are no images, or one is damaged.
        StorageError: ``out`` cannot be written, or one of its files or folders is a symbolic link.
    """
    start = time.monotonic()
    check_folder(source, "a folder", "Give a folder with one subfolder of images per class.")
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(source)):
        raise ConfigError(
            f"{out}: is inside the folder of images {source}, expected a separate folder",
            hint="Recordings in it would be read as a class of images.",
        )
    source = Path(os.path.abspath(source))
    classes, found = scan_folders(source.parent, {"image": source.name}, image_suffixes())
    jobs = []
    for label, name in enumerate(classes):
        images = [sample for sample in found if sample.label == label][:per_class]
        prefix = f"cifar10_{name}" if name in CLASSES else name
        jobs += [(image, out / name / f"{prefix}_{k}.aedat") for image, k in zip(images, numbers(len(images)), strict=True)]
    counts = Counter(target.parent.name for _, target in jobs)
    settings = {"format": "aedat2", "seed": seed, "per_class": per_class, "images": _digest(sample for sample, _ in jobs)}
    settings |= {"versions": [VERSION, camera.VERSION], "model": asdict(MODEL)}
    if any(2 <= count < FEW for count in counts.values()):
        settings["numbering"] = 2
    waiting = f"{out}: waiting for another process that simulates recordings there"
    with files.making_folder(out), files.locked(out / ".lock", waiting):
        written = [*(target for _, target in jobs), out / NOTE]
        for path in (*written, out / manifest.NAME):
            files.check_no_link(path, out)
        check_settings(out, settings, written)
        files.write_json(out / NOTE, settings)
        for name in classes:
            files.make_folder(out / name)
            files.remove_partial(out / name)
        events, kept = zip(*parallel.each(functools.partial(_record, seed), jobs, workers, progress), strict=True)
        manifest.write(out, written, extend=True)
    return {
        "folder": str(out),
        "recordings": len(jobs),
        "kept": sum(kept),
        "events": sum(events),
        "classes": dict(counts),
        "seconds": round(time.monotonic() - start, 3),
    }


def shown(path: Path) -> np.ndarray:
    """Luminance of an image file, (128, 128) float32, 0..1, resized bilinearly without keeping the aspect ratio.

    Raises:
        DataError: not an image, or damaged.
    """
    from PIL import Image

    luminance = read_image(path).astype(np.float32) @ LUMINANCE / 255
    return np.asarray(Image.fromarray(luminance).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def numbers(count: int) -> list[int]:
    """Numbers of the recordings of a class, spread over 0..999 if there are at most 1000; of several, one is above 899."""
    if 2 <= count < FEW:
        return [k * (NUMBERS - 1) // (count - 1) for k in range(count)]
    return [k * NUMBERS // count if count <= NUMBERS else k for k in range(count)]


def _record(seed: int, job: tuple[Sample, Path]) -> tuple[int, bool]:
    """Simulate one recording unless it exists; returns its number of events, and whether it existed."""
    sample, target = job
    if target.exists():
        try:
            return len(readers.read(target)), True
        except DataError:
            pass  # damaged since; make it again
    key = sample.key.removeprefix(f"{sample.split}/")
    state = int(random.ids([f"simulate/{seed}/{key}"])[0])
    events = camera.simulate(shown(Path(sample.source)), np.random.Generator(np.random.PCG64(state)), MODEL)
    # The rotated orientation of CIFAR10-DVS.
    lying = Events(events.y, events.x, events.t, events.on, events.sensor)
    layout = "Upright, as in CIFAR10-DVS: row = 127 - bits 1-7, column = 127 - bits 8-14"
    write_aedat2(target, lying, comments=(f"Simulated, not recorded: {key}, seed {seed}", layout))
    return len(events), False


def _digest(samples: Iterable[Sample]) -> str:
    """Digest of names and contents of the images, independent of location and modification time."""
    lines = []
    for sample in samples:
        with foreign(sample.source, "an image", hint="Check its permissions."), open(sample.source, "rb") as stream:
            lines.append(f"{sample.key}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}")
    return digest(lines)


def check_settings(out: Path, settings: dict[str, Any], written: list[Path]) -> None:
    """Check that ``out`` contains no recordings of other images or with other settings, in files that are ``written``."""
    hint = "Give another folder, or remove this one."
    if os.path.lexists(out / NOTE):
        there = schema.read(out / NOTE, dict[str, Any], ConfigError, hint=hint)
        check_equal(out, there, settings, ConfigError, hint)
    elif existing := [path for path in written if path.exists()]:
        raise ConfigError(f"{existing[0]}: found a recording without a {NOTE} with its settings", hint=hint)
