"""Collection of the runs of an ablation from a folder."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lsgcli.errors import ConfigError, counted
from lsgcli.runs.table import Repetition, Run, read_all, row_key
from lsgcli.store.rundir import read_precision, read_result
from lsgcli.sweeps import paper
from lsgcli.sweeps.jobs import state
from lsgcli.sweeps.plan import Cell, data_settings, load
from lsgcli.sweeps.statistics import rows, varied
from lsgcli.system.schema import Record

SCHEMA = "lsg.ablation/1"
METHODS = [variant["method"] for variant in paper.TABLES["1"]]  # in the paper's order
Candidate = tuple[Cell, bool]  # whether it is a run that exists, or what the plan expects
Row = dict[Repetition, list[Candidate]]  # those with the same settings, first those that the plan expects


@dataclass
class Collection:
    """The runs of an ablation that exist or are expected.

    Attributes:
        cells: row by row; row 0 is the baseline.
        table: the paper's table that the ablation repeats, if any.
        notes: remarks on the table, one sentence each.
    """

    cells: list[Cell]
    table: str | None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, cells: Sequence[Cell], table: str | None) -> "Collection":
        """Cells with the results that their directories have now."""
        return cls([replace(cell, result=read_result(cell.path)) for cell in cells], table)

    def summary(self, margin: float | None = None) -> Record:
        """The table and its missing runs, in JSON types: ``{"schema", "table", "rows", "missing", "notes"}``.

        Args:
            margin: as :func:`lsgcli.sweeps.statistics.rows`.
        """
        table = self.table or paper.table_of([cell.config for cell in self.cells])
        table_rows = rows(self.cells, table, margin)
        labels = dict(zip(sorted({cell.row for cell in self.cells}), (row["label"] for row in table_rows), strict=True))
        missing = [
            {
                "row": labels[cell.row],
                "seed": cell.config.seed,
                "fold": cell.config.fold,
                "run": str(cell.path),
                "state": state(cell).text,
            }
            for cell in self.cells
            if cell.result is None
        ]
        notes = [*_about_accuracy(table_rows), *_about_paper(table_rows, table), *_about_folds(self.cells)]
        notes += [*_about_precision(self.cells), *self.notes]
        return {"schema": SCHEMA, "table": table, "rows": table_rows, "missing": missing, "notes": notes}


def collect(folder: Path) -> Collection:
    """The runs below ``folder``, grouped into rows by their settings.

    Rows and seeds are those of the plan written by :meth:`lsgcli.sweeps.plan.Plan.save`, followed by any other runs. Without a plan,
    every row is expected to have all seeds, and the baseline is the method ``fixed``, with width 1 if there is one.

    Raises:
        ConfigError: the folder contains no runs with a test accuracy.
    """
    plan = load(folder)
    runs, notes = _read(folder, planned=plan is not None)
    labels = _labels_of_data(runs)
    planned = plan.cells() if plan else []
    label = next((labels[cell.path] for cell in planned if cell.path in labels), "")
    candidates: list[Candidate] = [(replace(cell, data=label), False) for cell in planned]
    for run in _in_order(runs, labels):
        cell = Cell(0, run.settings, run.path, labels.get(run.path, ""), result=run.result)
        candidates.append((cell, True))
    rows: dict[tuple[Any, ...], Row] = {}
    for cell, exists in candidates:
        row = rows.setdefault((row_key(cell.config), cell.repetition.folds, cell.data), {})
        row.setdefault(cell.repetition, []).append((cell, exists))
    if plan is None:
        _expect_all(rows.values())
    collection = Collection([], plan.table if plan else None, notes)
    for number, row in enumerate(rows.values()):
        for repetition in sorted(row):
            # A finished run before one that is not, and both before what the plan expects.
            (cell, _), *others = sorted(row[repetition], key=lambda one: (not one[1], one[0].result is None))
            ignored = [str(other.path) for other, exists in others if exists]
            if ignored:
                which = repetition.text.replace(", ", " and ")
                notes.append(
                    f"{1 + len(ignored)} runs have the same settings and {which}: {cell.path} is used, {', '.join(ignored)} ignored."
                )
            collection.cells.append(replace(cell, row=number, label=""))
    if labels:
        notes.append(
            "Runs with the same settings of the data used different data: they form separate rows with separate baselines."
        )
    return collection


def _expect_all(rows: Iterable[Row]) -> None:
    """Add the repetitions that other rows have to each row."""
    everywhere = {repetition for row in rows for repetition in row}
    for row in rows:
        ((first, _), *_), *_ = row.values()
        for repetition in everywhere - row.keys():
            if repetition.folds == first.repetition.folds:
                config = first.config.replace(**repetition.settings)
                row[repetition] = [
                    (replace(first, config=config, path=first.path.parent / repetition.folder, result=None), False)
                ]


def _read(folder: Path, planned: bool) -> tuple[list[Run], list[str]]:
    """The runs below a folder without those that left the test part out, and notes on the others.

    Raises:
        ConfigError: there are none, and no run is ``planned`` either, or those that exist have no test accuracy.
    """
    runs = []
    notes = []
    untested = 0
    for run in read_all(folder, results_only=True):
        result = run.result
        if run.problem:
            notes.append(f"Skipped: {'; '.join(run.problem.message.splitlines())}.")
        elif result and result["accuracy"] is None and "diverged" not in result:
            untested += 1  # finished without evaluating the test part
        else:
            runs.append(run)
    if not runs and (untested or not planned):
        raise ConfigError(
            f"--collect {folder}: found no run with a test accuracy, expected the folder of an ablation",
            "`lsg ablate` and `lsg ablate --print-commands` print the folder; it is the value of --out. `lsg compare` compares others.",
        )
    if untested:
        notes.append(f"Left out: {counted(untested, 'run')} without a test accuracy, such as trials of `lsg tune`.")
    return runs, notes


def _labels_of_data(runs: Sequence[Run]) -> dict[Path, str]:
    """A label for the data of each run: the folder, with a digest if that folder contained different data.

    Empty if runs with the same settings of the data used the same data. A run without a recorded digest is assumed to have
    used the data of the others.
    """
    used: dict[Any, set[str]] = defaultdict(set)  # digests by settings of the data, and by these and the folder
    for run in runs:
        settings = data_settings(run.settings)
        if digest := run.facts.get("data_digest"):
            used[settings].add(digest)
            used[settings, run.settings.data_dir].add(digest)
    if all(len(digests) < 2 for digests in used.values()):
        return {}
    labels = {}
    for run in runs:
        place = run.settings.data_dir
        labels[run.path] = place or "in the default folder"
        if len(used[data_settings(run.settings), place]) > 1:
            labels[run.path] += f" ({run.facts.get('data_digest', '')[:8]})"
    return labels


def _in_order(runs: Sequence[Run], labels: Mapping[Path, str]) -> list[Run]:
    """Runs sorted by their rows: methods in the paper's order, then by value, width 1 first."""
    names = varied([run.settings for run in runs])

    def sort_key(run: Run) -> tuple[Any, ...]:
        config = run.settings
        method = METHODS.index(config.method) if config.method in METHODS else len(METHODS)
        values = [getattr(config, name) for name in names]
        data = labels.get(run.path, "")
        return config.dataset, data, method, config.width != 1.0, [(value is not None, value) for value in values]

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
    counts = {cell.repetition.folds for cell in cells} - {0}
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
