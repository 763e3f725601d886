"""Where a run's settings come from: command line > ``LSG_*`` environment > ``--config`` file > the data set's preset > defaults."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsgcli import registry
from lsgcli.config import FIELDS, RunConfig, base_type, check
from lsgcli.errors import ConfigError


def resolve(options: Mapping[str, Any], *, file: Path | None = None, environment: Mapping[str, str] = os.environ) -> RunConfig:
    """The complete configuration of a run.

    Args:
        options: settings given in the command line; None means not given.
        file: a TOML file of settings, flat or in tables of any name.
        environment: variables; ``LSG_BATCH_SIZE`` is the setting ``batch_size``.

    Raises:
        ConfigError: with one line for every problem found in any of the sources.
    """
    problems: list[str] = []
    layers = {
        f"--config {file}: ": _from_file(file, problems),
        "environment: ": _from_environment(environment, problems),
        "": {name: value for name, value in options.items() if value is not None},
    }
    given: dict[str, Any] = {}
    for source, layer in layers.items():
        problems += [source + problem for problem in check(layer)]
        given.update(layer)
    if problems:
        raise ConfigError(
            "\n".join(problems), hint="`--help` says what each option takes; a variable LSG_NAME takes what --name does."
        )
    name = given.get("dataset", FIELDS["dataset"].default)
    preset = registry.get("dataset", name).preset
    values = {**preset, **given}
    return RunConfig(**{key: base_type(key)(value) for key, value in values.items()})


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The settings that ``LSG_*`` variables give.

    Raises:
        ConfigError: a variable that is no setting, or a value that is not one.
    """
    problems: list[str] = []
    found = _from_environment(environment, problems)
    problems += ["environment: " + problem for problem in check(found)]
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _from_file(file: Path | None, problems: list[str]) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        with open(file, "rb") as stream:
            content = tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"--config {file}: {error.strerror}", hint="Give the path of a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {file}: not valid TOML: {error}") from error
    settings: dict[str, Any] = {}
    for key, value in content.items():
        # A table only groups settings for the reader; [training] lr = 0.1 is lr = 0.1.
        for name, item in value.items() if isinstance(value, dict) else [(key, value)]:
            name = name.replace("-", "_")
            if name in settings:
                problems.append(f"--config {file}: {name} is set twice")
            settings[name] = item
    unknown = [name for name in settings if name not in FIELDS]
    for name in unknown:
        problems.append(f"--config {file}: " + registry.unknown("setting", name, list(FIELDS)))
        del settings[name]
    return settings


def _from_environment(environment: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
    by_variable = {f"LSG_{name.upper()}": name for name in FIELDS}
    settings: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith("LSG_"):
            continue
        if variable not in by_variable:
            problems.append(registry.unknown("environment variable", variable, list(by_variable)))
            continue
        name = by_variable[variable]
        try:
            settings[name] = parse(name, text)
        except ValueError:
            problems.append(f"{variable}: found {text!r}, expected {base_type(name).__name__}")
    return settings


def parse(name: str, text: str) -> Any:
    """The value that ``text`` means for the setting ``name``.

    Raises:
        ValueError: it means none.
    """
    kind = base_type(name)
    if kind is bool:
        known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in known:
            raise ValueError(text)
        return known[text.lower()]
    return kind(text)
