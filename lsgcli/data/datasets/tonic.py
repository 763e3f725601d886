"""Data sets of tonic: ``--dataset tonic:DVSLip``."""

import contextlib
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lsgcli.data import readers
from lsgcli.data.datasets.base import EventDataset, Sample
from lsgcli.data.datasets.event_folder import EventFolder
from lsgcli.data.datasets.libraries import DAMAGED, LibraryDataset, paths_of
from lsgcli.data.datasets.shd import Shd
from lsgcli.data.events import Events
from lsgcli.data.folders import stamp
from lsgcli.data.guard import foreign
from lsgcli.errors import MissingPart
from lsgcli.registry import register

log = logging.getLogger("lsg")


@register("dataset", "tonic:NAME")
class Tonic(LibraryDataset, EventDataset):
    """The files of tonic's class NAME, in data/NAME, where tonic has them."""

    title = "Any classification set of tonic, such as tonic:DVSLip or tonic:SSC; downloaded by tonic if absent."
    library = "tonic"
    sets = (
        *("ASLDVS", "CIFAR10DVS", "DVSGesture", "DVSLip", "NCARS", "NMNIST", "NTIDIGITS18", "POKERDVS", "SHD", "SMNIST"),
        *("SSC", "STMNIST"),
    )
    preset: ClassVar[Mapping[str, Any]] = {**EventFolder.preset, "resize": "bilinear"}

    @classmethod
    def attributes(cls, kind: Any) -> dict[str, Any]:
        """A sensor whose events have no y is a line, and its events are all of one polarity."""
        if "y" in kind.dtype.names:
            return {}
        width = (getattr(kind, "sensor_size", None) or (140,))[0]
        return {"line": True, "channels": 1, "preset": {**Shd.preset, "slicing": "time", "size": min(width, 140)}}

    @property
    def home(self) -> Path:
        """The folder that tonic reads."""
        return self.root / ("smnist" if self.kind.__name__ == "SMNIST" else self.kind.__name__)

    def open(self, part: str, arguments: Mapping[str, Any]) -> Any:
        """tonic's object."""
        if self.kind.__name__ == "NTIDIGITS18":
            arguments = {**arguments, "single_digits": True}
        found = self.kind.__new__(self.kind)
        with contextlib.ExitStack() as stack:
            found._check_exists = lambda: self._there(found) or self._to_be_fetched(found, part, stack)
            try:
                self.kind.__init__(found, save_to=str(self.root), **arguments)
            except SystemExit as error:  # where a person has to download
                raise RuntimeError("tonic cannot download it") from error
        if paths_of(found):  # in the order of the system's listing, which may differ between processes
            order = sorted(range(len(found)), key=lambda i: str(found.data[i]))
            found.data, found.targets = [found.data[i] for i in order], [found.targets[i] for i in order]
        return found

    def _there(self, found: Any) -> bool:
        """Whether data are there: by tonic's check, or where no archive shows that a download was under way, by there being files."""
        if self.kind._check_exists(found):
            return True
        archive, file = getattr(found, "filename", None), getattr(found, "data_filename", None)
        if archive is None or (self.home / archive).exists():
            return False
        if isinstance(file, str):
            return (self.home / file).is_file()
        return any(path.is_file() and not path.name.startswith(".") for path in (self.home / found.folder_name).rglob("*"))

    def _to_be_fetched(self, found: Any, part: str, stack: contextlib.ExitStack) -> bool:
        """Prepare for tonic's download; True where another process has done it."""
        if not self.may_download:
            raise MissingPart(f"{self.home}: found no {self.config.dataset}", part=part, hint=self.advice)
        name, address = getattr(found, "filename", "its files"), getattr(found, "url", getattr(found, "base_url", None))
        source = f"{name} from {address}" if address else name
        log.info("%s: found no %s; tonic fetches and unpacks %s", self.home, self.config.dataset, source)
        hint = f"Download it by hand, put it in {self.home}, and run the same command again."
        stack.enter_context(foreign(self.home, source, hint=hint))
        stack.enter_context(self.downloading())
        return self._there(found)

    def describe(self, data: Any) -> dict[str, Any]:
        """The sensor."""
        return {"sensor": list(map(int, data.sensor_size[:2]))}

    def labels(self, data: Any) -> Any:
        """(N,) labels."""
        if not isinstance(file := getattr(data, "data_filename", None), str):
            return super().labels(data)
        import h5py

        with h5py.File(self.home / file) as content:  # SHD and SSC
            return content["labels"][()].astype(np.int64)

    def common_stamp(self, data: Any) -> str:
        """Of all files in the folder."""
        found = [stamp(path) for path in sorted(self.home.rglob("*")) if path.is_file()]
        return hashlib.blake2b("\n".join(found).encode(), digest_size=16).hexdigest()

    def events(self, sample: Sample) -> Events:
        """The events of one sample, by the checks of the readers."""
        found = self.item(sample)
        x, t, p = (np.ravel(found[name]) for name in ("x", "t", "p"))
        y = np.zeros(len(x), np.uint16) if self.line else np.ravel(found["y"])
        with foreign(f"{self.config.dataset}: {sample.key}", "events", hint=DAMAGED):
            return readers.checked(Events(x, y, t, p, self.sensor), self.sensor)
