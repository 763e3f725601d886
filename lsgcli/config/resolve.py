"""Precedence of settings: command line > ``LSG_*`` environment > ``--config`` file > recipe > presets of network and neuron > preset of
the data set > defaults."""

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from lsgcli import registry
from lsgcli.config import recipes
from lsgcli.config.fields import FORMER, Values, all_at_once, current, named, renamed, unknown
from lsgcli.config.run import CONFIG, FIELDS, MAY_CHANGE, RunConfig, base_type, check, of_this_version, without_effect
from lsgcli.errors import ConfigError, log, refuse
from lsgcli.registry import traits
from lsgcli.system import schema
from lsgcli.system.schema import LONG, Record

LARGEST = 1 << 22  # bytes of a settings file
LINES = 15  # of a message about invalid settings
VARIABLES = {f"LSG_{name.upper()}": named(name) for name in (*FIELDS, *FORMER)}
BOOLEANS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


class StoredRun(TypedDict):
    """The fields of a run's config.json that ``--config`` reads."""

    settings: Record


def resolve(
    options: Values,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    takes: Collection[str] = FIELDS,
) -> RunConfig:
    """The complete configuration of a run; arguments and errors as for :func:`resolve_rows`."""
    return resolve_rows(options, [{}], file=file, environment=environment, takes=takes)[0]


def usual(dataset: str) -> Record:
    """The settings of a run on a data set in which nothing else is given."""
    return resolve({"dataset": dataset}, environment={}).to_dict()


def resolve_rows(
    options: Values,
    rows: Sequence[Values],
    *,
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    takes: Collection[str] = FIELDS,
    option: str = "--grid",
) -> list[RunConfig]:
    """The complete configurations of several runs.

    Each setting must have an effect in at least one run. In runs where it has none it is reset to its default, so that runs with
    the same computation compare equal.

    Args:
        options: settings from the command line; None means not given.
        rows: valid settings of each run, which take precedence.
        file: a TOML file of settings, flat or in tables with any names, a run directory, or its ``config.json``.
        environment: environment variables; ``LSG_BATCH_SIZE`` sets ``batch_size``.
        takes: settings that the environment may set.
        option: source of the rows, for messages.

    Raises:
        ConfigError: with one line for each problem in any source: an unknown setting, an invalid value, or a setting without
            effect.
    """
    (from_file, saved), variables, given = all_at_once(
        lambda: _from_file(file),
        lambda: from_environment(environment, takes),
        lambda: _valid({name: value for name, value in renamed(options).items() if value is not None}),
    )
    configs = [_complete({**from_file, **variables, **given, **row}) for row in rows]
    must_matter = {
        f"--config {file}: ": {} if saved else from_file,  # a run stores all settings, including those without effect
        # Variables for paths and hardware may be set for many commands.
        "environment: ": {name: value for name, value in variables.items() if name not in MAY_CHANGE},
        "": given,
        f"{option}: ": {name: value for row in rows for name, value in row.items()},
    }
    problems = [source + line for source, values in must_matter.items() for line in without_effect(values, configs)]
    refuse(problems, "Omit the settings without effect, or change the settings they depend on.")
    return configs


def _complete(given: Values) -> RunConfig:
    """The given settings, completed by the recipe, the presets of network, neuron and data set, and defaults.

    Values without effect, given the others, are omitted: a network or neuron may not support those of a recipe, and runs with the same
    computation compare equal.
    """
    dataset = given.get("dataset", FIELDS["dataset"].default)
    recipe = given.get("recipe")
    published = recipes.settings(recipe, dataset) if recipe else {}
    preset = dict(traits("dataset", dataset).preset)
    for kind in ("arch", "neuron"):
        name: Any = {**preset, **published, **given}.get(kind, FIELDS[kind].default)
        preset |= traits(kind, name).preset
    chosen = {**published, **given}
    config = RunConfig(**{**preset, **chosen})
    idle = [name for name, value in chosen.items() if without_effect({name: value}, [config])]
    return config.replace(**{name: preset.get(name, FIELDS[name].default) for name in idle}) if idle else config


def differing(config: RunConfig) -> list[str]:
    """Names of the settings that differ from the recipe and the presets of data set, network and neuron: those that a command must give.

    :func:`resolve` omits settings of the recipe without effect, so the value of the preset need not be given for them.
    """
    start = {name: getattr(config, name) for name in ("dataset", "recipe")}
    network = {name: getattr(config, name) for name in ("arch", "neuron")}  # whose presets apply
    plain = _complete(start).to_dict()
    implied = _complete(start | network).to_dict()
    preset = _complete({**start, **network, "recipe": None}).to_dict()
    implied |= {name: plain[name] for name in network}
    given = {name: value for name, value in config.to_dict().items() if value not in (None, implied[name])}
    return [name for name in given if given[name] != preset[name] or not without_effect({name: None}, [config])]


