"""What several commands of ``lsg data`` do: a bar with a rate, and a data set or a path to work on."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lsgcli.config import FIELDS
from lsgcli.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lsgcli.data.base import Dataset, Listing

# Settings that say which samples there are. A command that makes no frames has options for these alone.
WHERE = {"dataset", "data_dir", "sensor", "split", "split_seed"}
NOT_WHERE = set(FIELDS) - WHERE

Workers = Annotated[int | None, typer.Option(min=0, help="Processes; as many as there are cores if not given.")]


@contextlib.contextmanager
def counting(what: str, unit: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress callback (done, total), drawn on a terminal with its rate."""
    from lsgcli.report.terminal import progress_bar

    start = time.monotonic()
    with progress_bar() as bar:
        task = bar.add_task(what, total=None, note="", visible=not quiet)

        def update(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - start, 1e-9)
            bar.update(task, completed=done, total=total, note=f"{rate:,.1f} {unit}/s")

        yield update


def one_of(path: Path | None, settings: dict[str, Any]) -> None:
    """Make sure that either a path or a data set was given.

    Raises:
        ConfigError: both or neither.
    """
    if path is None and "dataset" not in settings:
        raise ConfigError("found neither a PATH nor --dataset, expected one of them", hint="`--help` lists the options.")
    if path is not None and settings:
        names = ", ".join("--" + name.replace("_", "-") for name in settings)
        raise ConfigError(f"found a PATH together with {names}, expected one or the other")


def open_dataset(settings: dict[str, Any]) -> "tuple[Dataset, Listing]":
    """A data set, and all its samples: both parts, or the only one that is there.

    Raises:
        ConfigError: a setting is missing or unusable.
        DataError: the data are not there.
    """
    from lsgcli import registry
    from lsgcli.data.base import SPLITS
    from lsgcli.resolve import resolve

    config = resolve(settings)
    dataset: Dataset = registry.get("dataset", config.dataset)(config)
    dataset.check()
    fetched = hasattr(dataset, "remote")
    if (fetched or config.data_dir is not None) and not dataset.root.is_dir():
        hint = "Give --data-dir the folder of the data" + ("; `lsg data prepare` downloads them." if fetched else ".")
        raise DataError(f"{dataset.root}: found no such folder, expected the data set {config.dataset}", hint=hint)
    try:
        return dataset, dataset.scan(SPLITS)
    except DataError:
        if not fetched:  # else it would be asked once more
            for split in reversed(SPLITS):
                with contextlib.suppress(DataError):
                    return dataset, dataset.scan((split,))
        raise
