"""Overview of runs: state, settings and accuracies of each, read from run directories only. Imports no torch."""

import operator
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lsgcli import registry
from lsgcli.config.fields import Values, current, named
from lsgcli.config.resolve import parse_all
from lsgcli.config.run import FIELDS, RunConfig, not_installed
from lsgcli.errors import ConfigError, LsgError, refuse
from lsgcli.store.names import FORMER
from lsgcli.store.rundir import (
    METRICS,
    config_of,
    folders_with_config,
    is_of_run,
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
CONDITION = re.compile(r"\s*([\w-]+)\s*([<>=!]+)\s*(.+)")
ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
FORMERLY = {name: former for former, name in FORMER["runs"].items()}
KEYS = list(dict.fromkeys([*COLUMNS, *FORMERLY, *FIELDS]))


class Run(NamedTuple):
    """A run.

    Attributes:
        record: value of each of ``COLUMNS``, JSON types, None if not known: ``state`` is ``running``, ``finished``, ``stopped``,
            ``diverged`` or ``damaged``; ``epoch`` counts finished epochs; ``val_accuracy`` is that of the best epoch so far;
            ``test_accuracy`` that of the result, or of the last epoch of a run without a validation split.
        settings: None if they cannot be read.
        problem: what is damaged, if anything is.
        lacking: settings that name what neither lsg nor an installed plug-in has.
    """

    record: Record
    settings: RunConfig | None
    problem: str = ""
    lacking: Values = {}

    def value(self, key: str) -> Any:
        """The value of a column or setting; None if it is not known."""
        return self.record[key] if key in COLUMNS else getattr(self.settings, key, None)


def find(folder: Path) -> list[Run]:
    """The runs in or below a folder.

    Raises:
        ConfigError: it does not exist.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"{folder}: found {'a file' if folder.exists() else 'no such folder'}, expected a folder that contains runs",
            "`lsg train` creates runs below runs/, or in --out.",
        )
    every = (_read(path) for path in folders_with_config(folder))
    return [run for run in every if run is not None]


def _read(path: Path) -> Run | None:
    """The run in a directory; None if its ``config.json`` is of another program."""
    record = {**dict.fromkeys(COLUMNS), "path": str(path)}
    config = None
    problem = ""
    lacking = Record()
    try:
        facts = read_facts(path)
        if not is_of_run(facts):
            return None
        record["started"] = facts.get("started")
        lacking = not_installed(facts.get("settings", {}))
        config = config_of(path, facts, lacking)
        record |= {name: getattr(config, name) for name in COLUMNS if name in FIELDS}
        result = read_result(path)
        last, best, _ = read_progress(path)
        record |= {"epoch": last.get("epoch", -1) + 1, "val_accuracy": best}
        record["test_accuracy"] = (result or {}).get("accuracy", last.get("test_accuracy"))
        record["state"] = state_of(path, result)
    except LsgError as error:
        if config is None and not (path / METRICS).exists():
            return None
        record["state"] = "damaged"
        problem = error.message
    return Run(record, config, problem, lacking)


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
        if sign not in ("=", *ORDERS):
            found = f"found the operator {sign!r} in {text!r}"
            raise ConfigError(f"--where: {found}, expected one of =, {', '.join(ORDERS)}")
        if sign != "=":
            runs = _beyond(runs, key, ORDERS[sign], value)
            continue
        if key in FIELDS:
            value = current(FIELDS[key], value)
        wanted = {value, "None"} if value == "none" else {value}
        if key in FIELDS and value != "none":
            parsed, problems = parse_all(key, [value])
            refuse(f"--where: {problem}" for problem in problems)
            wanted = set(map(str, parsed))
        runs = [run for run in runs if str(run.value(key)) in wanted]
    return list(runs)


def _beyond(runs: Sequence[Run], key: str, order: Callable[[float, float], bool], text: str) -> list[Run]:
    """The runs whose value of a column or setting is a number on one side of a bound."""
    try:
        bound = float(text)
    except ValueError:
        raise ConfigError(f"--where {key}: found {text!r}, expected a number") from None
    return [run for run in runs if isinstance(run.value(key), int | float) and order(run.value(key), bound)]


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

    by_start = sorted(runs, key=lambda run: run.record["started"] or "")
    return sorted(by_start, key=rank, reverse=key.startswith("-"))
