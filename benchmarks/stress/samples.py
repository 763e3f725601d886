"""Rows of the samples that a network sees: in which part of the data they are, and how they are augmented."""

import functools
import hashlib
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stress import seeds
from benchmarks.stress.data import recording, recordings
from benchmarks.stress.rows import Case, row
from lsgcli import registry
from lsgcli.config.resolve import resolve
from lsgcli.data import random as draws
from lsgcli.data.batches import batches, shares
from lsgcli.data.bundle import DataBundle, Split
from lsgcli.data.prepare import prepare
from lsgcli.errors import DataError
from tests.tiny import images
from tests.unit.data import recordings_of

# Row 35


def layouts(folder: Path) -> dict[str, Path]:
    """Data set -> folder, for each of the data sets that can be made here."""
    words = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    numbers = (0, 1, 50, 99, 100, 500, 899, 900, 950, 999)
    for word, number in itertools.product(words, numbers):
        path = folder / "CIFAR10DVS" / word / f"cifar10_{word}_{number}.aedat"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(recording(1000 * words.index(word) + number))
    for number, path in enumerate(recordings_of.write_nmnist(folder, count=6)):
        Path(path).write_bytes(seeds.nmnist(seeds.rows(number, 40, 34, 34)))
    for part, user, label in itertools.product(("Train", "Test"), range(3), range(4)):
        path = folder / "DVSGesture" / f"ibmGesture{part}" / f"user{user + 3 * (part == 'Test'):02}_led" / f"{label}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        number = 100 * (part == "Test") + 10 * user + label
        path.write_bytes(recordings_of.gesture([(x, y, on, t // 1000) for x, y, t, on in seeds.rows(number, 40, 128, 128)]))
    for kind, number in itertools.product((0, 1), range(12)):
        path = folder / "NCALTECH101" / "Caltech101" / ("ant", "bass")[kind] / f"image_{number:04}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(seeds.nmnist(seeds.rows(100 * kind + number, 40, 200, 180)))
    for part, count in (("train", 60), ("test", 20)):
        spikes = [[(t / 1e6, x) for x, _, t, _ in seeds.rows(1000 * (part == "test") + n, 40, 700, 1)] for n in range(count)]
        recordings_of.write_shd(folder / "SHD" / f"shd_{part}.h5", spikes, [n % 20 for n in range(count)])
    recordings_of.write_fashion(folder, 60, 30)
    recordings_of.write_dvs_lip(folder, count=8)
    found = {"cifar-dvs": folder / "CIFAR10DVS", **dict.fromkeys(("n-mnist", "dvs-gesture", "n-caltech101", "shd"), folder)}
    found |= {"torchvision:FashionMNIST": folder, "tonic:DVSLip": folder}
    return {**found, "event-folder": recordings(folder / "own", 12, 4), "image-folder": images(folder / "images", 12, 12)}


@row(
    35,
    fault="a sample in two parts of the data",
    promise="training, validation and test parts have no source in common, and together all of them",
    quick=20,
    full=400,
)
def leaks(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """The data sets of the package and, in their layouts, all others but CIFAR, with each split rule, random seeds and validation
    fractions: the sets of names, of files (or file and index), and, where no two sources are alike, of digests of the content."""
    where = layouts(folder)
    rules = {name: registry.get("dataset", name).rules for name in where}
    every: list[tuple[str, str | None]] = [("digits", None)]
    every += [(name, rule) for name in where for rule in (rules[name] or (None,))]
    every += [("digits-dvs", None)]  # the slowest
    for number in range(count):
        name, rule = every[number % len(every)]
        root = where.get(name)
        if root is not None and rule is not None and name.endswith("-folder"):
            root = root / "train"
        given: dict[str, Any] = {"dataset": name, "val_fraction": chance.choice((0.0, 0.1, 0.3, 0.7))}
        if rule == "stratified" or given["val_fraction"]:
            given["split_seed"] = chance.randrange(2**31)
        given |= {"data_dir": str(root)} if root else {}
        given |= {"split": rule} if rule and (rule != registry.get("dataset", name).preset.get("split")) else {}
        given |= {"slicing": "count"} if name == "shd" else {}  # a window would have too few spikes to tell samples apart
        config = resolve({**given, "T": 1, "workers": 0, "cache_dir": str(folder / "cache")}, environment={})
        kind = f"{name}, {rule or 'given'}"
        try:
            bundle = prepare(config)
        except DataError as error:  # a rule by number, where the numbers are others
            yield Case(f"{kind}, refused", "" if rule in ("first", "last") else str(error))
            continue
        yield Case(kind, _overlap(config, bundle, alike=name.startswith("digits")))


def _overlap(config: Any, bundle: DataBundle, alike: bool) -> str:
    samples = registry.get("dataset", config.dataset)(config, may_download=False).scan().samples
    source = {sample.key: str(sample.source) for sample in samples}
    if not len(set(source.values())) == len(source) == len(samples):
        return "two samples have one name or source"
    found = {
        "names": {part: split.keys for part, split in bundle.parts.items()},
        "sources": {part: [source[key] for key in split.keys] for part, split in bundle.parts.items()},
        "content": {part: [digest(x) for x in np.asarray(split.x)] for part, split in bundle.parts.items() if not alike},
    }
    problems = [] if sum(len(split) for split in bundle.parts.values()) == len(samples) else ["samples are missing"]
    for kind, parts in found.items():
        for a, b in itertools.combinations(parts, 2):
            problems += [f"{kind} of {a} and {b}: {both}"] if (both := set(parts[a]) & set(parts[b])) else []
    return "; ".join(problems)


def digest(x: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(x)).hexdigest()


# Row 36

EPOCHS, N = 4, 24


def alike() -> dict[str, DataBundle]:
    """Images and frames that have all the same content, under different names."""
    rng = np.random.default_rng(0)
    keys = [f"sample {number}" for number in range(N)]
    found = {}
    for kind, shape in (("images", (3, 16, 16)), ("frames", (2, 2, 16, 16))):
        x = np.broadcast_to(rng.integers(0, 256, shape, dtype=np.uint8), (N, *shape))
        split = Split(x, np.arange(N) % 2, draws.ids(keys), keys)
        found[kind] = DataBundle(("a", "b"), split, None, None, shape[-3], kind == "images", None, None)
    return found


def augmented(
    bundle: DataBundle, augment: str, seed: int, epoch: int, size: int, share: tuple[int, int], **options: Any
) -> dict[str, str]:
    """Name -> digest of each sample in an epoch."""
    assert bundle.train is not None
    given = {"seed": seed, "epoch": epoch, "shuffle": True, "augment": augment, "share": share, **options}
    stream, found = batches(bundle, bundle.train, size, **given), {}
    for batch in stream:
        rows = stream.order[batch.index * size : (batch.index + 1) * size]
        x = batch.x.numpy() if bundle.static else batch.x.numpy().swapaxes(0, 1)
        own = rows[np.concatenate(shares(len(rows), 1, *share))]
        found |= {bundle.train.keys[row]: digest(one) for row, one in zip(own, x, strict=True)}
    return found


@row(
    36,
    fault="augmentation that repeats",
    promise="differs by epoch and sample; equal for every number of workers and processes, batch size and first batch",
    quick=1,
    full=10,
)
def repeated_augmentation(count: int, chance: random.Random, folder: Path) -> Iterator[Case]:
    """Each augmentation of images and frames, of 24 samples with the same content in four epochs, with random seeds: no two
    samples or epochs may have the same random numbers, nor two epochs the same samples. The same epoch with 0, 1, 2 and 4 threads, three
    batch sizes, divided between two processes, and from its second batch on, must have the same samples."""
    bundles = alike()
    for name, kind, _ in itertools.product(registry.names("augmentation"), bundles, range(count)):
        one, bundle, seed = registry.get("augmentation", name), bundles[kind], chance.randrange(2**31)
        if one.images_only and kind != "images":
            continue
        assert bundle.train is not None
        ids = bundle.train.ids
        numbers = [
            uniform.tobytes()
            for epoch in range(EPOCHS)
            for uniform in draws.uniforms(seed, epoch, ids, one.n, f"augment/{name}")
        ]
        yield Case("random numbers", "" if len(set(numbers)) == EPOCHS * N else f"{name}: repeat")
        epochs = [augmented(bundle, name, seed, epoch, 7, (0, 1)) for epoch in range(EPOCHS)]
        distinct = len({tuple(sorted(found.items())) for found in epochs})
        # In one of a thousand epochs, `erase` chances to change none of the samples: all of an epoch may be alike, but not in each.
        same = [epoch for epoch, found in enumerate(epochs) if len(set(found.values())) == 1]
        varied = distinct == EPOCHS and len(same) < EPOCHS
        yield Case("epochs", "" if varied else f"{name}, {kind}, seed {seed}: {distinct} differ; {same}")
        other = functools.partial(augmented, bundle, name, seed, EPOCHS - 1)
        ways = {f"{workers} threads": other(7, (0, 1), workers=workers) for workers in (1, 2, 4)}
        ways |= {f"batches of {size}": other(size, (0, 1)) for size in (1, 24)}
        ways["two processes"] = other(6, (0, 2)) | other(6, (1, 2))
        ways["resumed"] = other(7, (0, 1), start=1)
        for way, found in ways.items():
            expected = {key: value for key, value in epochs[-1].items() if key in found}
            size_of_way = N - 7 if way == "resumed" else N  # without the first batch of 7
            equal = found == expected and len(found) == size_of_way
            yield Case("the same epoch", "" if equal else f"{name}, {kind}, seed {seed}: {way}")
