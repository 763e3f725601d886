"""Decay, width and coverage over training, from the run directory."""

from pathlib import Path
from typing import Any

from lsgcli import files
from lsgcli.rundir import GRADIENT_FLOW

KEYS = ("beta", "alpha", "coverage")


def history(checkpoint: Path) -> dict[str, Any] | None:
    """The history of the run that contains a checkpoint; None if there is no gradient-flow.jsonl in its directory.

    Returns:
        ``{"epochs": [0, 1, ...], "layers": {name: {"beta": [...], "alpha": [...], "coverage": [...]}}}``, up to the epoch in which
        training diverged, if any.
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # not a file of lsg
        return None
