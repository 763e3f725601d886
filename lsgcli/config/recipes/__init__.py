"""Published training recipes: one TOML file each, with the values that differ from data set to data set in tables.

    source = "..."               # publication and code
    assumed = ["...", ...]       # what the source does not state, or lsg does differently
    stated = ["...", ...]        # if most values are assumed: the settings whose values the source states
    [settings]                   # for all data sets
    [images], [recordings]       # for data sets of this kind; a recipe applies to those that it has a table for
    [cifar100]                   # for one data set

A later table overrides an earlier one.
"""

import tomllib
from pathlib import Path

from lsgcli import registry
from lsgcli.errors import ConfigError
from lsgcli.system.schema import Record

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names of all recipes, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def load(name: str) -> Record:
    """The content of a recipe's file."""
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def settings(name: str, dataset: str) -> Record:
    """The settings of a recipe for a data set.

    Raises:
        ConfigError: the recipe is not published for data of this kind.
    """
    recipe = load(name)
    kind, opposite = ("images", "recordings") if registry.get("dataset", dataset).static else ("recordings", "images")
    if kind not in recipe:
        raise ConfigError(
            f"--recipe {name}: found --dataset {dataset}, which contains {kind}, expected {opposite}",
            f"Choose another recipe, or a data set of {opposite}.",
        )
    return {**recipe.get("settings", {}), **recipe[kind], **recipe.get(dataset, {})}