def sources(
    config: RunConfig, options: Values, file: Path | None = None, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The source of the value of each setting; arguments as for :func:`resolve`, which returned ``config``."""
    given = {
        "option": options,
        "environment": from_environment(environment),
        str(file): _from_file(file)[0],
        f"recipe {config.recipe}": recipes.settings(config.recipe, config.dataset) if config.recipe else {},
        f"preset of {config.neuron}": traits("neuron", config.neuron).preset,
        f"preset of {config.arch}": traits("arch", config.arch).preset,
        f"preset of {config.dataset}": registry.get("dataset", config.dataset).preset,
    }
    found = dict.fromkeys(FIELDS, "default")
    for source, values in reversed(given.items()):
        for name, value in values.items():
            if value is not None and current(FIELDS[name], value) == getattr(config, name):
                found[name] = source
    return found


def _valid(values: Record, source: str = "", problems: Sequence[str] = ()) -> Record:
    """The values, if all are valid and the source has no other problems."""
    if lines := [*problems, *(source + line for line in check(values))]:
        if len(lines) > LINES:
            lines[LINES:] = [f"{source}and {len(lines) - LINES} more problems"]
        hint = "`--help-all` describes each option; a variable LSG_NAME accepts the same values as --name."
        raise ConfigError("\n".join(lines), hint, in_python="`lsg train --help-all` describes each setting.")
    return values


def from_environment(environment: Mapping[str, str], takes: Collection[str] = FIELDS) -> Record:
    """The settings in ``takes`` that ``LSG_*`` variables set.

    Raises:
        ConfigError: an unknown variable or an invalid value.
    """
    settings = {}
    problems = []
    for variable, text in environment.items():
        name = VARIABLES.get(variable, "")
        if not name and variable.startswith("LSG_"):
            problems.append(registry.unknown("environment variable", variable, list(VARIABLES)))
        elif name in settings:
            problems.append(f"{variable}: found another variable for {name}, expected one of them")
        elif name in takes:
            settings[name] = parse(name, text)
    return _valid(settings, "environment: ", problems)


def warn_of_others(environment: Mapping[str, str], takes: Collection[str]) -> None:
    """Warn about ``LSG_*`` variables whose settings are not in ``takes``."""
    others = [variable for variable, name in VARIABLES.items() if variable in environment and name not in takes]
    if others:
        log.warning("%s: found in the environment, without effect on this command", ", ".join(others))


def parse(name: str, text: str) -> Any:
    """The value of a setting that a text stands for, or the text, which :func:`lsgcli.config.run.check` then rejects."""
    kind = base_type(name)
    try:
        return BOOLEANS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        return text


def assignments(
    option: str, texts: Sequence[str], expected: str, refused: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Setting -> text, from texts such as ``T=2,4``, and one line for each problem.

    Args:
        option: the option that they are given with, for messages.
        texts: as given.
        expected: the form of a text, for messages.
        refused: settings that cannot be assigned, and why.
    """
    assigned = dict[str, str]()
    problems = []
    for text in texts:
        name, _, value = text.partition("=")
        name = named(name)
        problem = ""
        if not value:
            problem = f"found {text!r}, expected {expected}"
        elif name not in FIELDS:
            problem = unknown(name[:LONG], FIELDS)
        elif name in refused:
            problem = f"found {name}, {refused[name]}"
        elif name in assigned:
            problem = f"found {name} twice"
        elif name in MAY_CHANGE:
            problem = f"found {name}, which does not affect results"
        if problem:
            problems.append(f"{option}: {problem}")
        else:
            assigned[name] = value
    return assigned, problems


def parse_all(name: str, texts: Iterable[str]) -> tuple[tuple[Any, ...], list[str]]:
    """The values of a setting that ``texts`` contain, and one line for each invalid value."""
    values = tuple(parse(name, text) for text in texts)
    return values, [problem for value in values for problem in check({name: value})]


def ranges(text: str) -> list[range]:
    """The ranges of a text such as ``0-4`` or ``0,1,7``; empty for any other text."""
    parsed = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,19})(?:-([0-9]{1,19}))?", part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            return []
        parsed.append(range(int(match[1]), int(match[2] or match[1]) + 1))
    return parsed


def as_toml(config: RunConfig, origins: Mapping[str, str] | None = None) -> str:
    """The text of a TOML file for ``--config``, with the settings that have an effect.

    Settings that may change on resume are included only if they differ from their defaults.

    Args:
        origins: source of each value, from :func:`sources`, for comments.
    """
    lines = []
    for name, value in config.to_dict().items():
        is_usual = name in MAY_CHANGE and value == FIELDS[name].default
        if value is not None and not is_usual and not without_effect({name: value}, [config]):
            comment = f"  # {origins[name]}" if origins else ""
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}{comment}\n")
    return "".join(lines)


def _from_file(file: Path | None) -> tuple[Record, bool]:
    """The settings in a file, and whether it is the configuration of a run."""
    if file is None:
        return {}, False
    source = file / CONFIG if file.is_dir() else file
    where = f"--config {file}"
    text = schema.text(source, LARGEST, ConfigError)
    content: Record
    if is_json := text.lstrip().startswith("{"):  # invalid in TOML
        settings = schema.decode(text, StoredRun, where, ConfigError)["settings"]
        # A setting unknown to the version that wrote the file had its default, whatever the recipe says now.
        stored = RunConfig().to_dict() | of_this_version(settings)
        content = {name: value for name, value in stored.items() if value is not None and name != "cache_dir"}
    else:
        content = schema.toml(text, where)
    flat = {}
    problems = []
    for key, value in content.items():
        # Tables only group settings: lr = 0.1 in [training] is lr = 0.1.
        for name, item in value.items() if isinstance(value, dict) else [(key, value)]:
            name = named(name)
            if name in flat:
                problems.append(f"{where}: {name} is set twice")
            flat[name] = item
    if len(flat) > len(FIELDS):
        raise ConfigError(f"{where}: found {len(flat):,} settings, expected at most the {len(FIELDS)} that there are")
    return _valid(flat, f"{where}: ", problems), is_json
