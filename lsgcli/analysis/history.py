"""Decay, width and coverage over a training, as its run directory has them."""

from pathlib import Path
from typing import Any

from lsgcli import files
from lsgcli.rundir import GRADIENT_FLOW

KEYS = ("beta", "alpha", "coverage")


def history(checkpoint: Path) -> dict[str, Any] | None:
    """The epochs of the run that a checkpoint lies in; None where there is nothing about them beside it.

    Returns:
        ``{"epochs": [0, 1, ...], "layers": {name: {"beta": [...], "alpha": [...], "coverage": [...]}}}``, up to the epoch in which
        training diverged, if it did.
    """
    try:
        lines = files.read_json_lines(checkpoint.parent / GRADIENT_FLOW)
        epochs = [line for line in lines if line.get("event") != "diverged"]
        if not epochs:
            return None
        by_name = [{layer["name"]: layer for layer in line["layers"]} for line in epochs]
        return {
            "epochs": [line["epoch"] for line in epochs],
            "layers": {
                name: {key: [layers.get(name, {}).get(key) for layers in by_name] for key in KEYS} for name in by_name[0]
            },
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a file of that name that is none of ours
        return None
