"""The table of runs that ``lsg runs``, ``lsg compare`` and ``lsg ablate --collect`` select and group: open it to change what is read of a run.

A row is a run; its columns are settings, results and measures. It is read from run directories only. Imports no torch.
"""

import json
import operator
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from lsgcli import registry
from lsgcli.config.fields import Values, current, named
from lsgcli.config.resolve import parse_all
from lsgcli.config.run import FIELDS, MAY_CHANGE, RunConfig, not_installed
from lsgcli.errors import ConfigError, LsgError, refuse
from lsgcli.store.names import FORMER
from lsgcli.store.rundir import (
    METRICS,
    Facts,
    config_of,
    folders_with_config,
    is_of_run,
    precision_of,
    read_facts,
    read_progress,
    read_result,
    state_of,
)
from lsgcli.system.schema import Record

COLUMNS = (
    "state",
    "dataset",
    "arch",
    "method",
    "seed",
    "fold",
    "epoch",
    "epochs",
    "val_accuracy",
    "test_accuracy",
    "started",
    "path",
)
RESULT = ("accuracy", "accuracy_fp32", "test_accuracy_last", "test_accuracy_best", "best_epoch", "best_chosen_on")
CONDITION = re.compile(r"\s*([\w-]+)\s*([<>=!]+)\s*(.+)")
ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
FORMERLY = {name: former for former, name in FORMER["runs"].items()}
KEYS = list(dict.fromkeys([*COLUMNS, *FORMERLY, *FIELDS]))


class Repetition(NamedTuple):
    """Which repetition of its settings a run is: its seed, and fold ``fold`` of ``folds``, both 0 without folds."""

    seed: int
    fold: int = 0
    folds: int = 0

    @classmethod
    def of(cls, config: RunConfig) -> "Repetition":
        """The repetition with these settings."""
        return cls(config.seed, *map(int, (config.fold or "0/0").split("/")))

    @property
    def settings(self) -> Record:
        """The settings that repetitions differ in."""
        return {"seed": self.seed, "fold": f"{self.fold}/{self.folds}" if self.folds else None}

    @property
    def text(self) -> str:
        """``seed 0``, or ``seed 0, fold 1/5``."""
        return f"seed {self.seed}" + (f", fold {self.fold}/{self.folds}" if self.folds else "")

    @property
    def folder(self) -> str:
        """Name of the run's directory, in that of its row."""
        return f"s{self.seed}" + (f"-f{self.fold}of{self.folds}" if self.folds else "")


def what_counts(config: RunConfig) -> Record:
    """Settings that repetitions share: all except the seed, the fold, paths, and settings that may change on resume."""
    return {name: value for name, value in config.to_dict().items() if name not in {*MAY_CHANGE, "seed", "fold"}}


def row_key(config: RunConfig) -> str:
    """:func:`what_counts` as text, the same for all repetitions."""
    return json.dumps(what_counts(config), sort_keys=True)


@dataclass(frozen=True)
class Run:
    """A row of the table.

    Attributes:
        path: the run directory.
        facts: the content of ``config.json``, empty if it cannot be read.
        settings: a ``RunConfig``; None if it cannot be read.
        result: the final record, None if there is none that can be read.
        progress: results and measures, in JSON types: the record of ``lsg compare``, without layers. Empty if something is damaged, or
            it was not asked for.
        problem: what is damaged, if anything is.
        lacking: settings that name what neither lsg nor an installed plug-in has.
    """

    path: Path
    facts: Facts
    settings: Any
    result: Record | None
    progress: Record
    problem: LsgError | None
    lacking: Values

    @cached_property
    def overview(self) -> Record:
        """Value of each of ``COLUMNS``, JSON types, None if not known.

        ``state`` is ``running``, ``finished``, ``stopped``, ``diverged`` or ``damaged``; ``epoch`` counts finished epochs; ``val_accuracy``
        is that of the best epoch so far; ``test_accuracy`` that of the result, or of the last epoch of a run without a validation split.
        """
        record = {name: getattr(self.settings, name, None) for name in COLUMNS}
        record |= {"path": str(self.path), "started": self.facts.get("started"), "state": "damaged"}
        if found := self.progress:
            accuracy = found["accuracy"] if self.result else found.get("test_accuracy")
            record |= {"state": found["state"], "epoch": found["epochs"], "test_accuracy": accuracy}
            record["val_accuracy"] = found["best_val_accuracy"]
        return record

    def value(self, key: str) -> Any:
        """The value of a column or setting; None if it is not known."""
        return self.overview[key] if key in COLUMNS else getattr(self.settings, key, None)


