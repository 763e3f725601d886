"""A cell as a shell command, and whether its directory contains its run, on its data."""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lsgcli import registry
from lsgcli.config.resolve import VARIABLES, differing
from lsgcli.config.run import option_words
from lsgcli.data.datasets.base import dataset_of, digests
from lsgcli.errors import RunInUseError, log
from lsgcli.runs import checks
from lsgcli.store.rundir import Facts, is_run, read_facts
from lsgcli.sweeps.plan import Cell, data_settings

Found = tuple[Any, Callable[[], Any]]  # digests of the files of data, and a function that returns that of their content


def check_same(cell: Cell) -> None:
    """Check that a run in the cell's directory, if any, has the cell's settings.

    Raises:
        RunInUseError: its settings differ.
        CheckpointError: a checkpoint that the run starts from cannot be read.
    """
    if is_run(cell.path):
        checks.check_same(cell.path, cell.config)


def check_data(cells: Sequence[Cell]) -> None:
    """Check that the runs in the directories of cells were trained on the data of the cells, wherever these are now.

    The files of the data are listed once for all cells that share them. They are read only if they have the names and sizes, but not the
    times, of those of a run: copies, for example.

    Raises:
        RunInUseError: a run was trained on other data.
        DataError: the data cannot be listed, or not be prepared.
    """
    found = {}
    for cell in cells:
        if not is_run(cell.path):
            continue
        began = read_facts(cell.path)
        of_batches = cell.config.overfit and cell.config  # their samples depend on other settings, too
        settings = data_settings(cell.config), cell.config.data_dir, cell.test, of_batches
        if settings not in found:
            found[settings] = _listed(cell, began)
        if other := checks.changed_data(began, *found[settings]):
            was = began.get("data_folder")
            now = os.path.abspath(cell.config.data_folder)
            raise RunInUseError(
                f"{cell.path}: found a run on the data of {was}, expected one on those of {now}, which has {other}",
                "Remove it, choose another --out, or give --data-dir the data of the run.",
            )


def _listed(cell: Cell, began: Facts) -> Found:
    """The data of a cell. If their folder is no longer there, or not on this machine, they are taken to be those of the run that began there."""
    from lsgcli.runs.run import data_of, parts_read

    config = cell.config
    known = began.get("data_files")
    dataset = dataset_of(config, expected=began.get("data"), may_download=False)
    if known and not dataset.home.exists() and began.get("data_folder") == os.path.abspath(config.data_folder):
        log.warning("%s: found no such folder; runs are compared with the data of %s", dataset.home, cell.path)
        return known, functools.partial(began.get, "data_digest")
    dataset.scan(parts_read(config, cell.test))
    return digests(dataset.samples), functools.cache(lambda: data_of(config, cell.test).content_digest())


def folder_for(folder: Path, cells: Callable[[Path], Sequence[Cell]]) -> Path:
    """``folder``, or the first of ``folder-2``, ``folder-3``, ... that contains no runs on other data.

    Args:
        cells: returns the cells in a folder.
    """
    candidate = folder
    number = 1
    while True:
        try:
            check_data(cells(candidate))
            return candidate
        except RunInUseError as error:
            log.info("%s", error.message)
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")


def command(cell: Cell, more: tuple[str, ...] = (), environment: Mapping[str, str] = os.environ) -> list[str]:
    """Arguments of the `lsg train` command that runs this cell; the same command resumes it if it was stopped.

    Options are included if they differ from the recipe or the data set's preset. ``LSG_*`` variables are unset.

    Args:
        more: additional options.
        environment: environment variables of the process that runs the command.
    """
    needed = {"dataset", "recipe", "method", "seed", *differing(cell.config)}
    given = {name: value for name, value in cell.config.to_dict().items() if name in needed and value is not None}
    options = [word for name, value in given.items() for word in option_words(name, value)]
    options += [word for file in registry.files for word in ("--plugin", file)]
    unset = [word for variable in environment if variable in VARIABLES for word in ("-u", variable)]
    env = ["env", *unset] if unset else []
    return [*env, "lsg", "train", *options, *["--no-test"] * (not cell.test), "--out", str(cell.path), *more]
