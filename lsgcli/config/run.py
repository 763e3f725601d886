"""Settings of a run: the sections, and conditions on settings of several of them.

Command-line options, keys of configuration files, ``LSG_*`` variables, the tables of the documentation and the configuration
stored in a checkpoint are all derived from the sections of :class:`RunConfig`. To add a setting, add a field to its section.
``lsgcli.config.resolve`` merges the sources of the values.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lsgcli import registry
from lsgcli.config import fields
from lsgcli.config.data import DataConfig
from lsgcli.config.fields import Applies, Field, Values, fields_of, type_of
from lsgcli.config.machine import MachineConfig
from lsgcli.config.network import NetworkConfig, StartConfig
from lsgcli.config.neuron import LEARNED_DECAY, NeuronConfig
from lsgcli.config.training import TrainingConfig
from lsgcli.errors import CheckpointError, LsgError, refuse
from lsgcli.registry import traits
from lsgcli.system.schema import LONG, Record

CONFIG = "config.json"  # the settings of a run, in its directory


@dataclass(frozen=True)
class RunConfig(MachineConfig, TrainingConfig, NeuronConfig, StartConfig, NetworkConfig, DataConfig):
    """All settings of a run. It can be passed as any of its sections. A data set's preset may override the defaults."""

    def to_dict(self) -> Record:
        """The settings as JSON-serialisable values."""
        return dataclasses.asdict(self)

    def replace(self, **changes: Any) -> "RunConfig":
        """A copy with the given settings replaced."""
        return dataclasses.replace(self, **fields.renamed(changes))


FIELDS: Mapping[str, Field] = fields_of(RunConfig)
SECTIONS: Mapping[str, Collection[str]] = {
    "Data": fields_of(DataConfig),
    "Network": {**fields_of(NetworkConfig), **fields_of(StartConfig)},
    "Neuron": fields_of(NeuronConfig),
    "Training": fields_of(TrainingConfig),
    "Machine": fields_of(MachineConfig),
}

# Settings that help pages show; the others are in those of --help-all.
COMMON = frozenset(
    ["dataset", "data_dir", "T", "arch", "width_multiplier", "method", "epochs", "batch_size", "lr", "seed", "device"]
)

VALIDATION = Applies("a validation split: --val-fraction above 0", lambda config: config.val_fraction > 0)
# Conditions of settings on settings of other sections.
ACROSS = {
    **dict.fromkeys(("patience", "test_every_epoch"), VALIDATION),
    **dict.fromkeys(("augment", "mixup", "cutmix"), Applies("runs without --overfit", lambda config: config.overfit is None)),
    "width_from": Applies(
        "--method matched-width", lambda config: traits("method", config.method).width.setting == "width_from"
    ),
    **dict.fromkeys(
        ("decay", "init"), Applies("random initialisation: no --init-from", lambda config: config.init_from is None)
    ),
    "backend": Applies("a --norm other than mpbn", lambda config: config.norm != "mpbn"),
    "decay_lr": Applies(
        "parameters besides weights: --threshold-learned, --neuron glif or klif, or a --method that learns the decay of a neuron that has one",
        lambda config: (
            config.threshold_learned or LEARNED_DECAY.to(config) or (config.traits.learns and not config.traits.with_weights)
        ),
    ),
}
# When each setting has an effect; those that always have one are absent.
RULES: Mapping[str, Applies] = {
    name: own & ACROSS[name] if own and name in ACROSS else own or ACROSS[name]
    for name, field in FIELDS.items()
    if (own := field.metadata["applies"]) or name in ACROSS
}

# Paths on this machine, which are not stored in checkpoints.
PATHS = frozenset(name for name, field in FIELDS.items() if field.metadata["path"])
# Settings that may change on resume, because they do not affect the result.
MAY_CHANGE = frozenset({"data_dir", "cache_dir", "workers", "device", "threads", "memory", "log", "max_time"})

# Settings of earlier versions, with the values that have no effect on what this one computes.
GONE: Mapping[str, tuple[Any, ...]] = {"leak": (False,), "graph": (), "stable_gradient": ("product", "detached")}


