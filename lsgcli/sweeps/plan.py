"""The plan of an ablation: rows that differ in some settings, times seeds, each run in its own directory.

<root>/ablation.json                     rows in their order, seeds, which of the paper's tables
<root>/method=lsg/s0/                    an ordinary run directory: row method=lsg, seed 0; s0-f1of5 of the first of five folds
"""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from msgspec import Meta

from lsgcli.config.fields import Values, formerly, renamed
from lsgcli.config.run import FIELDS, MAY_CHANGE, SECTIONS, RunConfig, from_dict
from lsgcli.errors import ConfigError
from lsgcli.runs.table import Repetition, read_all, row_key, what_counts
from lsgcli.store.rundir import RUNS
from lsgcli.system import files, schema
from lsgcli.system.schema import Record

PLAN = "ablation.json"

Variant = Values  # settings that distinguish a row
Row = tuple[Variant, RunConfig]  # with the complete settings, of any seed


class StoredRow(TypedDict):
    """A row in ablation.json."""

    variant: dict[str, int | float | str | bool | None]
    settings: Record


class StoredPlan(TypedDict):
    """The content of ablation.json."""

    rows: Annotated[list[StoredRow], Meta(min_length=1)]
    seeds: list[int]
    table: str | None
    folds: NotRequired[list[str | None]]


@dataclass(frozen=True)
class Cell:
    """One run of an ablation or a search.

    Attributes:
        row: index of the row in the table, where row 0 is the baseline, or number of the trial.
        config: complete settings, with the seed and the fold.
        path: run directory.
        data: label of its data, if runs with the same settings used different data; otherwise "".
        test: whether the test part is read and evaluated.
        label: name of the row or trial.
        result: its final record, if it has finished and was read.
    """

    row: int
    config: RunConfig
    path: Path
    data: str = ""
    test: bool = True
    label: str = ""
    result: Record | None = field(default=None, compare=False)

    @property
    def repetition(self) -> Repetition:
        """Which repetition of its settings it is."""
        return Repetition.of(self.config)


@dataclass(frozen=True)
class Plan:
    """A complete description of an ablation.

    Attributes:
        root: folder of all runs.
        rows: rows of the table; a variant also names the directory of its runs.
        seeds: seeds of every row.
        folds: values of the setting ``fold`` for every row and seed.
        table: the paper's table that the ablation repeats, if any.
        folders: directories of rows, such as those of another table with the same settings, by :func:`row_key`.
    """

    root: Path
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    table: str | None = None
    folds: tuple[str | None, ...] = (None,)
    folders: Mapping[str, Path] = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        """All runs, seed by seed, so that a stopped ablation has complete comparisons."""
        cells = []
        for seed, fold in itertools.product(self.seeds, self.folds):
            for number, (variant, config) in enumerate(self.rows):
                own = config.replace(seed=seed, fold=fold)
                path = self._folder(variant, config) / Repetition.of(own).folder
                cells.append(Cell(number, own, path, label=folder_name(variant)))
        return cells

    def _folder(self, variant: Variant, config: RunConfig) -> Path:
        """The directory of a row: an existing one that former names of its settings give, or that of their names of today.

        If neither exists, one of :attr:`folders`.
        """
        former = self.root / folder_name(formerly(variant))
        named = former if former.is_dir() else self.root / folder_name(variant)
        return named if named.is_dir() else self.folders.get(row_key(config), named)

    def save(self) -> None:
        """Write ``ablation.json``, which :func:`load` reads.

        Raises:
            StorageError: it cannot be written.
        """
        rows = [{"variant": dict(variant), "settings": what_counts(config)} for variant, config in self.rows]
        files.make_folder(self.root)
        files.write_json(
            self.root / PLAN, {"table": self.table, "seeds": list(self.seeds), "folds": list(self.folds), "rows": rows}
        )


def load(root: Path) -> Plan | None:
    """The plan in ``root``, or None if there is no ``ablation.json``.

    Raises:
        ConfigError: it cannot be read.
    """
    file = root / PLAN
    if not file.exists():
        return None
    hint = "Delete the file: the runs are found without it, in default order."
    try:
        record = schema.read(file, StoredPlan, ConfigError)
    except ConfigError as error:
        raise ConfigError(error.message, hint) from error
    try:
        rows = tuple((renamed(row["variant"]), from_dict(row["settings"])) for row in record["rows"])
        plan = Plan(root, rows, tuple(record["seeds"]), record["table"], tuple(record.get("folds", [None])))
        plan.cells()  # checks seeds and folds
        return plan
    except ConfigError as error:
        raise ConfigError(f"{file}: {error.message}", hint) from error


def grid(axes: Mapping[str, Sequence[Any]]) -> tuple[Variant, ...]:
    """Every combination of the given settings, the first axis varying slowest."""
    values = [dict.fromkeys(axis) for axis in axes.values()]  # removes duplicates
    return tuple(dict(zip(axes, combination, strict=True)) for combination in itertools.product(*values))


def folder_of(command: str, config: RunConfig, settings: Any) -> Path:
    """Default folder of the runs of a command: below ``runs/``, determined by ``settings``, as JSON types."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return RUNS / f"{command}-{config.dataset.replace(':', '-')}-{config.arch}-{digest}"


def changed(settings: Values) -> Record:
    """Settings that differ from their defaults: new settings, and new names, do not change the digest in :func:`folder_of`."""
    return formerly({name: value for name, value in settings.items() if value != FIELDS[name].default})


def folder_name(variant: Variant) -> str:
    """Name of a row's directory, such as ``method=fixed-width=0.5``."""
    return safe_name(text_of(variant)) or "run"


def text_of(variant: Variant) -> str:
    """The settings of a row as text, such as ``method=fixed-width=0.5``."""
    return "-".join(f"{key}={value}" for key, value in variant.items())


def safe_name(text: str) -> str:
    """Text reduced to characters that need no quoting in a shell, as part of a file name."""
    return re.sub(r"[^A-Za-z0-9_.=+-]+", "_", text)


def data_settings(config: RunConfig) -> tuple[Any, ...]:
    """Values of the settings that the content of the prepared data depends on, besides their files."""
    return tuple(getattr(config, name) for name in SECTIONS["Data"] if name not in MAY_CHANGE)


def folders_of_rows(root: Path) -> dict[str, Path]:
    """The directories of rows below the folder of an ablation, by :func:`row_key`."""
    runs = [run for run in read_all(root, results_only=True) if run.settings and run.path.parent.parent == root]
    return {row_key(run.settings): run.path.parent for run in runs}
