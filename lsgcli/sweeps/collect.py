"""Collection of the runs of an ablation from a folder."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsgcli.config.run import RunConfig
from lsgcli.errors import ConfigError, counted
from lsgcli.store.rundir import find_runs, read_facts, read_precision, read_result
from lsgcli.sweeps import paper
from lsgcli.sweeps.jobs import state
from lsgcli.sweeps.plan import Cell, Plan, Repetition, data_settings, load, what_counts
from lsgcli.sweeps.statistics import rows, varied
from lsgcli.system.schema import Record

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
    records: list[Record | None]
    table: str | None
    notes: list[str] = field(default_factory=list)

    def summary(self, margin: float | None = None) -> Record:
        """The table and its missing runs, in JSON types: ``{"schema", "table", "rows", "missing", "notes"}``.

        Args:
            margin: as :func:`lsgcli.sweeps.statistics.rows`.
        """
        table = self.table or paper.table_of([cell.config for cell in self.cells])
        table_rows = rows(self.cells, self.records, table, margin)
        labels = dict(zip(sorted({cell.row for cell in self.cells}), (row["label"] for row in table_rows), strict=True))
        missing = [
            {
                "row": labels[cell.row],
                "seed": cell.config.seed,
                "fold": cell.config.fold,
                "run": str(cell.path),
                "state": state(cell).text,
            }
            for cell, record in zip(self.cells, self.records, strict=True)
            if record is None
        ]
        notes = [*_about_accuracy(table_rows), *_about_paper(table_rows, table), *_about_folds(self.cells)]
        notes += [*_about_precision(self.cells), *self.notes]
        return {"schema": SCHEMA, "table": table, "rows": table_rows, "missing": missing, "notes": notes}


@dataclass
class _Row:
    """The runs of a row.

    Attributes:
        config: settings of any of them.
        label: of their data.
        folder: in which they are.
        runs: those that exist, by repetition; none of one that is expected.
    """

    config: RunConfig
    label: str
    folder: Path
    runs: dict[Repetition, list[Path]] = field(default_factory=dict)


def collect(folder: Path) -> Collection:
    """The runs below ``folder``, grouped into rows by their settings.

    Rows and seeds are those of the plan written by :meth:`lsgcli.sweeps.plan.Plan.save`, followed by any other runs. Without a plan,
    every row is expected to have all seeds, and the baseline is the method ``fixed``, with width 1 if there is one.

    Raises:
        ConfigError: the folder contains no runs with a test accuracy.
    """
    plan = load(folder)
    configs, results, notes = _read(folder, planned=plan is not None)
    labels = _labels_of_data(configs)
    collection = Collection([], [], plan.table if plan else None, notes)
    for number, row in enumerate(_rows(plan, configs, labels)):
        for repetition in sorted(row.runs):
            runs = row.runs[repetition]
            finished = [run for run in runs if results[run] is not None]
            path = (finished or runs or [row.folder / repetition.folder])[0]
            if len(runs) > 1:
                ignored = ", ".join(str(run) for run in runs if run != path)
                which = repetition.text.replace(", ", " and ")
                notes.append(f"{len(runs)} runs have the same settings and {which}: {path} is used, {ignored} ignored.")
            collection.cells.append(Cell(number, row.config.replace(**repetition.settings), path, row.label))
            collection.records.append(results.get(path))
    if any(labels.values()):
        notes.append(
            "Runs with the same settings of the data used different data: they form separate rows with separate baselines."
        )
    return collection


def _rows(plan: Plan | None, configs: Mapping[Path, RunConfig], labels: Mapping[Path, str]) -> list[_Row]:
    """The rows of the plan, if there is one, followed by those of other runs.

    Args:
        configs: settings of each run.
        labels: of the data of each run.
    """
    rows: dict[tuple[str, str], _Row] = {}  # by settings and label

    def runs_like(config: RunConfig, label: str, path: Path) -> list[Path]:
        """The runs of the row and repetition with these settings."""
        settings = json.dumps([what_counts(config), Repetition.of(config).folds], sort_keys=True)
        row = rows.setdefault((settings, label), _Row(config, label, path.parent))
        return row.runs.setdefault(Repetition.of(config), [])

    planned = plan.cells() if plan else []
    label = next((labels[cell.path] for cell in planned if cell.path in labels), "")
    for cell in planned:
        runs_like(cell.config, label, cell.path)
    for run in _in_order(configs, labels):
        runs_like(configs[run], labels[run], run).append(run)
    if plan is None:
        everywhere = {repetition for row in rows.values() for repetition in row.runs}
        for row in rows.values():
            for repetition in everywhere:
                if repetition.folds == Repetition.of(row.config).folds:
                    row.runs.setdefault(repetition, [])
    return list(rows.values())


def _read(folder: Path, planned: bool) -> tuple[dict[Path, RunConfig], dict[Path, Record | None], list[str]]:
    """Settings and final records of the runs below a folder, without those that left the test part out, and notes on the others.

    Raises:
        ConfigError: there are none, and no run is ``planned`` either, or those that exist have no test accuracy.
    """
    runs, unreadable = find_runs(folder)
    configs = {}
    results = {}
    untested = 0
    for path, config in runs.items():
        try:
            record = read_result(path)
        except ConfigError as error:
            unreadable.append(error.message)
            continue
        if record is not None and record["accuracy"] is None and "diverged" not in record:
            untested += 1  # finished without evaluating the test part
        else:
            configs[path] = config
            results[path] = record
    if not configs and (untested or not planned):
        raise ConfigError(
            f"--collect {folder}: found no run with a test accuracy, expected the folder of an ablation",
            "`lsg ablate` and `lsg ablate --print-commands` print the folder; it is the value of --out. `lsg compare` compares others.",
        )
    notes = [f"Skipped: {'; '.join(message.splitlines())}." for message in unreadable]
    if untested:
        notes.append(f"Left out: {counted(untested, 'run')} without a test accuracy, such as trials of `lsg tune`.")
    return configs, results, notes


def _labels_of_data(runs: Mapping[Path, RunConfig]) -> dict[Path, str]:
    """A label for the data of each run: the folder, with a digest if that folder contained different data.

    The label is "" for all runs if those with the same settings of the data used the same data. A run without a recorded digest is assumed to have
    used the data of the others.
    """
    digests = {path: str(read_facts(path).get("data_digest", "")) for path in runs}
    used: dict[Any, set[str]] = {}  # digests by settings of the data, and by these and the folder
    for path, config in runs.items():
        settings = data_settings(config)
        for group in (settings, (settings, config.data_dir)):
            digests_of_group = used.setdefault(group, set())
            if digests[path]:
                digests_of_group.add(digests[path])
    if all(len(values) < 2 for values in used.values()):
        return dict.fromkeys(runs, "")
    labels = {}
    for path, config in runs.items():
        labels[path] = config.data_dir or "in the default folder"
        if len(used[data_settings(config), config.data_dir]) > 1:
            labels[path] += f" ({digests[path][:8]})"
    return labels


def _in_order(runs: Mapping[Path, RunConfig], data: Mapping[Path, str]) -> list[Path]:
    """Runs sorted by their rows: methods in the paper's order, then by value, width 1 first."""
    names = varied(list(runs.values()))

    def sort_key(path: Path) -> tuple[Any, ...]:
        config = runs[path]
        method = METHODS.index(config.method) if config.method in METHODS else len(METHODS)
        values = [getattr(config, name) for name in names]
        return config.dataset, data[path], method, config.width != 1.0, [(value is not None, value) for value in values]

    return sorted(runs, key=sort_key)


