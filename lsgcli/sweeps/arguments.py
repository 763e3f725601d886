"""Parses the arguments of ``lsg ablate`` (a table, axes, seeds) into a checked plan."""

import dataclasses
import itertools
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lsgcli.config.fields import Values
from lsgcli.config.resolve import assignments, parse_all, ranges, resolve_rows
from lsgcli.config.run import FIELDS, RunConfig, check, option_name, without_effect
from lsgcli.errors import ConfigError, log, refuse
from lsgcli.runs import checks
from lsgcli.store.rundir import check_links
from lsgcli.sweeps import paper
from lsgcli.sweeps.cells import check_same, folder_for
from lsgcli.sweeps.plan import Plan, Variant, changed, folder_name, folder_of, folders_of_rows, grid
from lsgcli.system.schema import Record

MOST = 10_000  # maximum number of runs of an ablation
FORM = "KEY=VALUE,VALUE,..."


def plan(
    settings: Values,
    table: str | None,
    axes: Sequence[str],
    seeds: str,
    file: Path | None,
    root: Path | None,
    folds: int | None = None,
    elsewhere: bool = False,
    environment: Mapping[str, str] = os.environ,
) -> Plan:
    """The runs of an ablation, after checking their settings and that no directory contains a different run.

    Args:
        settings: shared by all rows.
        table: number of one of the paper's tables. Default: 1, without ``axes``.
        axes: texts such as ``T=2,4``; the rows are all combinations.
        seeds: such as ``0-4`` or ``0,1,7``.
        file: TOML file with further settings.
        root: folder of the runs. Default: derived from the settings; another one if it contains runs on other data.
        folds: number of folds of the data, each of which is the test part once for each row and seed.
        elsewhere: whether other processes train, maybe on another machine, and then check network and device themselves.
        environment: environment variables; ``LSG_BATCH_SIZE`` sets ``batch_size``.

    Raises:
        ConfigError: a text or a setting is invalid, there are too many runs, or they are in the folder of the data.
        StorageError: the directory of an unfinished run is a symbolic link.
        RunInUseError: a directory contains a run with other settings.
        DataError: the data, with which runs in the default folder are compared, cannot be listed.
        CheckpointError: a checkpoint that a run starts from cannot be read.
    """
    numbers = _seeds(seeds)
    given: Record = {"file": file, "environment": environment, "takes": FIELDS.keys() - {"seed"}}
    variants, table = _variants(table, axes)
    if table:
        dataset = resolve_rows(settings, variants, **given)[0].dataset
        variants = paper.variants(table, dataset)
    if len(variants) * len(numbers) * (folds or 1) > MOST:
        raise ConfigError(f"--seeds: found {len(numbers):,} seeds for {len(variants)} rows, expected at most {MOST:,} runs")
    if folds is not None:
        if "fold" in settings:
            raise ConfigError("--folds and --fold: found both, expected one of them")
        settings = {**settings, "fold": f"1/{folds}"}
    if both := sorted({name for variant in variants for name in variant} & set(settings)):
        names = ", ".join(option_name(name) for name in both)
        raise ConfigError(
            f"{names}: found as an option and as a difference between rows, expected only one of them",
            "Omit the option." if axes else "Omit the option, or use --grid.",
        )
    rows: dict[RunConfig, Variant] = {}
    configs = resolve_rows(settings, variants, **given)
    for resolved, variant in zip(configs, variants, strict=True):
        if resolved in rows:
            log.warning("%s: omitted, same computation as %s", folder_name(variant), folder_name(rows[resolved]))
            continue
        rows[resolved] = {name: value for name, value in variant.items() if not without_effect({name: value}, [resolved])}
    for name, count in Counter(map(folder_name, rows.values())).items():
        if count > 1:
            raise ConfigError(
                f"--grid: found {count} rows with the directory {name}, expected different ones",
                "Rename the files: names of directories have only the letters a to z, digits, and the characters _ . = + -",
            )
    chosen = tuple((variant, resolved) for resolved, variant in rows.items())
    repeated = tuple(f"{fold}/{folds}" for fold in range(1, folds + 1)) if folds else (configs[0].fold,)
    folders = {} if root is None else folders_of_rows(root)
    planned = Plan(root or default_folder(list(rows)), chosen, tuple(numbers), table, repeated, folders)
    if root is None:
        folder = folder_for(planned.root, lambda other: dataclasses.replace(planned, root=other).cells())
        planned = dataclasses.replace(planned, root=folder)
    for resolved in rows:
        if resolved.overfit is not None:
            raise ConfigError(f"--overfit: found {resolved.overfit}, expected none: such runs have no test accuracy to compare")
        try:
            checks.check(resolved, here=not elsewhere)
        except ImportError:
            if not elsewhere:
                raise
            checks.check_settings(resolved)  # without torch
        checks.check_place(planned.root, resolved)
    for cell in planned.cells():
        check_links(cell.path, planned.root)
        check_same(cell)
    return planned


def default_folder(configs: Sequence[RunConfig]) -> Path:
    """Default folder of an ablation of these rows; raises as :func:`lsgcli.runs.checks.identity`."""
    seed = FIELDS["seed"].default
    return folder_of("ablate", configs[0], [changed(checks.identity(row.replace(seed=seed))) for row in configs])


def _variants(table: str | None, axes: Sequence[str]) -> tuple[tuple[Variant, ...], str | None]:
    """The rows, and the number of the paper's table, if it is one."""
    if not axes:
        table = table or "1"
        if table not in paper.TABLES:
            raise ConfigError(f"--table: found {table!r}, expected one of {', '.join(paper.TABLES)}")
        return paper.TABLES[table], table
    if table is not None:
        raise ConfigError("--table and --grid: found both, expected one of them")
    values = _axes(axes)
    if (count := math.prod(map(len, values.values()))) > MOST:
        raise ConfigError(f"--grid: found {count:,} rows, expected at most {MOST:,}")
    return grid(values), None


def _axes(texts: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Setting -> values, from texts such as ``T=2,4``."""
    refused = {name: f"expected another setting; use --{name}s for {name}s" for name in ("seed", "fold")}
    assigned, problems = assignments("--grid", texts, FORM, refused)
    axes = {}
    for name, values in assigned.items():
        axes[name], invalid = parse_all(name, values.split(","))
        problems += invalid
    refuse(problems)
    return axes


def _seeds(text: str) -> list[int]:
    """The seeds without duplicates, in the order given."""
    parts = ranges(text)
    if not parts:
        raise ConfigError(f"--seeds: found {text!r}, expected numbers and ranges such as 0-4 or 0,1,7")
    if problems := check({"seed": max(part.stop for part in parts) - 1}):
        raise ConfigError(problems[0].replace("seed:", "--seeds:", 1))
    if sum(part.stop - part.start for part in parts) > MOST:
        raise ConfigError(f"--seeds: found {text!r}, expected at most {MOST:,} seeds")
    return list(dict.fromkeys(itertools.chain(*parts)))
