"""Collection of the runs of an ablation from a folder."""

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
from lsgcli.rundir import CONFIG, METRICS, in_use, is_run, read_config, read_facts, read_precision, read_result

SCHEMA = "lsg.ablation/1"
METHODS = [variant["method"] for variant in paper.TABLES["1"]]  # in the paper's order


@dataclass
class Collection:
    """The runs of an ablation that exist or are expected.

    Attributes:
        cells: row by row; row 0 is the baseline.
        records: the final record of each cell, None if unfinished.
        table: the paper's table that the ablation repeats, if any.
        notes: remarks on the table, one sentence each.
    """

    cells: list[Cell]
    records: list[dict[str, Any] | None]
    table: str | None
    notes: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The table and its missing runs, in JSON types: ``{"schema", "table", "rows", "missing", "notes"}``."""
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


def collect(folder: Path) -> Collection:
    """The runs below ``folder``, grouped into rows by their settings.

    Rows and seeds are those of the plan written by :meth:`lsgcli.ablation.plan.Plan.save`, followed by any other runs. Without a plan,
    every row is expected to have all seeds, and the baseline is ``none``, with width 1 if present.

    Raises:
        ConfigError: the folder contains no runs.
    """
    plan = load(folder)
    runs, notes = _runs(folder)
    if not runs and plan is None:
        raise ConfigError(
            f"--collect {folder}: found no run, expected the folder of an ablation",
            hint="`lsg ablate` and `lsg ablate --print-commands` print the folder; it is the value of --out.",
        )
    data = _data(runs)
    cells = plan.cells() if plan else []
    planned_on = next((data[cell.path] for cell in cells if cell.path in data), "")
    planned = {((_key(cell.config), planned_on), cell.config.seed): cell for cell in cells}
    there: dict[RowSeed, list[Path]] = {}
    for path, config in runs.items():
        there.setdefault(((_key(config), data[path]), config.seed), []).append(path)
    configs = {row: cell.config for (row, _), cell in planned.items()}  # by row
    unplanned = {row: runs[paths[0]] for (row, _), paths in there.items() if row not in configs}
    configs |= {row: unplanned[row] for row in _in_order(unplanned)}
    seeds = set() if plan else {seed for _, seed in there}
    expected = {*planned, *there, *((row, seed) for row in configs for seed in seeds)}
    found = Collection([], [], plan.table if plan else None, notes)
    for number, (row, config) in enumerate(configs.items()):
        for place in sorted(place for place in expected if place[0] == row):
            paths = there.get(place, [])
            path = _path(place, paths, planned, there)
            if len(paths) > 1:
                ignored = ", ".join(str(p) for p in paths if p != path)
                notes.append(f"{len(paths)} runs have the same settings and seed: {path} is used, {ignored} ignored.")
            found.cells.append(Cell(number, config.replace(seed=place[1]), path, row[1]))
            found.records.append(read_result(path) if paths else None)
    if any(data.values()):
        notes.append("Runs with the same settings used different data: they form separate rows with separate baselines.")
    return found


Row = tuple[str, str]  # key of the settings, and of the data if runs with the same settings used different data
RowSeed = tuple[Row, int]  # row and seed of a run


def _data(runs: Mapping[Path, RunConfig]) -> dict[Path, str]:
    """A label for the data of each run: the folder, with a digest if that folder contained different data.

    The label is "" for all runs if those with the same settings used the same data. A run without a recorded digest is assumed to have
    used the data of the others.
    """
    digests = {path: str(read_facts(path).get("data_digest", "")) for path in runs}
    by_settings: dict[str, set[str]] = {}
    by_folder: dict[tuple[str, str], set[str]] = {}
    for path, config in runs.items():
        by_settings.setdefault(_key(config), set()).add(digests[path])
        by_folder.setdefault((_key(config), config.data_dir or ""), set()).add(digests[path])
    if all(len(found - {""}) < 2 for found in by_settings.values()):
        return dict.fromkeys(runs, "")
    labels = {}
    for path, config in runs.items():
        folder = config.data_dir or "in the default folder"
        several = len(by_folder[_key(config), config.data_dir or ""] - {""}) > 1
        labels[path] = f"{folder} ({digests[path][:8]})" if several else folder
    return labels


def _path(
    place: RowSeed, paths: Sequence[Path], planned: Mapping[RowSeed, Cell], there: Mapping[RowSeed, Sequence[Path]]
) -> Path:
    """The run to use, preferably a finished one; or its expected path: as planned, otherwise next to the row's other seeds."""
    if paths:
        return next((path for path in paths if read_result(path) is not None), paths[0])
    if place in planned:
        return planned[place].path
    return next(paths[0].parent for (key, _), paths in there.items() if key == place[0]) / f"s{place[1]}"


def state(cell: Cell) -> str:
    """State of a run without a result."""
    if in_use(cell.path):
        return "running in another process"
    if not is_run(cell.path):
        return "not started"
    done = sum("event" not in line for line in files.read_json_lines(cell.path / METRICS))
    return f"stopped after {done} of {cell.config.epochs} epochs"


def _runs(folder: Path) -> tuple[dict[Path, RunConfig], list[str]]:
    found, notes = {}, []
    for file in sorted(folder.rglob(CONFIG)):
        if not (is_run(file.parent) or (file.parent / METRICS).exists()):
            continue  # of another program
        try:
            found[file.parent] = read_config(file.parent)
        except ConfigError as error:
            notes.append(f"Skipped: {error.message}.")
    return found, notes


def _key(config: RunConfig) -> str:
    return json.dumps(what_counts(config), sort_keys=True)


def _in_order(rows: Mapping[Row, RunConfig]) -> list[Row]:
    """Rows without a plan, sorted: methods in the paper's order, then by value, width 1 first."""
    varying = differing(list(rows.values())) if rows else []

    def place(row: Row) -> tuple[Any, ...]:
        config = rows[row]
        method = METHODS.index(config.method) if config.method in METHODS else len(METHODS)
        values = [_sortable(name, getattr(config, name)) for name in varying]
        return config.dataset, row[1], method, config.width != 1.0, values

    return sorted(rows, key=place)


def _sortable(name: str, value: Any) -> Any:
    return str(value) if base_type(name) is str else -math.inf if value is None else value


def _about_accuracy(found: Sequence[dict[str, Any]]) -> list[str]:
    """Notes on the epoch of the accuracies, and the split that selected the best epoch."""
    chosen = sorted({row["best_chosen_on"] for row in found if row["best_chosen_on"]})
    meanings = {
        "val": "accuracy: test accuracy of the best epoch on the validation split. last: of the last epoch.",
        "test": "accuracy: test accuracy of the last epoch. best: of the best epoch on the test set itself, which is optimistic.",
    }
    if len(chosen) == 1:
        return [
            meanings.get(
                chosen[0], "accuracy: of the best epoch on the validation split for some runs, of the last epoch for others."
            )
        ]
    return [f"{row['label']}: {meanings.get(row['best_chosen_on'], 'no result')}" for row in found] if chosen else []


def _about_precision(cells: Sequence[Cell]) -> list[str]:
    """A note if runs with equal settings used different precisions."""
    varies = "precision" in differing([cell.config for cell in cells])
    counts = Counter(read_precision(cell.path) for cell in cells if read_result(cell.path) is not None)
    if varies or len(counts) < 2:
        return []
    used = ", ".join(f"{count} in {name}" for name, count in sorted(counts.items()))
    return [f"Runs used different precisions ({used}), which may explain differences between rows."]
