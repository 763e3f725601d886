"""``lsg recipe``: the settings of a published recipe as a TOML file."""

from typing import Annotated

from typer import Argument, Option

from lsgcli import registry
from lsgcli.cli import common
from lsgcli.config import recipes
from lsgcli.config.resolve import as_toml, resolve, sources
from lsgcli.errors import ConfigError
from lsgcli.report.output import print_result


def recipe(
    *,
    name: Annotated[
        str | None,
        Argument(metavar="NAME", help="Name of a recipe."),
    ] = None,
    dataset: Annotated[
        str | None,
        Option(
            help="Data set that the settings are for. Default: the embedded digits.",
        ),
    ] = None,
    verbosity: common.Verbosity,
) -> None:
    """Print a published recipe as a TOML file for `lsg train --config`, with the source of each value; without NAME, the names.

    The file contains all settings of the run that have an effect: those of the recipe, and presets and defaults for the others.
    """
    common.messages(verbosity)
    if name is None:
        common.require("NAME", {"--dataset": dataset})
        print_result("\n".join(recipes.names()))
        return
    if name not in recipes.names():
        raise ConfigError(registry.unknown("recipe", name, recipes.names()), "`lsg list recipes` describes them.")
    published = recipes.load(name)
    given = {"recipe": name, "dataset": dataset or ("digits-dvs" if "recordings" in published else "digits")}
    config = resolve(given, environment={})
    about = [
        f"Source: {published['source']}",
        "Differences from the source, and what it does not state:",
        *(f"- {line}" for line in published["assumed"]),
    ]
    origins = {**sources(config, {}, environment={}), "recipe": "this file", "dataset": "chosen"}
    print_result("".join(f"# {line}\n" for line in about) + "\n" + as_toml(config, origins).rstrip())
