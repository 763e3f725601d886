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
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from lsgcli.config.run import check_equal
from lsgcli.data import camera, manifest, parallel, random
from lsgcli.data.datasets.base import Sample, digest
from lsgcli.data.datasets.cifar_dvs import CLASSES
from lsgcli.data.events import Events
from lsgcli.data.folders import check_folder, scan_folders, visible
from lsgcli.data.guard import foreign
from lsgcli.data.images import image_suffixes, read_image
from lsgcli.data.readers import base as readers
from lsgcli.data.writers import SIDE, write_aedat2, write_npz
from lsgcli.errors import ConfigError, DataError
from lsgcli.registry import unknown
from lsgcli.system import files, schema

VERSION = 1  # raise it when the same image gives another recording
NOTE = "simulation.json"  # settings of the recordings; SHA256SUMS lists it when they are complete
NUMBERS = 1000  # recordings of a class in CIFAR10-DVS, numbered from 0
FEW = 10  # recordings of a class, of which an even spread from 0 would give none above 899
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue, ITU-R BT.601
# Three times around a circle of 4 pixels. The thresholds are such that CIFAR-10's images give 200,000 events in the mean.
MODEL = camera.Camera(1_200_000, frames=97, loops=3, amplitude=4.0, threshold=0.11, sigma=0.015, noise=0.02, around="edge")


class Simulation(TypedDict):
    """The content of simulation.json."""

    seed: int
    per_class: int | None
    format: NotRequired[str]
    images: NotRequired[str]


def _aedat2(path: Path, events: Events, comment: str) -> None:
    """AEDAT 2.0 in the rotated orientation of CIFAR10-DVS: upright row = 127 - bits 1-7, column = 127 - bits 8-14."""
    lying = Events(events.y, events.x, events.t, events.on, events.sensor)
    layout = "Upright, as in CIFAR10-DVS: row = 127 - bits 1-7, column = 127 - bits 8-14"
    write_aedat2(path, lying, comments=(comment, layout))


# Format -> ending, and how upright events are written.
FORMATS: dict[str, tuple[str, Callable[[Path, Events, str], None]]] = {
    "aedat2": (".aedat", _aedat2),
    "npz": (".npz", lambda path, events, comment: write_npz(path, events)),
}
RECORDINGS = tuple(suffix for suffix, _ in FORMATS.values())