def base_type(name: str) -> type:
    """The type of a setting without None: int, float, str or bool."""
    return type_of(FIELDS[name])


def option_name(name: str) -> str:
    """The option of a setting: ``--batch-size`` for ``batch_size``, ``-T`` for ``T``."""
    return "-" + name if len(name) == 1 else "--" + name.replace("_", "-")


def option_words(name: str, value: Any) -> list[str]:
    """A setting as command-line arguments."""
    flag = option_name(name)
    if base_type(name) is bool:
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, str(value)]


def check(values: Values) -> list[str]:
    """One line for each invalid setting; empty if all are valid."""
    return fields.check(values, FIELDS)


def without_effect(given: Values, configs: Sequence[RunConfig]) -> list[str]:
    """One line for each setting in ``given`` that has no effect in any run of ``configs``; empty if all have one."""
    return [
        f"{option_name(name)}: found {value!r}, which has no effect here, expected {RULES[name].words}"
        for name, value in given.items()
        if name in RULES and not any(RULES[name].to(config) for config in configs)
    ]


def check_effect(given: Values, config: RunConfig) -> None:
    """Raise a ConfigError if a setting in ``given`` has no effect in a run."""
    refuse(without_effect(given, [config]), "Omit the settings without effect.")


def varying(every: Sequence[Values]) -> dict[str, list[Any]]:
    """The values of each setting that is not the same in all of several sets of settings; None where a set lacks one."""
    values = {name: [settings.get(name) for settings in every] for name in FIELDS}
    return {name: own for name, own in values.items() if any(value != own[0] for value in own)}


def check_equal(where: object, found: Values, expected: Values, error: type[LsgError], hint: str) -> None:
    """Check that stored settings, of a run, a study or a data set, have the expected values.

    Raises:
        error: with all settings that differ.
    """
    differences = [
        f"{option_name(name)} {found.get(name)!r:.{LONG}}, expected {value!r:.{LONG}}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    if differences:
        raise error(f"{where}: found different settings: {'; '.join(differences)}", hint)


def of_this_version(values: Values) -> Record:
    """Stored settings by their names in this version, without those of earlier versions that had no effect."""
    return {
        name: value for name, value in fields.renamed(values).items() if name not in GONE or value not in (None, *GONE[name])
    }


def from_dict(values: Values, others: Values | None = None) -> RunConfig:
    """A RunConfig from stored settings; None stands for the default.

    Args:
        others: those of the settings that are not checked, as from :func:`not_installed`.

    Raises:
        ConfigError: a name or value is invalid in this version.
    """
    values = of_this_version(values)
    if values.keys() - FIELDS.keys():
        refuse(check(values))  # of known names, RunConfig checks the values
    unchecked = others or {}
    config = RunConfig(**{name: value for name, value in values.items() if value is not None and name not in unchecked})
    for name, value in unchecked.items():
        object.__setattr__(config, name, value)
    return config


def not_installed(values: Values) -> Record:
    """Those of stored settings that name what neither lsg nor an installed plug-in has."""
    found = {}
    for name, value in of_this_version(values).items():
        kind = FIELDS[name].metadata["kind"] if name in FIELDS else None
        if kind and isinstance(value, str) and 0 < len(value) <= LONG:
            entries = fields.listed(value) if FIELDS[name].metadata["several"] else [value]
            if not all(registry.known(kind, entry) for entry in entries):
                found[name] = value
    return found


def from_checkpoint(path: object, stored: Values, changes: Values) -> RunConfig:
    """The settings stored in the checkpoint ``path``, updated with ``changes``. Paths, precision and machine settings come from ``changes`` only.

    Raises:
        CheckpointError: a stored setting is invalid in this version.
        ConfigError: a change is invalid.
    """
    changes = fields.renamed(changes)
    kept = {name: value for name, value in stored["settings"].items() if name not in MAY_CHANGE | PATHS | {"precision"}}
    if problems := check({name: value for name, value in kept.items() if name not in changes}):
        raise CheckpointError(
            f"{path}: " + "\n".join(f"settings of the checkpoint: {line}" for line in problems),
            "It may be from another version of lsg, or use a plug-in that is not installed.",
        )
    return from_dict({**kept, **changes})
