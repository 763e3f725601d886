"""The search space of ``lsg tune``: axes such as ``lr=log:1e-3:0.3``, and the settings of a trial."""

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lsgcli.config.fields import BEFORE, Values
from lsgcli.config.resolve import assignments, parse_all, resolve_rows
from lsgcli.config.run import FIELDS, RULES, RunConfig, base_type, option_name, without_effect
from lsgcli.errors import ConfigError, refuse
from lsgcli.runs import checks
from lsgcli.store.rundir import is_run, read_config
from lsgcli.sweeps.cells import folder_for
from lsgcli.sweeps.plan import Cell, changed, folder_of
from lsgcli.system.schema import Record

if TYPE_CHECKING:
    from optuna import Trial

TRIALS = "trials"  # in the directory of a study
MOST = 10_000  # combinations of listed values
FORM = "KEY=LOW:HIGH, KEY=log:LOW:HIGH or KEY=VALUE,VALUE,..."
SAME_SAMPLES = "which changes what the accuracy is measured on"
REFUSED = dict.fromkeys(("dataset", "split", "split_seed", "fold", "val_fraction", "sensor", "skip_bad"), SAME_SAMPLES)
REFUSED["seed"] = "expected another setting; use --seed, and `lsg ablate` to compare seeds"


@dataclass(frozen=True)
class Axis:
    """A setting to search.

    Attributes:
        text: as given.
        values: all values, or the two ends of a range, which are included.
        scale: ``linear`` or ``log`` for a range; empty for a list of values.
    """

    text: str
    values: tuple[Any, ...]
    scale: str = ""

    def suggest(self, trial: "Trial", name: str) -> Any:
        """The value of a trial."""
        if not self.scale:
            return trial.suggest_categorical(name, self.values)
        is_whole = isinstance(self.values[0], int)
        suggest = trial.suggest_int if is_whole else trial.suggest_float
        return suggest(name, *self.values, log=self.scale == "log")


@dataclass(frozen=True)
class Search:
    """A search space.

    Attributes:
        axes: axes by setting; settings that determine whether others have an effect come first.
        configs: complete settings for each combination of the listed values, with the high end of each range.
    """

    axes: Mapping[str, Axis]
    configs: Mapping[tuple[Any, ...], RunConfig]

    def config(self, chosen: Values) -> RunConfig:
        """Complete settings with the ``chosen`` values, and the first value of every other axis."""
        listed = tuple(chosen.get(name, axis.values[0]) for name, axis in self.axes.items() if not axis.scale)
        return self.configs[listed].replace(**{name: value for name, value in chosen.items() if self.axes[name].scale})

    def suggest(self, trial: "Trial") -> RunConfig:
        """The settings of a trial. Axes without effect, given the values already suggested, are not searched."""
        chosen: Record = {}
        for name, axis in self.axes.items():
            if not without_effect({name: None}, [self.config(chosen)]):
                chosen[name] = axis.suggest(trial, BEFORE.get(name, name))
        return self.config(chosen)

    def identity(self) -> Record:
        """The axes, and the other settings that affect results, as JSON types; a list if they differ between combinations."""
        rows = [checks.identity(config) for config in self.configs.values()]
        settings = {}
        for name in rows[0]:
            values = list(dict.fromkeys(row[name] for row in rows))
            settings[name] = self.axes[name].text if name in self.axes else values if len(values) > 1 else values[0]
        return settings

    def folder(self) -> Path:
        """Default directory: below ``runs/``, determined by the settings that differ from their defaults; errors as for :func:`folder_for`."""
        return folder_for(folder_of("tune", self.config({}), changed(self.identity())), self.trials)

    def trials(self, root: Path) -> list[Cell]:
        """The runs of trials in a directory, with the folder of the data of this search."""
        runs = [path for path in (root / TRIALS).glob("*") if is_run(path)]
        return [Cell(0, read_config(path).replace(data_dir=self.config({}).data_dir), path, test=False) for path in runs]


def plan(
    settings: Values, texts: Sequence[str], file: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Search:
    """The search that the arguments of ``lsg tune`` describe.

    Args:
        settings: shared by all trials.
        texts: axes such as ``lr=log:1e-3:0.3``, ``width=0.5:2`` or ``method=lsg,none``.
        file: TOML file with further settings.
        environment: environment variables; ``LSG_BATCH_SIZE`` sets ``batch_size``.

    Raises:
        ConfigError: with one line for each invalid axis or setting.
        CheckpointError: a checkpoint that a run starts from cannot be read.
    """
    assigned, problems = assignments("--search", texts, FORM, REFUSED)
    problems += [f"{option_name(name)}: cannot be given, because --search varies it" for name in assigned if name in settings]
    axes = {}
    for name in sorted(assigned, key=lambda name: (name in RULES, [*FIELDS].index(name))):
        axes[name], invalid = _axis(name, assigned[name])
        problems += invalid
    refuse(problems)
    listed = {name: axis.values for name, axis in axes.items() if not axis.scale}
    if (count := math.prod(map(len, listed.values()))) > MOST:
        raise ConfigError(f"--search: found {count:,} combinations of listed values, expected at most {MOST:,}")
    # Where a setting has no effect at the low end of a range, such as 0, it has one at the high end.
    ends = {name: axis.values[-1] for name, axis in axes.items() if axis.scale}
    combinations = list(itertools.product(*listed.values()))
    rows = [dict(zip(listed, values, strict=True)) | ends for values in combinations]
    configs = resolve_rows(settings, rows, file=file, environment=environment, option="--search")
    if configs[0].val_fraction == 0:
        raise ConfigError(
            "val_fraction: found 0, expected a fraction above 0, because trials are compared on the validation split",
            "Add --val-fraction 0.1. The test part is not used.",
        )
    for config in dict.fromkeys(configs):
        checks.check(config)
    return Search(axes, dict(zip(combinations, configs, strict=True)))


def _axis(name: str, text: str) -> tuple[Axis, list[str]]:
    """An axis, and one line for each problem."""
    is_range = base_type(name) in (int, float) and ":" in text and "," not in text
    scale = ("log" if text.startswith("log:") else "linear") if is_range else ""
    values, problems = parse_all(name, text.removeprefix("log:").split(":") if is_range else text.split(","))
    axis = Axis(text, values, scale)
    expected = ""
    if problems:
        return axis, problems
    if is_range and (len(values) != 2 or values[0] >= values[1]):
        expected = "LOW:HIGH with LOW below HIGH"
    elif is_range and FIELDS[name].metadata["check"]:
        expected = "a list of values, because not every number in between is valid"
    elif scale == "log" and values[0] <= 0:
        expected = "LOW above 0 on a logarithmic scale"
    elif not is_range and len(set(values)) < max(2, len(values)):
        expected = "several different values, or a range such as 1:2"
    return axis, [f"--search: found {name}={text}, expected {expected}"] if expected else []
