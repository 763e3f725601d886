"""CIFAR10-DVS (Li et al. 2017), in both releases: AEDAT 2.0 as first published, and tonic's copy in AEDAT 4."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from lsgcli.data.base import SPLITS, Listing, Sample
from lsgcli.data.events import Events
from lsgcli.data.fetching.download import RemoteFile
from lsgcli.data.fetching.obtain import Downloaded, under_way_in
from lsgcli.data.folders import stamp, walk
from lsgcli.data.recordings import EventDataset
from lsgcli.data.sets import cifar_dvs_files
from lsgcli.data.splits import RULES, assign, check
from lsgcli.errors import DataError
from lsgcli.registry import register

log = logging.getLogger("lsg")
NAME = re.compile(r"cifar10_([a-z]+)_(\d+)\.(aedat4?)")
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# Release: suffix -> what the checkpoint records. The original lies on its side in the sensor's own coordinates.
RELEASES = {
    "aedat": {"release": "original, AEDAT 2.0", "orientation": "row = 127 - x, column = 127 - y of the sensor"},
    "aedat4": {"release": "tonic, AEDAT 4", "orientation": "as stored"},
}
SIDE = 128


@register("dataset", "cifar-dvs")
class CifarDvs(Downloaded, EventDataset):
    """``cifar10_<class>_<number>.aedat`` or ``.aedat4``, anywhere below data/CIFAR10DVS or --data-dir; the number decides the split."""

    folder = "CIFAR10DVS"
    title = "CIFAR10-DVS, 10,000 recordings of 10 classes, either release; the original is downloaded if absent."
    preset: ClassVar[Mapping[str, Any]] = {
        "arch": "vggsnn",
        "T": 10,
        "size": 48,
        "width_multiplier": 1.0,
        "epochs": 100,
        "batch_size": 32,
        "lr": 0.1,
        "weight_decay": 1e-3,
        "decay_lr": 1e-3,
        "loss": "tet",
        "augment": "flip,roll",
        "split": "last",
    }
    rules = tuple(RULES)
    published: ClassVar[Mapping[str, int]] = {"all": 10_000}

    @classmethod
    def remote(cls, splits: tuple[str, ...] = SPLITS) -> tuple[RemoteFile, ...]:
        """What a download fetches: the original release, whatever the splits."""
        return tuple(cifar_dvs_files.FILES.values())

    def scan(self, splits: tuple[str, ...] = SPLITS) -> Listing:
        """List the samples of the given splits."""
        root = self.home if self.config.data_dir is None else self.root
        found = _recordings(root)
        if cifar_dvs_files.settle(self, self.home, _kinds(found)):
            found = _recordings(root)
        if not any(found.values()):
            raise DataError(f"{root}: found no cifar10_<class>_<number>.aedat or .aedat4 in it or below", hint=_by_hand(root))
        suffix = _release(root, found)
        recordings = sorted(found[suffix].items())
        rule = self.config.split or "last"
        items = [(f"{kind}/{number}", CLASSES.index(kind), number) for (kind, number), _ in recordings]
        samples = [
            Sample(key, label, split, str(path), stamp(path))
            for (key, label, _), split, (_, path) in zip(
                items, assign(items, rule, self.config.split_seed), recordings, strict=True
            )
            if split in splits
        ]
        self._check_parts(root, splits, samples)
        return Listing(CLASSES, tuple(samples), 2, False, {"sensor": [SIDE, SIDE], "split": rule, **RELEASES[suffix]})

    @property
    def home(self) -> Path:
        """The folder of the data: with --data-dir also that folder itself, if there is something of them in it but not below it."""
        below = self.root / self.folder
        if self.config.data_dir is None or below.is_dir():
            return below
        return self.root if self.there(self.root) or under_way_in((self.root,), self.remote()) else below

    def there(self, place: Path) -> set[str]:
        """The classes of which there are recordings in or below ``place``."""
        return _kinds(_recordings(place))

    def _check_parts(self, root: Path, splits: tuple[str, ...], samples: list[Sample]) -> None:
        labels = {split: {sample.label for sample in samples if sample.split == split} for split in splits}
        check(root, CLASSES, labels, self.config.split or "last", hint="put all recordings of all ten classes there")

    def upright(self, events: Events, form: str) -> Events:
        """Rows and columns exchanged in the original release, which lies on its side."""
        return Events(events.y, events.x, events.t, events.on, events.sensor) if form == "aedat2" else events


def _recordings(root: Path) -> dict[str, dict[tuple[str, int], Path]]:
    """Suffix -> (class, number) -> path; nothing where there is nothing yet."""
    found: dict[str, dict[tuple[str, int], Path]] = {suffix: {} for suffix in RELEASES}
    zips = []
    for folder, names in walk(root) if root.exists() else ():  # a hidden folder is being unpacked
        zips += [folder / name for name in names if name.lower().endswith(".zip")]
        for name in names:
            match = NAME.fullmatch(name)
            if match and match[1] in CLASSES:
                _add(found[match[3]], (match[1], int(match[2])), folder / name)
    strange = [archive for archive in zips if not cifar_dvs_files.expected(archive, root)]
    if strange and not any(found.values()):
        raise DataError(f"{min(strange)}: found an archive that is still packed, expected recordings", hint=_by_hand(root))
    return found


def _kinds(found: dict[str, dict[tuple[str, int], Path]]) -> set[str]:
    return {kind for recordings in found.values() for kind, _ in recordings}


def _add(found: dict[tuple[str, int], Path], key: tuple[str, int], path: Path) -> None:
    if key in found:
        raise DataError(f"{path}: found this recording twice, the other is {found[key]}", hint="Take one of the two out.")
    found[key] = path


def _release(root: Path, found: dict[str, dict[tuple[str, int], Path]]) -> str:
    there = [suffix for suffix, recordings in found.items() if recordings]
    if len(there) > 1:
        log.warning("%s: found both releases of CIFAR10-DVS; reading the original (.aedat)", root)
    return there[0]


def _by_hand(root: Path) -> str:
    return (
        f"Download the ten <class>.zip of CIFAR10-DVS (https://doi.org/10.6084/m9.figshare.4724671) or tonic's CIFAR10DVS.zip"
        f" by hand, and unpack them in {root}, for example with: unzip airplane.zip -d {root}"
    )
