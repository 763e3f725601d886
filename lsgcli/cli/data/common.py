"""Shared by the commands of ``lsg data``: progress bars with a rate, and opening a data set."""

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsgcli.errors import ConfigError, DataError, MissingPart

if TYPE_CHECKING:
    from lsgcli.data.datasets.base import Dataset

log = logging.getLogger("lsg")
MIB = 1 << 20
Progress = Callable[[int, int], None]

# Settings that determine the samples of a data set: the only ones used by commands that do not make frames.
WHERE = {"dataset", "data_dir", "sensor", "split", "split_seed"}

Workers = Annotated[int | None, typer.Option(min=0, max=1024, help="Worker processes. Default: number of usable CPUs.")]


@contextlib.contextmanager
def counting(quiet: bool) -> Iterator[Callable[..., Progress]]:
    """Context of a factory of progress callbacks (done, total), each shown on a terminal as a bar with its rate.

    The factory takes a description, the unit shown, and the number of counts per unit.
    """
    from lsgcli.report.terminal import progress_bar

    with progress_bar() as bar:

        def make(what: str, unit: str, scale: int = 1) -> Progress:
            task = bar.add_task(what, total=None, note="", visible=False)
            began: tuple[float, int] | None = None  # time and count at the start

            def update(done: int, total: int) -> None:
                nonlocal began
                start, before = began = began or (time.monotonic(), done)
                rate = (done - before) / scale / max(time.monotonic() - start, 1e-3)
                visible, note = not quiet and done < total, f"{unit}, {rate:,.1f}/s"
                bar.update(task, completed=done // scale, total=total // scale, note=note, visible=visible)
                if done >= total:
                    began = None  # the bar may be reused

            return update

        yield make


def one_of(path: Path | None, settings: dict[str, Any]) -> None:
    """Check that either a path or a data set is given.

    Raises:
        ConfigError: both or neither are given.
    """
    if path is None and "dataset" not in settings:
        raise ConfigError("found neither a PATH nor --dataset, expected one of them", hint="`--help` lists the options.")
    if path is not None and settings:
        names = ", ".join("--" + name.replace("_", "-") for name in settings)
        raise ConfigError(f"found a PATH together with {names}, expected one or the other")


def open_dataset(settings: dict[str, Any], takes: Collection[str] = WHERE) -> "Dataset":
    """A data set with the samples of both parts, or of the only existing part. Nothing is downloaded.

    Args:
        settings: settings from the command line.
        takes: settings that the environment may set.

    Raises:
        ConfigError: a setting is missing or invalid.
        DataError: the data are missing or damaged.
    """
    from lsgcli import registry
    from lsgcli.data.datasets.base import SPLITS
    from lsgcli.resolve import resolve

    config = resolve({**settings, "val_fraction": 0.0}, takes=takes)
    dataset: Dataset = registry.get("dataset", config.dataset)(config, may_download=False)
    dataset.check()
    if (dataset.downloads or config.data_dir is not None) and not dataset.root.is_dir():
        hint = "Give --data-dir the folder of the data" + ("; `lsg data prepare` downloads them." if dataset.downloads else ".")
        raise DataError(f"{dataset.root}: found no such folder, expected the data set {config.dataset}", hint=hint)
    try:
        return dataset.scan(SPLITS)
    except MissingPart as missing:
        return _other_part(dataset, missing)


def _other_part(dataset: "Dataset", missing: MissingPart) -> "Dataset":
    """The data set with the samples of its only part, with a warning; raises ``missing`` if there is none."""
    from lsgcli.data.datasets.base import SPLITS

    other = next(split for split in SPLITS if split != missing.part)
    try:
        dataset.scan((other,))
    except MissingPart:
        raise missing from None
    log.warning("%s\n  Continuing with the %s part only.", missing.message, other)
    return dataset
