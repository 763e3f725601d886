"""Finding the runs of an ablation again: in a folder, from what each wrote, whoever ran them."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsgcli import files
from lsgcli.ablation import paper
from lsgcli.ablation.plan import Cell, load, what_counts
from lsgcli.ablation.statistics import differing, rows
from lsgcli.config import RunConfig, base_type
from lsgcli.errors import ConfigError
from lsgcli.rundir import CONFIG, METRICS, in_use, read_config, read_precision, read_result

SCHEMA = "lsg.ablation/1"
METHODS = [variant["method"] for variant in paper.TABLES["1"]]  # in the paper's order


@dataclass
class Found:
    """The runs of an ablation, as far as there are any.

    Attributes:
        cells: row by row; row 0 is the baseline.
        records: the final record of each, None where it has not finished.
        table: the paper's table that it repeats, if any.
        notes: what a reader of the table should know, a sentence each.
    """

    cells: list[Cell]
    records: list[dict[str, Any] | None]
    table: str | None
    notes: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The table with what is missing from it: ``{"schema", "table", "rows", "missing", "notes"}``, JSON types throughout."""
        table = self.table or paper.table_of([cell.config for cell in self.cells])
        found = rows(self.cells, self.records, table)
        labels = dict(zip(sorted({cell.row for cell in self.cells}), (row["label"] for row in found), strict=True))
        missing = [
            {"row": labels[cell.row], "seed": cell.config.seed, "run": str(cell.path), "state": state(cell)}
            for cell, record in zip(self.cells, self.records, strict=True)
            if record is None
        ]
        notes = [*_about_accuracy(found), *_about_precision(self.cells), *self.notes]
        return {"schema": SCHEMA, "table": table, "rows": found, "missing": missing, "notes": notes}


def collect(folder: Path) -> Found:
    """The runs below ``folder``, grouped into rows by the settings they were given.

    Rows and seeds are those of the plan that :meth:`lsgcli.ablation.plan.Plan.save` left there, and what was found besides. Without
    a plan, all seeds are expected of every row, and the baseline is ``none``, of width 1 if it has that.

    Raises:
        ConfigError: there are no runs.
    """
    plan = load(folder)
    runs, notes = _runs(folder)
    if not runs and plan is None:
        raise ConfigError(
            f"--collect {folder}: found no run there, expected the folder of an ablation",
            hint="`lsg ablate` names it, as does --print-commands; it is what --out was.",
        )
    planned = {(_key(cell.config), cell.config.seed): cell for cell in (plan.cells() if plan else [])}
    there: dict[Place, list[Path]] = {}
    for path, config in runs.items():
        there.setdefault((_key(config), config.seed), []).append(path)
    configs = {key: cell.config for (key, _), cell in planned.items()}  # of each row
    besides = {_key(config): config for config in runs.values() if _key(config) not in configs}
    configs |= {_key(config): config for config in _in_order(list(besides.values()))}
    seeds = set() if plan else {seed for _, seed in there}
    expected = {*planned, *there, *((key, seed) for key in configs for seed in seeds)}
    found = Found([], [], plan.table if plan else None, notes)
    for row, (key, config) in enumerate(configs.items()):
        for place in sorted(place for place in expected if place[0] == key):
            paths = there.get(place, [])
            path = _path(place, paths, planned, there)
            if len(paths) > 1:
                told = ", ".join(str(p) for p in paths if p != path)
                notes.append(f"{len(paths)} runs have the same settings and seed: {path} counts, not {told}.")
            found.cells.append(Cell(row, config.replace(seed=place[1]), path))
            found.records.append(read_result(path) if paths else None)
    return found


Place = tuple[str, int]  # of a run in the table: key of its row, and seed


def _path(place: Place, paths: Sequence[Path], planned: Mapping[Place, Cell], there: Mapping[Place, Sequence[Path]]) -> Path:
    """The run that counts, a finished one before others; or where it would be: as planned, else beside the row's other seeds."""
    if paths:
        return next((path for path in paths if read_result(path) is not None), paths[0])
    if place in planned:
        return planned[place].path
    return next(paths[0].parent for (key, _), paths in there.items() if key == place[0]) / f"s{place[1]}"


def state(cell: Cell) -> str:
    """What has become of a run that has no result."""
    if in_use(cell.path):
        return "being written by another process"
    if not (cell.path / CONFIG).exists():
        return "not begun"
    done = sum("event" not in line for line in files.read_json_lines(cell.path / METRICS))
    return f"stopped after {done} of {cell.config.epochs} epochs"


def _runs(folder: Path) -> tuple[dict[Path, RunConfig], list[str]]:
    found, notes = {}, []
    for file in sorted(folder.rglob(CONFIG)):
        try:
            found[file.parent] = read_config(file.parent)
        except ConfigError as error:
            notes.append(f"Left out: {error.message}.")
    return found, notes


def _key(config: RunConfig) -> str:
    return json.dumps(what_counts(config), sort_keys=True)


def _in_order(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """Rows that nobody has put in order: the paper's methods as the paper has them, then numbers upwards, width 1 first."""
    varying = differing(configs) if configs else []

    def place(config: RunConfig) -> tuple[Any, ...]:
        method = METHODS.index(config.method) if config.method in METHODS else len(METHODS)
        values = [_sortable(name, getattr(config, name)) for name in varying]
        return config.dataset, method, config.width != 1.0, values

    return sorted(configs, key=place)


def _sortable(name: str, value: Any) -> Any:
    return str(value) if base_type(name) is str else -math.inf if value is None else value


def _about_accuracy(found: Sequence[dict[str, Any]]) -> list[str]:
    """Which epoch the accuracies are of, and on what the best was chosen."""
    chosen = sorted({row["best_chosen_on"] for row in found if row["best_chosen_on"]})
    told = {
        "val": "accuracy: on the test set, of the best epoch on the validation split. last: of the last epoch.",
        "test": "accuracy: on the test set, of the last epoch. best: of the best epoch on the test set itself, which flatters.",
    }
    if len(chosen) == 1:
        return [
            told.get(chosen[0], "accuracy: of the best epoch on the validation split for some runs, of the last for others.")
        ]
    return [f"{row['label']}: {told.get(row['best_chosen_on'], 'no result')}" for row in found] if chosen else []


def _about_precision(cells: Sequence[Cell]) -> list[str]:
    """A warning where cells were not computed alike though their settings are."""
    varies = "precision" in differing([cell.config for cell in cells])
    counts = Counter(read_precision(cell.path) for cell in cells if read_result(cell.path) is not None)
    if varies or len(counts) < 2:
        return []
    told = ", ".join(f"{count} in {name}" for name, count in sorted(counts.items()))
    return [f"Runs were computed in different precision ({told}): differences between rows may come from that."]