def read(path: Path, *, results_only: bool = False) -> Run | None:
    """The run in a directory; None if there is none, or its ``config.json`` is of another program.

    Args:
        results_only: leave the progress out, and refuse settings that name what neither lsg nor an installed plug-in has.
    """
    facts = Facts()
    lacking = Record()
    progress = Record()
    settings = result = problem = None
    try:
        facts = read_facts(path)
        if not results_only:
            lacking = not_installed(facts.get("settings", {}))
        settings = config_of(path, facts, lacking)
        result = read_result(path)
        if not results_only:
            progress = _progress(path, facts, settings, result)
    except LsgError as error:
        problem = error
    if is_of_run(facts) or (path / METRICS).exists():
        return Run(path, facts, settings, result, progress, problem, lacking)
    return None


def _progress(path: Path, facts: Facts, settings: RunConfig, final: Record | None) -> Record:
    last, best, seconds = read_progress(path)
    result = final or {}
    return {
        "path": str(path),
        "method": settings.method,
        "precision": precision_of(facts, settings),
        "state": state_of(path, final),
        "reason": result.get("diverged"),
        "epochs": last.get("epoch", -1) + 1,
        "of": settings.epochs,
        **{name: result.get(name) for name in RESULT},
        "train_loss": last.get("train_loss"),
        **{name: last[name] for name in ("val_accuracy", "test_accuracy") if name in last},
        "best_val_accuracy": best,
        "seconds": round(seconds, 3),
    }


def read_all(folder: Path, *, results_only: bool = False) -> list[Run]:
    """The runs in or below a folder, at any depth; as :func:`read`."""
    runs = (read(path, results_only=results_only) for path in folders_with_config(folder))
    return [run for run in runs if run is not None]


def spread(values: Iterable[float | None]) -> Record:
    """``mean`` and sample standard deviation ``std`` of the ``n`` values that are not None; None of too few."""
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if known else None
    return {"mean": mean, "std": statistics.stdev(known) if len(known) > 1 else None, "n": len(known)}


def overview(folder: Path) -> list[Run]:
    """The runs in or below a folder.

    Raises:
        ConfigError: it does not exist.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: found {'a file' if folder.exists() else 'no such folder'}, expected a folder that contains runs",
            "`lsg train` creates runs below runs/, or in --out.",
        )
    return read_all(folder)


def where(runs: Sequence[Run], conditions: Sequence[str]) -> list[Run]:
    """The runs that meet all conditions on columns and settings, such as ``method=lsg`` or ``val_accuracy > 0.4``.

    ``none`` stands for a setting that is not set. A run without the value is neither larger nor smaller.

    Raises:
        ConfigError: a condition is not of this form, or its value is not one of the setting.
    """
    for text in conditions:
        condition = CONDITION.fullmatch(text)
        if condition is None:
            raise ConfigError(
                f"--where: found {text!r}, expected KEY=VALUE, KEY>VALUE or KEY<VALUE", "Such as --where method=lsg."
            )
        key, sign, value = condition.groups()
        key = _known("--where", key)
        if sign == "=":
            wanted = _equal_texts(key, value)
            runs = [run for run in runs if str(run.value(key)) in wanted]
        elif sign in ORDERS:
            try:
                bound = float(value)
            except ValueError:
                raise ConfigError(f"--where {key}: found {value!r}, expected a number") from None
            numeric = [run for run in runs if isinstance(run.value(key), int | float)]
            runs = [run for run in numeric if ORDERS[sign](run.value(key), bound)]
        else:
            found = f"found the operator {sign!r} in {text!r}"
            raise ConfigError(f"--where: {found}, expected one of =, {', '.join(ORDERS)}")
    return list(runs)


def _equal_texts(key: str, value: str) -> set[str]:
    """The texts that values of a column or setting may have to equal a given one."""
    if value == "none":
        return {value, "None"}
    if key not in FIELDS:
        return {value}
    parsed, problems = parse_all(key, [current(FIELDS[key], value)])
    refuse(f"--where: {problem}" for problem in problems)
    return set(map(str, parsed))


def _known(option: str, key: str) -> str:
    key = named(key)
    if key not in KEYS:
        raise ConfigError(f"{option}: {registry.unknown('column or setting', key, KEYS)}")
    return FORMERLY.get(key, key)


def ordered(runs: Sequence[Run], key: str) -> list[Run]:
    """The runs sorted by a column or setting, first those without a value; the order of equal ones is that of their start.

    Of ``-KEY``, the largest value is first, and those without one are last.
    """
    name = _known("--sort", key.removeprefix("-"))

    def rank(run: Run) -> tuple[bool, Any]:
        value = run.value(name)
        return (value is not None, "" if value is None else value)

    by_start = sorted(runs, key=lambda run: run.overview["started"] or "")
    return sorted(by_start, key=rank, reverse=key.startswith("-"))
