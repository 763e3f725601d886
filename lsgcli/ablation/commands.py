"""The cells of an ablation as shell commands, for other programs to run: xargs, GNU parallel, a cluster's job array."""

import os
import shlex
from collections.abc import Mapping

from lsgcli.ablation.cells import begun
from lsgcli.ablation.plan import Cell
from lsgcli.config import FIELDS, MAY_CHANGE, RunConfig, base_type, option_name
from lsgcli.resolve import from_environment, resolve


def command(cell: Cell, more: tuple[str, ...] = (), environment: Mapping[str, str] = os.environ) -> list[str]:
    """The words of the `lsg train` that makes this cell, or goes on with it where it was stopped.

    Options say what the data set's preset does not, and what ``LSG_*`` variables would otherwise say.

    Args:
        more: options to add.
        environment: of the process that will run it.
    """
    config = cell.config
    unsaid = resolve({"dataset": config.dataset}, environment={})
    names = [
        name
        for name in FIELDS
        if getattr(config, name) is not None
        and (
            getattr(config, name) != getattr(unsaid, name)
            or name in {"dataset", "method", "seed", *from_environment(environment)}
        )
    ]
    if begun(cell):
        changes = [word for name in names if name in MAY_CHANGE for word in _option(config, name)]
        return ["lsg", "train", "--resume", str(cell.path), *changes, *more]
    return ["lsg", "train", *(word for name in names for word in _option(config, name)), "--out", str(cell.path), *more]


def is_plain(words: list[str]) -> bool:
    """Whether nothing in the line needs quotes, which xargs would take away before a shell sees them."""
    return shlex.join(words) == " ".join(words)


def _option(config: RunConfig, name: str) -> list[str]:
    value, flag = getattr(config, name), option_name(name)
    if base_type(name) is bool:
        return [flag if value else flag.replace("--", "--no-", 1)]
    return [flag, str(value)]
