"""CIFAR10-DVS (Li et al. 2017), in both releases: the original in AEDAT 2.0, and tonic's copy in AEDAT 4."""

import re
from pathlib import Path

from lsgcli.data.datasets.base import SPLITS, EventDataset, Listing, Sample, Splits
from lsgcli.data.datasets.downloaded import Downloaded
from lsgcli.data.download import RemoteFile, figshare
from lsgcli.data.events import Events
from lsgcli.data.folders import stamp, walk
from lsgcli.data.splits import RULES, divide
from lsgcli.errors import DataError, log
from lsgcli.registry import register

NAME = re.compile(r"cifar10_([a-z]+)_(\d+)\.(aedat4?)")
# Suffix -> description of the release, stored in checkpoints. The original is rotated in the sensor's coordinates.
RELEASES = {
    "aedat": {"release": "original, AEDAT 2.0", "orientation": "row = 127 - x, column = 127 - y of the sensor"},
    "aedat4": {"release": "tonic, AEDAT 4", "orientation": "as stored"},
}
SIDE = 128
PAGE = "https://doi.org/10.6084/m9.figshare.4724671"
# Class -> archive of its 1000 recordings, 7.8 GB in total.
FILES = {
    name: RemoteFile(f"{name}.zip", figshare(number), md5, 780_000_000, PAGE, content=name)
    for name, number, md5 in (
        ("airplane", 7712788, "0afd5c4bf9ae06af762a77b180354fdd"),
        ("automobile", 7712791, "8438dfeba3bc970c94962d995b1b9bdd"),
        ("bird", 7712794, "a9c207c91c55b9dc2002dc21c684d785"),
        ("cat", 7712812, "52c63c677c2b15fa5146a8daf4d56687"),
        ("deer", 7712815, "b6bf21f6c04d21ba4e23fc3e36c8a4a3"),
        ("dog", 7712818, "f379ebdf6703d16e0a690782e62639c3"),
        ("frog", 7712842, "cad6ed91214b1c7388a5f6ee56d08803"),
        ("horse", 7712851, "e7cbbf77bec584ffbf913f00e682782a"),
        ("ship", 7712836, "41c7bd7d6b251be82557c6cce9a7d5c9"),
        ("truck", 7712839, "89f3922fd147d9aeff89e76a2b0b70a7"),
    )
}
CLASSES = tuple(FILES)
Found = dict[str, dict[tuple[str, int], Path]]  # suffix -> (class, number) -> path


@register("dataset", "cifar-dvs")
class CifarDvs(Downloaded, EventDataset):
    """``cifar10_<class>_<number>.aedat`` or ``.aedat4``, anywhere below data/CIFAR10DVS or --data-dir; the number determines the split."""

    title = "CIFAR10-DVS, 10,000 recordings of 10 classes, either release; the original is downloaded if missing."
    folder = "CIFAR10DVS"
    archives = FILES
    rules = tuple(RULES)
    published = {"all": 10_000}
    class_names = CLASSES
    sensor_size = (SIDE, SIDE)
    preset = {
        **EventDataset.preset,
        "width_multiplier": 1.0,
        "epochs": 100,
        "batch_size": 32,
        "augment": "flip,roll",
        "lr": 0.1,
        "weight_decay": 1e-3,
        "decay_lr": 1e-3,
        "split": "last",
    }

    def find(self, splits: Splits) -> Listing:
        root = self.home if self.config.data_dir is None else self.root
        found = _recordings(root)
        if set(CLASSES) - _classes(found):
            self.obtain(SPLITS)
            found = _recordings(root)
        suffix = next(suffix for suffix, recordings in found.items() if recordings)
        if all(found.values()):
            log.warning("%s: found both releases of CIFAR10-DVS; reading the original (.aedat)", root)
        samples = []
        for (name, number), path in sorted(found[suffix].items()):
            samples.append(Sample(f"{name}/{number}", CLASSES.index(name), "", str(path), stamp(path)))
        rule = self.config.split_rule or "last"
        parts = divide(root, CLASSES, samples, splits, rule, self.config.split_seed)
        return Listing(CLASSES, parts, {"sensor": [*self.sensor_size], "split": rule, **RELEASES[suffix]})

    @property
    def home(self) -> Path:
        """The folder of the data: CIFAR10DVS below the root, or the root itself if --data-dir contains them directly."""
        below = self.root / self.folder
        if self.config.data_dir is None or below.is_dir():
            return below
        return self.root if self.parts_in(self.root) or self.has_archive_in(self.root) else below

    def parts_in(self, folder: Path) -> set[str]:
        """The classes with recordings in or below a folder."""
        return _classes(_recordings(folder))

    def upright(self, events: Events, form: str) -> Events:
        """Swap rows and columns of the original release, which is stored rotated."""
        return Events(events.y, events.x, events.t, events.on, events.sensor) if form == "aedat2" else events


def _recordings(root: Path) -> Found:
    """The recordings in and below ``root``; empty if it does not exist."""
    found: Found = {suffix: {} for suffix in RELEASES}
    ours = {file.name for file in FILES.values()}
    strange = []
    for path in walk(root) if root.exists() else ():  # hidden folders contain partial extractions
        match = NAME.fullmatch(path.name)
        if match and match[1] in CLASSES:
            other = found[match[3]].setdefault((match[1], int(match[2])), path)
            if other is not path:
                raise DataError(f"{path}: found this recording twice, also as {other}", "Remove one of the two.")
        elif path.name in ours and path.parent in (root, root / CifarDvs.folder):
            continue  # it is extracted by obtain()
        elif path.suffix.lower() == ".zip" and (path.name in ours or "cifar" in path.name.lower()):
            strange.append(path)
    if strange and not any(found.values()):
        raise DataError(
            f"{strange[0]}: found an archive that is not extracted, expected recordings",
            f"Extract it in {root}, or remove it to download the original release ({PAGE}).",
        )
    return found


def _classes(found: Found) -> set[str]:
    return {kind for recordings in found.values() for kind, _ in recordings}
