"""Which runs an ablation consists of: rows that differ in some settings, times seeds, each run in a directory of its own.

<root>/ablation.json                     rows in their order, seeds, which of the paper's tables
<root>/method=lsg/s0/                    an ordinary run directory: row method=lsg, seed 0
"""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lsgcli import files
from lsgcli.config import FIELDS, MAY_CHANGE, RunConfig, from_dict
from lsgcli.errors import ConfigError
from lsgcli.run import identity
from lsgcli.rundir import RUNS

PLAN = "ablation.json"

Variant = Mapping[str, Any]  # settings in which a row of the table differs from the others


@dataclass(frozen=True)
class Cell:
    """One run of an ablation.

    Attributes:
        row: number of the table's row, from 0; row 0 is the baseline.
        config: complete settings, with the seed.
        path: of the run directory.
        data: what tells its data from others that were found under the same settings; "" where there are no others.
    """

    row: int
    config: RunConfig
    path: Path
    data: str = ""


@dataclass(frozen=True)
class Plan:
    """An ablation, completely described.

    Attributes:
        root: folder of all its runs.
        variants: what makes each row differ, which also names its directory.
        configs: complete settings of each row, whatever their seed.
        seeds: of every row.
        table: the paper's table that it repeats, if any.
    """

    root: Path
    variants: tuple[Variant, ...]
    configs: tuple[RunConfig, ...]
    seeds: tuple[int, ...]
    table: str | None = None

    def cells(self) -> list[Cell]:
        """All runs, seed by seed, so that a stopped ablation has whole comparisons."""
        rows = list(zip(self.variants, self.configs, strict=True))
        return [
            Cell(row, config.replace(seed=seed), self.root / folder_name(variant) / f"s{seed}")
            for seed in self.seeds
            for row, (variant, config) in enumerate(rows)
        ]

    def save(self) -> None:
        """Write ``ablation.json``, from which :func:`load` makes the same plan.

        Raises:
            StorageError: it cannot be written.
        """
        rows = [
            {"variant": dict(variant), "settings": what_counts(config)}
            for variant, config in zip(self.variants, self.configs, strict=True)
        ]
        record = {"table": self.table, "seeds": list(self.seeds), "rows": rows}
        files.make_folder(self.root)
        files.write_json(self.root / PLAN, record)


def load(root: Path) -> Plan | None:
    """The plan of the ablation whose runs are in ``root``; None where none was written.

    Raises:
        ConfigError: it cannot be read.
    """
    file = root / PLAN
    if not file.exists():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        variants = tuple(row["variant"] for row in record["rows"])
        configs = tuple(from_dict(row["settings"]) for row in record["rows"])
        return Plan(root, variants, configs, tuple(record["seeds"]), record["table"])
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise ConfigError(
            f"{file}: cannot be read as the plan of an ablation: {error}",
            hint="Remove it: the runs beside it are found without it, in an order of their own.",
        ) from error


def grid(axes: Mapping[str, Sequence[Any]]) -> tuple[Variant, ...]:
    """Every combination of the given settings, the first axis varying slowest."""
    values = [dict.fromkeys(axis) for axis in axes.values()]  # one that is given twice is one run
    return tuple(dict(zip(axes, combination, strict=True)) for combination in itertools.product(*values))


def folder_of(configs: Sequence[RunConfig]) -> Path:
    """Where the runs of such rows go if nobody says: below ``runs/``, the same for the same settings.

    Only what is not a default is in the name's digest, so that a new setting does not move old folders.

    Raises:
        CheckpointError: as :func:`lsgcli.run.identity`.
    """
    identities = [identity(config.replace(seed=FIELDS["seed"].default)) for config in configs]
    changed = [{name: value for name, value in one.items() if value != FIELDS[name].default} for one in identities]
    digest = hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:8]
    return RUNS / f"ablate-{configs[0].dataset}-{configs[0].arch}-{digest}"


def folder_name(variant: Variant) -> str:
    """Name of a row's directory: ``method=none-width=0.5``."""
    return safe_name("-".join(f"{key}={value}" for key, value in variant.items())) or "run"


def safe_name(text: str) -> str:
    """Text as part of a file's name, of characters that no shell minds."""
    return re.sub(r"[^A-Za-z0-9_.=+-]+", "_", text)


def what_counts(config: RunConfig) -> dict[str, Any]:
    """Settings that make a run another run: not the seed, nor where things are, nor what a run may be resumed with."""
    return {name: value for name, value in config.to_dict().items() if name not in {*MAY_CHANGE, "seed"}}
