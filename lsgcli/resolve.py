"""Where a run's settings come from: command line > ``LSG_*`` environment > ``--config`` file > the data set's preset > defaults."""

import json
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsgcli import registry
from lsgcli.config import FIELDS, RunConfig, base_type, check
from lsgcli.errors import ConfigError
from lsgcli.rundir import CONFIG

LARGEST = 1 << 22  # bytes of a file of settings


def resolve(options: Mapping[str, Any], *, file: Path | None = None, environment: Mapping[str, str] = os.environ) -> RunConfig:
    """The complete configuration of a run.

    Args:
        options: settings given in the command line; None means not given.
        file: a TOML file of settings, flat or in tables of any name; or the ``config.json`` of a run, or the run's directory.
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
    text = _text(file)
    is_json = text.lstrip().startswith("{")  # which no TOML does
    try:
        content = json.loads(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--config {file}: not valid {'JSON' if is_json else 'TOML'}: {error}") from error
    if is_json:
        content = _of_run(file, content)
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


def _text(file: Path) -> str:
    """The text of a regular file, or of the ``config.json`` in a folder; anything else, and what is too large, is not opened."""
    hint = "Give a TOML file, or the config.json of a run."
    try:
        if file.is_dir():
            file = file / CONFIG
        found = file.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"--config {file}: found a device or pipe, expected a regular file", hint=hint)
        if found.st_size > LARGEST:
            raise ConfigError(
                f"--config {file}: found {found.st_size:,} bytes, expected settings, at most {LARGEST:,} bytes", hint=hint
            )
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--config {file}: {error.strerror}", hint=hint) from error
    except ValueError as error:  # a NUL in the path, or no UTF-8 in the file
        raise ConfigError(f"--config {file}: cannot be read as text: {error}", hint=hint) from error


def _of_run(file: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a run's ``config.json``, those that were given or not; where prepared data are written is this machine's."""
    settings = content.get("settings")
    if not isinstance(settings, dict):
        raise ConfigError(
            f"--config {file}: found JSON without settings, expected the config.json of a run", hint="`lsg train` writes one."
        )
    return {name: value for name, value in settings.items() if value is not None and name != "cache_dir"}


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
