"""Data sets of tonic and torchvision, read through the classes of these libraries: ``--dataset tonic:DVSLip``.

The library finds, downloads and decodes the samples; frames, cache, splits and augmentations are those of lsg. Its transforms are not used.
"""

import contextlib
import functools
import importlib
import inspect
import io
import os
import socket
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lsgcli import registry
from lsgcli.data.datasets.base import Dataset, Listing, Sample
from lsgcli.data.download import TIMEOUT
from lsgcli.data.folders import stamp
from lsgcli.data.guard import foreign
from lsgcli.data.splits import assign
from lsgcli.errors import ConfigError, DataError
from lsgcli.extras import install_hint
from lsgcli.files import locked, making_folder

LOCK = ".lsg-download"  # in the folder that is downloaded to
DAMAGED = "Fetch it again, or take it out of the folder."
PARTS = ("train", "test")
# Values of the libraries' `split` that differ.
SPLITS = {("ImageNet", "test"): "val", ("Imagenette", "test"): "val", ("OxfordIIITPet", "train"): "trainval"}


class LibraryDataset(Dataset):
    """A data set that is an object of a library: ``self.opened(part)[i]`` is a pair (sample, label).

    Attributes:
        library: its name.
        sets: its classes whose samples have one label each; a version of the library may lack some.
        kind: the class; None in the entry of the registry, which stands for all of them.
        arguments: part -> arguments of the class. Empty where it has no parts: ``--split`` makes them.
    """

    downloads = True
    library: ClassVar[str]
    sets: ClassVar[tuple[str, ...]]
    kind: ClassVar[Any] = None
    arguments: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._opened: dict[str, Any] = {}

    def __reduce__(self) -> Any:
        """Processes find the class by its name, and open the library's objects, which may hold open files, themselves."""
        return _unpickled, (self.config.dataset, {**self.__getstate__(), "_opened": {}, "may_download": False})

    @classmethod
    @functools.cache
    def of(cls, name: str) -> type["LibraryDataset"]:
        """The data set that the library calls ``name``.

        Raises:
            ConfigError: it has none of that name with labels, or cannot be imported.
        """
        try:
            module = importlib.import_module(f"{cls.library}.datasets")
        except ImportError as error:
            raise ConfigError(f"{cls.library} cannot be imported: {error}", hint=install_hint()) from error
        there = [one for one in cls.sets if hasattr(module, one)]
        if name not in there:
            raise ConfigError("--dataset: " + registry.unknown(f"classification set of {cls.library}", name, there))
        kind = getattr(module, name)
        parameters = inspect.signature(kind).parameters
        found: dict[str, Any] = {"kind": kind, "preset": cls.preset, "__doc__": cls.__doc__, "__module__": __name__}
        found |= cls.attributes(kind)
        if "train" in parameters:
            found["arguments"] = {part: {"train": part == "train"} for part in PARTS}
        elif "split" in parameters:
            found["arguments"] = {part: {"split": SPLITS.get((name, part), part)} for part in PARTS}
        else:
            found |= {"rules": ("stratified",), "preset": {**found["preset"], "split": "stratified"}}
        return type(name, (cls,), found)

    @classmethod
    def attributes(cls, kind: Any) -> dict[str, Any]:
        """Attributes of the data set that depend on the library's class."""
        return {}

    def opened(self, part: str) -> Any:
        """The library's object of a part, or of all samples (an empty text).

        Raises:
            DataError: the data are not there and cannot be downloaded, or they are damaged.
        """
        if part not in self._opened:
            expected = f"the files of {self.library}'s {self.kind.__name__}"
            with foreign(self.home, expected, hint=self.advice), contextlib.redirect_stdout(io.StringIO()):
                self._opened[part] = self.open(part, self.arguments.get(part, {}))
        return self._opened[part]

    @abstractmethod
    def open(self, part: str, arguments: Mapping[str, Any]) -> Any:
        """The library's object; what it prints is not shown. Raises anything."""

    @contextlib.contextmanager
    def downloading(self) -> Iterator[None]:
        """Around a download of the library: one process at a time, and a server that does not answer is given up."""
        before, waiting = socket.getdefaulttimeout(), f"{self.home}: another process is downloading to it; waiting"
        with making_folder(self.home), locked(self.home / LOCK, waiting):
            socket.setdefaulttimeout(TIMEOUT)
            try:
                yield
            finally:
                socket.setdefaulttimeout(before)

    @property
    def advice(self) -> str:
        """What to do where data are not there."""
        by_hand = f"Put the files of {self.library}'s {self.kind.__name__} in {self.home}"
        command = f"try `lsg data prepare --dataset {self.config.dataset}`"
        return f"{by_hand}, and run the same command again." if self.may_download else f"{by_hand}, or {command}."

    def find(self, splits: tuple[str, ...]) -> Listing:
        """The samples of the given splits."""
        samples = [sample for part in (splits if self.arguments else ("",)) for sample in self._listed(part)]
        first = self.opened(splits[0] if self.arguments else "")
        classes, info = _classes(first, max(sample.label for sample in samples)), self.describe(first)
        for sample in samples:
            if not 0 <= sample.label < len(classes):
                raise DataError(f"{sample.key}: found label {sample.label}, expected 0 to {len(classes) - 1}", hint=DAMAGED)
        if not self.arguments:
            info["split"] = self.config.split or "stratified"
            samples = [one for one in assign(samples, info["split"], self.config.split_seed) if one.split in splits]
        return Listing(classes, tuple(samples), info)

    @abstractmethod
    def describe(self, data: Any) -> dict[str, Any]:
        """``info`` of the library's object."""

    def _listed(self, part: str) -> list[Sample]:
        """The samples of a part, in the order of their keys: paths below ``--data-dir``, or numbers where there are no files."""
        data, edition = self.opened(part), f"{self.library} {version(self.library)}"
        if not len(data):
            raise DataError(f"{self.home}: found no samples, expected some", hint=self.advice)
        paths, labels = paths_of(data), np.asarray(self.labels(data))
        if labels.shape != (len(data),) or labels.dtype.kind not in "iu":
            raise DataError(f"{self.home}: found labels {labels.dtype} of shape {labels.shape}, expected a whole number each")
        names = [Path(os.path.relpath(path, self.root)).as_posix() for path in paths] or [f"{i:06d}" for i in range(len(data))]
        stamps = [stamp(path) for path in paths] or [self.common_stamp(data)] * len(data)
        samples = [
            Sample(f"{part}/{name}".lstrip("/"), label, part, (part, i), f"{edition}:{told}")
            for i, (name, label, told) in enumerate(zip(names, labels.tolist(), stamps, strict=True))
        ]
        return sorted(samples, key=lambda sample: sample.key)

    def labels(self, data: Any) -> Any:
        """(N,) labels, without loading the samples where the class has them."""
        for name in ("targets", "labels", "label_data", "_labels", "y"):
            found = getattr(data, name, None)
            if found is not None and len(found) == len(data) and np.asarray(found).dtype.kind in "iu":
                return found
        pairs = getattr(data, "_samples", data)
        return [one[1] for one in (pairs if isinstance(pairs[0], tuple) else (data[i] for i in range(len(data))))]

    @abstractmethod
    def common_stamp(self, data: Any) -> str:
        """Changes when the samples do, where they are not files of their own."""

    def item(self, sample: Sample) -> Any:
        """What the library gives for a sample."""
        (part, index), where = sample.source, f"{self.config.dataset}: {sample.key}"
        data = self.opened(part)
        with foreign(where, f"a sample that {self.library} can read", hint=DAMAGED, extra="aedat4"):
            return data[index][0]


def _unpickled(name: str, state: dict[str, Any]) -> Dataset:
    found: Dataset = object.__new__(registry.get("dataset", name))
    found.__dict__.update(state)
    return found


def _classes(data: Any, largest: int) -> tuple[str, ...]:
    """Names in label order; numbers where the library has none."""
    found = next(
        (getattr(data, name) for name in ("classes", "class_map", "categories") if hasattr(data, name)), range(largest + 1)
    )
    names = [
        ", ".join(one) if isinstance(one, tuple) else one.decode() if isinstance(one, bytes) else str(one) for one in found
    ]
    return tuple(name if names.count(name) == 1 else f"{name} {i}" for i, name in enumerate(names))


def paths_of(data: Any) -> list[str]:
    """The files that a library's object lists, one for each sample; none where the samples lie together."""
    for name in ("data", "samples", "_samples", "_image_files", "_images"):
        found = getattr(data, name, None)
        if isinstance(found, list) and len(found) == len(data):
            firsts = [one[0] if isinstance(one, tuple) else one for one in found]
            if all(isinstance(one, str | Path) for one in firsts) and os.path.lexists(firsts[0]):
                return [str(one) for one in firsts]
    return []