def _about_accuracy(table_rows: Sequence[Record]) -> list[str]:
    """Notes on the epoch of the accuracies, and the split that selected the best epoch."""
    meanings = {
        "val": "accuracy: test accuracy of the best epoch on the validation split. last: of the last epoch.",
        "test": "accuracy: test accuracy of the last epoch. best: of the best epoch on the test part itself, which is optimistic.",
        "test and val": "accuracy: of the best epoch on the validation split for some runs, of the last epoch for others.",
    }
    chosen = {row["best_chosen_on"] for row in table_rows} - {None}
    if len(chosen) == 1:
        return [meanings[chosen.pop()]]
    return [f"{row['label']}: {meanings[row['best_chosen_on']]}" for row in table_rows if row["best_chosen_on"]]


def _about_paper(table_rows: Sequence[Record], table: str | None) -> list[str]:
    """The paper's results of other settings, and in what these differ."""
    others: dict[str, list[str]] = {}
    for row in table_rows:
        if row["paper_differs"]:
            shown = f"{100 * row['paper_other']:.2f} ({row['label']})"
            others.setdefault(row["paper_differs"], []).append(shown)
    return [
        f"The paper's Table {table} has {', '.join(shown)} with other settings: {differs}. `lsg recipe lsg` says which are assumed."
        for differs, shown in others.items()
    ]


def _about_folds(cells: Sequence[Cell]) -> list[str]:
    """What mean and interval mean in an ablation over folds."""
    counts = {Repetition.of(cell.config).folds for cell in cells} - {0}
    return [
        f"Mean and spread are over {count} folds and all seeds, each seed's accuracy is the mean of its folds. Comparisons are of folds, "
        "averaged over seeds, with a variance corrected for the training samples that folds share (Nadeau and Bengio, 2003)."
        for count in sorted(counts)
    ]


def _about_precision(cells: Sequence[Cell]) -> list[str]:
    """A note if runs used another precision than fp32."""
    counts = Counter(read_precision(cell.path) for cell in cells if read_result(cell.path) is not None)
    if counts.keys() <= {"fp32"}:
        return []
    used = ", ".join(f"{count} in {name}" for name, count in sorted(counts.items()))
    return [f"Accuracies are in the precision of the training ({used}); `lsg eval` computes in fp32."]
