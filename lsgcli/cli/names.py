"""``lsg list``: names that options accept, with a line each."""

from typing import Annotated

import typer

from lsgcli import registry
from lsgcli.cli import common
from lsgcli.config import recipes, source
from lsgcli.errors import ConfigError
from lsgcli.report.output import print_result

RECIPES = "recipes"
KINDS = {  # name -> kind of the registry, description
    "archs": ("arch", "Networks: --arch."),
    "datasets": ("dataset", "Data sets: --dataset."),
    "methods": ("method", "Methods: how decay and surrogate width are determined: --method."),
    "neurons": ("neuron", "Models of the neurons: --neuron."),
    "surrogates": ("surrogate", "Shapes of the surrogate gradient: --surrogate."),
    "norms": ("norm", "Normalisations: --norm."),
    "losses": ("loss", "Loss functions: --loss."),
    "augmentations": ("augmentation", "Augmentations of training data: --augment."),
    RECIPES: ("", "Published training recipes: --recipe, and `lsg recipe`."),
    "backends": ("backend", "Implementations of the neuron dynamics: --backend."),
    "formats": ("format", "Formats of `lsg export`: --format."),
    "readers": ("reader", "Formats of recordings."),
    "launchers": ("launcher", "Where `lsg ablate` and `lsg tune` run jobs: --launcher."),
    "rules": ("rule", "Rules of findings: --fail-on and --limit."),
    "loggers": ("logger", "Programs that also record a run: --log."),
}


def names(
    *,
    kind: Annotated[
        str | None,
        typer.Argument(metavar="KIND", help=f"One of: {', '.join(KINDS)}.", show_default=False),
    ] = None,
    verbosity: common.Verbosity,
) -> None:
    """List names with a line each, separated by a tab; without KIND, the kinds.

    Names from installed plug-ins are included.
    """
    common.messages(verbosity)
    if kind is None:
        lines = {name: text for name, (_, text) in KINDS.items()}
    elif kind not in KINDS:
        raise ConfigError(registry.unknown("kind", kind, list(KINDS)), hint="`lsg list` lists the kinds.")
    elif kind == RECIPES:
        lines = {name: recipes.load(name)["source"] for name in recipes.names()}
    else:
        of = KINDS[kind][0]
        lines = {name: source.summary(of, name).replace("``", "`") for name in registry.names(of)}
    print_result("\n".join(f"{name}\t{text}" for name, text in lines.items()))
