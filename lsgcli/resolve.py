"""Precedence of settings: command line > ``LSG_*`` environment > ``--config`` file > preset of the data set > defaults."""

import json
import logging
import os
import stat
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lsgcli import registry
from lsgcli.config import FIELDS, MAY_CHANGE, RunConfig, base_type, check, without_effect
from lsgcli.errors import ConfigError
from lsgcli.rundir import CONFIG

LARGEST = 1 << 22  # bytes of a settings file

log = logging.getLogger("lsg")


def resolve(
    options: Mapping[str, Any],
    *,
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    takes: Collection[str] = FIELDS,
) -> RunConfig:
    """The complete configuration of a run.

    Args:
        options: settings from the command line; None means not given.
        file: a TOML file of settings, flat or in tables with any names, a run directory, or its ``config.json``.
        environment: environment variables; ``LSG_BATCH_SIZE`` sets ``batch_size``.
        takes: settings that the environment may set.

    Raises:
        ConfigError: with one line for each problem in any source: an unknown setting, an invalid value, or a setting without
            effect.
    """
    return resolve_rows(options, [{}], file=file, environment=environment, takes=takes)[0]


def resolve_rows(
    options: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    *,
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    takes: Collection[str] = FIELDS,
) -> list[RunConfig]:
    """The configurations of several runs, with shared settings and settings per run (``rows``); as :func:`resolve`.

    Each setting must have an effect in at least one run. In runs where it has none it is reset to its default, so that runs with
    the same computation compare equal.
    """
    problems: list[str] = []
    from_file, saved = _from_file(file, problems)
    layers = {
        f"--config {file}: ": from_file,
        "environment: ": _from_environment(environment, takes, problems),
        "": {name: value for name, value in options.items() if value is not None},
    }
    shared: dict[str, Any] = {}
    for source, layer in layers.items():
        problems += [source + problem for problem in check(layer)]
        shared.update(layer)
    if problems:
        raise ConfigError(
            "\n".join(problems), hint="`--help` describes each option; a variable LSG_NAME accepts the same values as --name."
        )
    every = [{**shared, **row} for row in rows]
    configs = [_complete(given) for given in every]
    if saved:  # a run stores all settings, also those without effect
        layers[f"--config {file}: "] = {}
    layers["--grid: "] = {name: value for row in rows for name, value in row.items()}
    # Variables for paths and hardware may be set for many commands.
    layers["environment: "] = {name: value for name, value in layers["environment: "].items() if name not in MAY_CHANGE}
    for source, layer in layers.items():
        problems += [source + problem for problem in without_effect(layer, configs)]
    if problems:
        raise ConfigError("\n".join(problems), hint="Omit the settings without effect, or change the settings they depend on.")
    return [
        _complete({name: value for name, value in given.items() if not without_effect({name: value}, [config])})
        for given, config in zip(every, configs, strict=True)
    ]


def _complete(given: Mapping[str, Any]) -> RunConfig:
    """The given settings, completed by the preset of the data set and defaults."""
    preset = registry.get("dataset", given.get("dataset", FIELDS["dataset"].default)).preset
    return RunConfig(**{**preset, **given})


def from_environment(environment: Mapping[str, str], takes: Collection[str] = FIELDS) -> dict[str, Any]:
    """The settings in ``takes`` that ``LSG_*`` variables set.

    Raises:
        ConfigError: an unknown variable or an invalid value.
    """
    problems: list[str] = []
    found = _from_environment(environment, takes, problems)
    problems += ["environment: " + problem for problem in check(found)]
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def warn_of_others(environment: Mapping[str, str], takes: Collection[str]) -> None:
    """Warn about ``LSG_*`` variables whose settings are not in ``takes``."""
    others = [variable for variable, name in VARIABLES.items() if variable in environment and name not in takes]
    if others:
        log.warning(
            "%s: found in the environment, but this command does not use %s",
            ", ".join(others),
            "it" if len(others) == 1 else "them",
        )


def _from_file(file: Path | None, problems: list[str]) -> tuple[dict[str, Any], bool]:
    """The settings in a file, and whether it is the configuration of a run."""
    if file is None:
        return {}, False
    text = _text(file)
    is_json = text.lstrip().startswith("{")  # invalid in TOML
    try:
        content = json.loads(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--config {file}: not valid {'JSON' if is_json else 'TOML'}: {error}") from error
    if is_json:
        content = _of_run(file, content)
    settings: dict[str, Any] = {}
    for key, value in content.items():
        # Tables only group settings: lr = 0.1 in [training] is lr = 0.1.
        for name, item in value.items() if isinstance(value, dict) else [(key, value)]:
            name = name.replace("-", "_")
            if name in settings:
                problems.append(f"--config {file}: {name} is set twice")
            settings[name] = item
    unknown = [name for name in settings if name not in FIELDS]
    for name in unknown:
        problems.append(f"--config {file}: " + registry.unknown("setting", name, list(FIELDS)))
        del settings[name]
    return settings, is_json


def _text(file: Path) -> str:
    """The text of a regular file, or of ``config.json`` in a folder. Other and too large files are not opened."""
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
    except ValueError as error:  # a NUL in the path, or invalid UTF-8 in the file
        raise ConfigError(f"--config {file}: cannot be read as text: {error}", hint=hint) from error


def _of_run(file: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in the ``config.json`` of a run, except the cache directory, which depends on the machine."""
    settings = content.get("settings")
    if not isinstance(settings, dict):
        raise ConfigError(
            f"--config {file}: found JSON without settings, expected the config.json of a run", hint="`lsg train` writes one."
        )
    return {name: value for name, value in settings.items() if value is not None and name != "cache_dir"}


VARIABLES = {f"LSG_{name.upper()}": name for name in FIELDS}


def _from_environment(environment: Mapping[str, str], takes: Collection[str], problems: list[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith("LSG_"):
            continue
        name = VARIABLES.get(variable, "")
        if not name:
            problems.append(registry.unknown("environment variable", variable, list(VARIABLES)))
        elif name in takes:
            try:
                settings[name] = parse(name, text)
            except ValueError:
                problems.append(f"{variable}: found {text!r}, expected {base_type(name).__name__}")
    return settings


def parse(name: str, text: str) -> Any:
    """Parse ``text`` as a value of the setting ``name``.

    Raises:
        ValueError: invalid text.
    """
    kind = base_type(name)
    if kind is bool:
        known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in known:
            raise ValueError(text)
        return known[text.lower()]
    return kind(text)
