"""``lsg list``: names that options accept, with a line each; ``lsg recipe``: the settings of a published recipe as a TOML file."""

from typing import Annotated

from typer import Argument, Option

from lsgcli import registry
from lsgcli.cli import common
from lsgcli.cli.options import schema_of_settings
from lsgcli.config import recipes
from lsgcli.config.resolve import as_toml, resolve, sources
from lsgcli.config.run import FIELDS
from lsgcli.errors import ConfigError
from lsgcli.report.output import print_json, print_result

# Name, kind of the registry, description.
TABLE = """
archs         arch         Networks: --arch.
datasets      dataset      Data sets: --dataset.
methods       method       Methods: how decay and surrogate width are determined: --method.
neurons       neuron       Models of the neurons: --neuron.
surrogates    surrogate    Shapes of the surrogate gradient: --surrogate.
norms         norm         Normalisations: --norm.
losses        loss         Loss functions: --loss.
augmentations augmentation Augmentations of training data: --augment.
settings      settings     Settings: keys of files for --config, options of `lsg train` with dashes.
recipes       recipes      Published training recipes: --recipe, and `lsg recipe`.
backends      backend      Implementations of the neuron dynamics: --backend.
formats       format       Formats of `lsg export`: --format.
readers       reader       Formats of recordings.
launchers     launcher     Where `lsg ablate` and `lsg tune` run jobs: --launcher.
rules         rule         Rules of findings: --fail-on and --limit.
loggers       logger       Programs that also record a run: --log.
"""
KINDS = {}
for row in TABLE.strip().splitlines():
    plural, *described = row.split(maxsplit=2)
    KINDS[plural] = described


def names(
    *,
    kind: Annotated[
        str | None,
        Argument(metavar="KIND", help=f"One of: {', '.join(KINDS)}."),
    ] = None,
    json_schema: Annotated[
        bool,
        Option("--json-schema", help="Of settings: print a JSON schema, with which editors complete and check files."),
    ] = False,
    verbosity: common.Verbosity,
) -> None:
    """List the names of a kind, each with a description; without KIND, the kinds.

    Names from installed plug-ins are included. `lsg list settings --json-schema > lsg.schema.json` writes what the first line of
    `lsg train --print-config` refers to.
    """
    common.messages(verbosity)
    if json_schema:
        if kind != "settings":
            raise ConfigError(f"--json-schema: found {kind}, expected settings")
        print_json(schema_of_settings())
        return
    if kind is None:
        lines = {name: text for name, (_, text) in KINDS.items()}
    elif kind == "recipes":
        lines = {name: recipes.load(name)["source"] for name in recipes.names()}
    elif kind == "settings":
        lines = {name: field.metadata["help"] for name, field in FIELDS.items()}
    elif kind in KINDS:
        registered, _ = KINDS[kind]
        lines = {name: registry.summary(registered, name).replace("``", "`") for name in registry.names(registered)}
    else:
        raise ConfigError(registry.unknown("kind", kind, list(KINDS)), "`lsg list` lists the kinds.")
    print_result("\n".join(f"{name}\t{text}" for name, text in lines.items()))


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
    print_result(f"# Source: {published['source']}\n# Differences from the source, and what it does not state:")
    for line in published["assumed"]:
        print_result(f"# - {line}")
    origins = sources(config, {}, environment={})
    if "stated" in published:
        for setting, origin in origins.items():
            origins[setting] = f"{'stated' if setting in published['stated'] else 'assumed'}, {origin}"
    origins |= {"recipe": "this file", "dataset": "chosen"}
    print_result(f"\n{as_toml(config, origins).rstrip()}")