def simulate_folder(
    source: Path,
    out: Path,
    *,
    per_class: int | None = None,
    form: str = "aedat2",
    seed: int = 0,
    workers: int | None = None,
    progress: parallel.Progress | None = None,
) -> dict[str, Any]:
    """Record the images of ``source/<class>/`` into ``out/<class>/``.

    A recording depends only on the seed, its class, and the file name and pixels of the image. Numbers are spread over 0..999,
    so that split rules for CIFAR10-DVS select a tenth of them as test part, or one of 2 to 9. Finished recordings of an earlier
    call with the same settings are kept. ``SHA256SUMS`` lists the recordings and ``simulation.json`` when all are complete; its
    entries of other files stay.

    Args:
        per_class: number of images per class, in order of names. Default: all.
        form: ``aedat2``, or ``npz``, which is upright.
        workers: number of processes. Default: number of usable CPUs.
        progress: called with (recordings done, total recordings).

    Returns:
        JSON types: ``folder``, ``recordings`` and ``events`` (numbers), ``kept`` (recordings that existed before), ``classes``
        (name: recordings), ``seconds``.

    Raises:
        ConfigError: unknown format, or ``out`` contains recordings with other settings, or the checksums of other data.
        DataError: there are no images, or one is damaged.
        StorageError: ``out`` cannot be written, or one of its files or folders is a symbolic link.
    """
    start = time.monotonic()
    if form not in FORMATS:
        raise ConfigError("--format: " + unknown("format", form, list(FORMATS)))
    samples, classes = _images(source, per_class)
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(source)):
        raise ConfigError(
            f"{out}: is inside the folder of images {source}, expected a separate folder",
            hint="Recordings in it would be read as a class of images.",
        )
    names = [classes[sample.label] for sample in samples]
    targets = _targets(out, names, FORMATS[form][0])
    settings = _settings(samples, names, format=form, seed=seed, per_class=per_class)
    jobs = list(zip(samples, targets, strict=True))
    waiting = f"{out}: waiting for another process that simulates recordings there"
    with files.making_folder(out), files.locked(out / ".lock", waiting):
        for path in (*targets, out / NOTE, out / manifest.NAME):
            files.check_no_link(path, out)
        _check_settings(source, out, settings, targets)
        complete = NOTE in manifest.listed(out) and all(target.exists() for target in targets)
        if not complete:
            manifest.remove(out, {NOTE})
            files.write_json(out / NOTE, settings)
        for name in classes:
            files.make_folder(out / name)
            files.remove_partial(out / name)
        events, kept = zip(*parallel.each(functools.partial(_record, form, seed), jobs, workers, progress), strict=True)
        if not (complete and all(kept)):
            manifest.write(out, [*targets, out / NOTE], extend=True)
    return {
        "folder": str(out),
        "recordings": len(jobs),
        "kept": sum(kept),
        "events": sum(events),
        "classes": dict(Counter(names)),
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


def _record(form: str, seed: int, job: tuple[Sample, Path]) -> tuple[int, bool]:
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
    FORMATS[form][1](target, events, f"Simulated, not recorded: {key}, seed {seed}")
    return len(events), False


def _images(source: Path, per_class: int | None) -> tuple[list[Sample], tuple[str, ...]]:
    check_folder(source, "a folder", "Give a folder with one subfolder of images per class.")
    for name in ("train", "test"):
        inner = source / name
        # A class may be called "train", as in CIFAR-100; then it contains images.
        if inner.is_dir() and any(entry.is_dir() for entry in visible(inner)):
            raise DataError(
                f"{source}: found {name}/ with subfolders, expected one folder of images per class",
                hint=f"Give {inner} instead.",
            )
    source = Path(os.path.abspath(source))
    classes, found = scan_folders(source.parent, {"image": source.name}, image_suffixes())
    by_class = [[sample for sample in found if sample.label == label] for label in range(len(classes))]
    return [sample for part in by_class for sample in part[:per_class]], classes


def _digest(samples: list[Sample]) -> str:
    """Digest of names and contents of the images, independent of location and modification time."""

    def content(sample: Sample) -> str:
        with foreign(sample.source, "an image", hint="Check its permissions."), open(sample.source, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    return digest(f"{sample.key}\0{content(sample)}" for sample in samples)


def _targets(out: Path, names: list[str], suffix: str) -> list[Path]:
    """The file of each recording, in the order of the images."""
    left = {name: iter(numbers(count)) for name, count in Counter(names).items()}
    prefix = {name: f"cifar10_{name}" if name in CLASSES else name for name in left}
    return [out / name / f"{prefix[name]}_{next(left[name])}{suffix}" for name in names]


def _settings(samples: list[Sample], names: list[str], **given: Any) -> dict[str, Any]:
    """What the recordings depend on, as :data:`NOTE` stores it; ``names`` are the classes of the samples."""
    numbering = {"numbering": 2} if any(2 <= count < FEW for count in Counter(names).values()) else {}
    versions = [VERSION, camera.VERSION]
    return {**given, "images": _digest(samples), "versions": versions, "model": asdict(MODEL), **numbering}


def _check_settings(source: Path, out: Path, settings: dict[str, Any], targets: list[Path]) -> None:
    """Check that ``out`` contains no recordings with other settings, whose files are ``targets``."""
    hint = "Give another folder, or remove this one."
    if os.path.lexists(out / NOTE):
        there = schema.read(out / NOTE, Simulation, ConfigError, hint=hint)
        check_equal(out, there, {key: value for key, value in settings.items() if key != "images"}, ConfigError, hint)
        if there.get("images") != settings["images"]:
            raise ConfigError(f"{out}: found recordings of other images, expected those of {source}", hint=hint)
        return
    if os.path.lexists(out / manifest.NAME):
        raise ConfigError(f"{out / manifest.NAME}: found the checksums of other data", hint=hint)
    for folder in {target.parent for target in targets}:
        for path in folder.glob(f"*{targets[0].suffix}"):
            raise ConfigError(f"{path}: found a recording without a {NOTE} with its settings", hint=hint)
