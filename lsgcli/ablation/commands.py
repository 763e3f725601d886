"""The cells of an ablation as shell commands, for xargs, GNU parallel or a job array."""

import os
import shlex
from collections.abc import Iterable, Mapping

from lsgcli.ablation.cells import begun
from lsgcli.ablation.plan import Cell
from lsgcli.config import FIELDS, MAY_CHANGE, option_words, without_effect
from lsgcli.resolve import from_environment, resolve


def command(cell: Cell, more: tuple[str, ...] = (), environment: Mapping[str, str] = os.environ) -> list[str]:
    """Arguments of the `lsg train` command that runs this cell, or resumes it if it was stopped.

    Options are included if they differ from the data set's preset, or if an ``LSG_*`` variable would override them. Variables without
    effect in this cell are unset.

    Args:
        more: additional options.
        environment: of the process that runs the command.
    """
    config = cell.config
    defaults = resolve({"dataset": config.dataset}, environment={})
    variables = from_environment(environment)
    idle = [name for name in variables if name not in MAY_CHANGE and without_effect({name: None}, [config])]
    names = [
        name
        for name in FIELDS
        if getattr(config, name) is not None
        and name not in idle
        and (getattr(config, name) != getattr(defaults, name) or name in {"dataset", "method", "seed", *variables})
    ]

    def options(chosen: Iterable[str]) -> list[str]:
        return [word for name in chosen for word in option_words(name, getattr(config, name))]

    if begun(cell):
        return ["lsg", "train", "--resume", str(cell.path), *options(name for name in names if name in MAY_CHANGE), *more]
    unset = ["env", *(word for name in idle for word in ("-u", f"LSG_{name.upper()}"))] if idle else []
    return [*unset, "lsg", "train", *options(names), "--out", str(cell.path), *more]


def is_plain(words: list[str]) -> bool:
    """Whether the command needs no quotes, which xargs would remove."""
    return shlex.join(words) == " ".join(words)
